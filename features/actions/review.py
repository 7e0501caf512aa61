"""What a plan measures for the review of a new meaning: changed values, look-alikes, engines compared.

The answer is JSON, kept with the version for ever (``FeatureViewVersion.review``)::

    {"at": …, "before": "weather@1" or null, "changed": ["ttl"], "diff": "…", "pinned_by": ["delay@1"],
     "values": {"rows", "keys", "instants", "cells", "differing", "share", "added", "removed",
                "features": {name: {"cells", "differing", "share", "examples": [{keys, "at", "before", "after"}]}}}
               or {"error": "…"} or null where there is nothing to compare with,
     "look_alikes": [{"feature", "view", "other", "owner", "why", "share", "cells"}],
     "conformance": null with one engine or without rows, else
                    {"engines", "verdict", "summary", "cells", "differing", "examples"}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from engines.expressions import ExpressionError
from engines.offline import OfflineEngine, OfflineError, ViewSpec
from features import cells, look_alikes, offline, value_diff
from features.actions.plan import CREATE, NEW_VERSION, Plan, ViewStep
from features.actions.rules import refuse
from features.engine_agreement import compare_engines
from features.look_alikes import LookAlike
from features.models import FeatureViewVersion, ViewState
from features.value_diff import Sample

MOST_CANDIDATES = 30
"""Views of the entity whose values are compared; expressions are compared with all."""


@dataclass(frozen=True)
class _Candidate:
    """Another view of the entity, by its newest version in use."""

    label: str
    owner: str
    spec: ViewSpec
    types: Mapping[str, str]
    places: Mapping[str, str]


def review(plan: Plan, *, now: datetime, engines: Sequence[OfflineEngine] | None = None) -> Plan:
    """The plan with the review of every new meaning. Raises InvalidInput where two engines disagree about one.

    ``engines`` are those that must agree; without them, all that are configured.
    """
    reviewer = _Reviewer(plan, now=now, engines=offline.engines() if engines is None else engines)
    reviews = {step.definition.name: reviewer.review(step) for step in reviewer.steps}
    refuse(
        {
            f"views.{name}.expression": found["conformance"]["summary"]
            for name, found in reviews.items()
            if found["conformance"] is not None and found["conformance"]["verdict"] == "failed"
        }
    )
    return plan.reviewed(reviews)


class _Reviewer:
    """Measures the new meanings of one plan. What is computed of a view for one of them is kept for the next."""

    def __init__(self, plan: Plan, *, now: datetime, engines: Sequence[OfflineEngine]) -> None:
        self.steps = [step for step in plan.views if step.change.action in (CREATE, NEW_VERSION)]
        self._now, self._engines = now, engines
        self._samples = {step.definition.name: _sample(step.prepared.spec, now) for step in self.steps}
        self._shared: dict[str, Sample | None] = {}
        self._bare: dict[tuple[str, ViewSpec], pa.Table | None] = {}

    def review(self, step: ViewStep) -> dict[str, Any]:
        """As ``FeatureViewVersion.review`` keeps it."""
        change, sample = step.change, self._samples[step.definition.name]
        return {
            "at": self._now.isoformat(),
            "before": str(step.before) if step.before is not None else None,
            "changed": [each.field for each in change.fields],
            "diff": change.diff,
            "pinned_by": [str(service) for service in change.pinned_by],
            "values": _values(step, sample),
            "look_alikes": [asdict(each) for each in self._look_alikes(step)],
            "conformance": _conformance(step, sample, self._engines),
        }

    # ------------------------------------------------------------------ look-alikes

    def _look_alikes(self, step: ViewStep) -> list[LookAlike]:
        """Features of other views of the entity that are like the new or changed ones of this view.

        Values are compared of those that no expression is the same as.
        """
        ours = _Candidate("", "", step.prepared.spec, step.prepared.types, _places(step))
        features = _new_features(step, ours)
        candidates = [*_stored_candidates(step), *self._planned_candidates(step)]
        found = [
            LookAlike(feature, candidate.label, other, candidate.owner, look_alikes.SAME_EXPRESSION)
            for feature in features
            for candidate in candidates
            for other in candidate.types
            if (form := _form(candidate, other)) is not None and form == _form(ours, feature)
        ]
        known = {each.feature for each in found}
        rest = [feature for feature in features if feature not in known]
        return [*found, *self._same_values(step.definition.entity, ours, rest, candidates[:MOST_CANDIDATES])]

    def _planned_candidates(self, step: ViewStep) -> Iterator[_Candidate]:
        """Views that are new in the same apply, of those that come before this one."""
        for other in self.steps:
            if other is step:
                return
            if other.change.action == CREATE and other.definition.entity == step.definition.entity:
                spec, types = other.prepared.spec, other.prepared.types
                yield _Candidate(other.change.label, other.definition.owner, spec, types, _places(other))

    def _same_values(
        self, entity: str, ours: _Candidate, features: Sequence[str], candidates: Sequence[_Candidate]
    ) -> Iterator[LookAlike]:
        mine = self._bare_values(entity, ours) if features and candidates else None
        if mine is None:
            return
        for candidate in candidates:
            theirs = self._bare_values(entity, candidate)
            if theirs is None:  # its source is gone: nothing can be said about it
                continue
            for feature in features:
                for other in candidate.types:
                    agreed = look_alikes.agreement(mine.column(feature), theirs.column(other))
                    if agreed is not None and agreed[0] >= look_alikes.AGREEING:
                        why = look_alikes.SAME_VALUES
                        yield LookAlike(feature, candidate.label, other, candidate.owner, why, *agreed)

    def _bare_values(self, entity: str, candidate: _Candidate) -> pa.Table | None:
        """The candidate's features at the entity's sample, by what they compute, however long that is served.

        None where it can not be computed.
        """
        spec = candidate.spec if candidate.spec.aggregations else replace(candidate.spec, ttl=None, cadence=None)
        if (entity, spec) not in self._bare:
            self._bare[entity, spec] = _computed(spec, candidate.types, self._entity_sample(entity))
        return self._bare[entity, spec]

    def _entity_sample(self, entity: str) -> Sample | None:
        """One sample for all new views of an entity, so that each view is computed once."""
        if entity not in self._shared:
            drawn = [self._samples[step.definition.name] for step in self.steps if step.definition.entity == entity]
            samples = [each for each in drawn if not isinstance(each, str) and each.keys]
            self._shared[entity] = value_diff.merged(samples) if samples else None
        return self._shared[entity]


def _computed(spec: ViewSpec, types: Mapping[str, str], sample: Sample | None) -> pa.Table | None:
    if sample is None:
        return None
    try:
        (values,) = value_diff.values_at(offline.engine(), [spec], sample)
        return pa.table({name: cells.conform(values.column(name), dtype) for name, dtype in types.items()})
    except (OfflineError, ExpressionError, pa.ArrowInvalid):
        return None


def _sample(spec: ViewSpec, now: datetime) -> Sample | str:
    """Questions about the view, or why there are none."""
    try:
        return value_diff.sample_of(offline.engine(), spec, as_of=now)
    except OfflineError as error:
        return str(error)


def _values(step: ViewStep, sample: Sample | str) -> dict[str, Any] | None:
    if step.before is None:
        return None
    if isinstance(sample, str):
        return {"error": sample}
    before, after = offline.view_spec(step.before), step.prepared.spec
    try:
        old, new = value_diff.values_at(offline.engine(), [before, after], sample)
        types = (step.before.types, step.prepared.types)
        return value_diff.difference(old, new, sample, types=types).as_dict()
    except (OfflineError, ExpressionError, pa.ArrowInvalid) as error:
        return {"error": str(error)}


# ---------------------------------------------------------------------- candidates


def _new_features(step: ViewStep, ours: _Candidate) -> list[str]:
    """Features that the version in force does not have, or computes in another way."""
    if step.before is None:
        return list(ours.types)
    old = _candidate(step.before)
    return [name for name in ours.types if name not in old.types or _form(old, name) != _form(ours, name)]


def _stored_candidates(step: ViewStep) -> list[_Candidate]:
    versions = FeatureViewVersion.objects.filter(
        view__entity__name=step.definition.entity, state__in=(ViewState.PUBLISHED, ViewState.DRAFT)
    ).exclude(view__name=step.definition.name)
    related = versions.select_related("view__entity", "view__owner").prefetch_related("sources")
    newest: dict[str, FeatureViewVersion] = {}
    for version in related.order_by("view__name", "number"):
        held = newest.get(version.view.name)
        # a published one before any draft
        if held is None or version.state == ViewState.PUBLISHED or held.state == ViewState.DRAFT:
            newest[version.view.name] = version
    return [_candidate(version) for version in newest.values()]


def _candidate(version: FeatureViewVersion) -> _Candidate:
    places = {source.name: source.uri for source in version.sources.all()}
    return _Candidate(str(version), version.view.owner.name, offline.view_spec(version), version.types, places)


def _places(step: ViewStep) -> dict[str, str]:
    return {source.name: source.uri for source in step.prepared.sources}


def _form(candidate: _Candidate, feature: str) -> str | None:
    """None: an old version that would not be accepted today is like nothing."""
    try:
        return look_alikes.form(candidate.spec, feature, candidate.places)
    except ExpressionError:
        return None


# ---------------------------------------------------------------------- engines


def _conformance(step: ViewStep, sample: Sample | str, engines: Sequence[OfflineEngine]) -> dict[str, Any] | None:
    """Nothing to compare on is no refusal: the first rows may be yet to come."""
    if isinstance(sample, str) or not sample.instants:
        return None
    return compare_engines(engines, step.prepared.spec, newest=sample.instants[0])
