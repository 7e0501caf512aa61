"""Give feature views their meaning, version by version, and move a version through its life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import models, transaction

from audit.errors import Conflict, InvalidInput, TransitionError
from audit.trail import Actor, record
from engines.expressions import ExpressionError, check_expression
from engines.offline import Aggregation, OfflineError, SourceError, ViewSpec
from features import meaning, offline
from features.actions.rules import refuse, require_member, validate
from features.description import aggregation_errors, described_features, description_errors
from features.models import DataSource, Entity, FeatureService, FeatureView, FeatureViewVersion, Language, ViewState

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Prepared:
    """A meaning that a view may have: it has been checked and computed over no rows, and is not stored."""

    entity: Entity
    sources: tuple[DataSource, ...]
    spec: ViewSpec
    language: str
    features: tuple[Mapping[str, str], ...]
    content_hash: str

    @property
    def types(self) -> dict[str, str]:
        """Each feature's type name, in order."""
        return {each["name"]: each["dtype"] for each in self.features}


def apply_view(
    *,
    name: str,
    entity: Entity,
    expression: str,
    sources: Sequence[DataSource],
    features: Sequence[str | Mapping[str, str]] = (),
    aggregations: Sequence[Aggregation] = (),
    language: str = Language.SQL,
    event_timestamp: str = "event_timestamp",
    known_at: str = "known_at",
    ttl: timedelta | None = None,
    cadence: timedelta | None = None,
    lookback: timedelta | None = None,
    freshness: timedelta | None = None,
    consistency_limit: float | None = None,
    owner: Group,
    description: str = "",
    review: Mapping[str, Any] | None = None,
    actor: Actor,
    now: datetime,
) -> FeatureViewVersion:
    """The view's version with this meaning: the one that exists, else a new draft.

    ``features`` are names or mappings with ``name`` and optionally ``description`` and ``dtype``; of a view with
    ``aggregations`` they are the names of those, and may be left out. The expression is computed once over no rows, so
    a definition that can not be computed is refused here, by the field at fault. What is not given of the view's words
    and promises (description, freshness, consistency limit) stays as it is. ``review`` is what a plan found.
    """
    require_member(actor, owner)
    prepared = prepare_view(
        name=name,
        entity=entity,
        expression=expression,
        sources=sources,
        features=features,
        aggregations=aggregations,
        language=language,
        event_timestamp=event_timestamp,
        known_at=known_at,
        ttl=ttl,
        cadence=cadence,
        lookback=lookback,
        freshness=freshness,
        consistency_limit=consistency_limit,
        owner=owner,
    )
    words = {
        "owner": owner,
        "description": description or None,
        "freshness": freshness,
        "consistency_limit": consistency_limit,
    }
    with transaction.atomic():
        view = _view_for(name, entity=entity, words=words, actor=actor)
        return _version_for(view, prepared, review=review, actor=actor, now=now)


def prepare_view(
    *,
    name: str,
    entity: Entity,
    expression: str,
    sources: Sequence[DataSource],
    features: Sequence[str | Mapping[str, str]] = (),
    aggregations: Sequence[Aggregation] = (),
    language: str = Language.SQL,
    event_timestamp: str = "event_timestamp",
    known_at: str = "known_at",
    ttl: timedelta | None = None,
    cadence: timedelta | None = None,
    lookback: timedelta | None = None,
    freshness: timedelta | None = None,
    consistency_limit: float | None = None,
    owner: Group,
) -> Prepared:
    """Check a view's definition without storing anything; entity and sources need not be stored either.

    Raises InvalidInput by field.
    """
    described = described_features(features or [each.name for each in aggregations])
    names = tuple(each["name"] for each in described)
    refuse(aggregation_errors(aggregations, features=names, ttl=ttl, cadence=cadence))
    spec = ViewSpec(
        name=name,
        version=0,
        join_keys=tuple(entity.join_keys),
        features=names,
        expression=expression,
        event_timestamp=event_timestamp,
        known_at=known_at,
        ttl=ttl,
        cadence=cadence,
        sources=tuple(offline.source_table(source) for source in sources),
        lookback=lookback,
        aggregations=tuple(aggregations),
    )
    wanted = FeatureView(
        name=name, entity=entity, owner=owner, freshness=freshness, consistency_limit=consistency_limit or 0.0
    )
    validate(wanted, also={**description_errors(spec), **_promise_errors(freshness, consistency_limit)})
    if language not in Language.values:
        raise InvalidInput({"language": f"It is one of {', '.join(Language.values)}."})
    types = _types_of(spec)
    _refuse_other_types(described, types)
    content_hash = meaning.view_hash(spec, types, {source.name: source.uri for source in sources})
    typed = tuple({**each, "dtype": dtype} for each, dtype in zip(described, types, strict=True))
    return Prepared(entity, tuple(sources), spec, language, typed, content_hash)


def _version_for(
    view: FeatureView, prepared: Prepared, *, review: Mapping[str, Any] | None, actor: Actor, now: datetime
) -> FeatureViewVersion:
    """The version of a locked view with this meaning, made if need be."""
    existing = view.versions.filter(content_hash=prepared.content_hash).first()
    if existing is not None:
        return existing
    newest = view.versions.aggregate(newest=models.Max("number"))["newest"] or 0
    spec = prepared.spec
    version = FeatureViewVersion.objects.create(
        view=view,
        number=newest + 1,
        expression=spec.expression,
        language=prepared.language,
        aggregations=[
            {"name": each.name, "function": each.function, "column": each.column, "over": _seconds(each.over)}
            for each in spec.aggregations
        ],
        features=list(prepared.features),
        event_timestamp=spec.event_timestamp,
        known_at=spec.known_at,
        ttl=spec.ttl,
        cadence=spec.cadence,
        lookback=spec.lookback,
        content_hash=prepared.content_hash,
        review=dict(review or {}),
        created_at=now,
        state=ViewState.DRAFT,
        state_since=now,
    )
    version.sources.set(prepared.sources)
    record("feature_view_version.drafted", version, actor=actor, data={"content_hash": prepared.content_hash})
    return version


def publish(version: FeatureViewVersion, *, actor: Actor, reason: str, now: datetime) -> FeatureViewVersion:
    """Let services pin this version and the online store hold it. Versions published before stay so."""
    return _moved(version, ViewState.PUBLISHED, actor=actor, reason=reason)


def deprecate(
    version: FeatureViewVersion,
    *,
    replaced_by: FeatureViewVersion | None = None,
    actor: Actor,
    reason: str,
    now: datetime,
) -> FeatureViewVersion:
    """No new service pins this version any more; those that do are served as before.

    ``replaced_by`` is what they should move to: a published version of a view of the same entity.
    """
    if replaced_by is None:
        return _moved(version, ViewState.DEPRECATED, actor=actor, reason=reason)
    if replaced_by.pk == version.pk or replaced_by.state != ViewState.PUBLISHED:
        raise InvalidInput({"replaced_by": "Name another version that is published."})
    if replaced_by.view.entity_id != version.view.entity_id:
        raise InvalidInput({"replaced_by": f"{replaced_by} describes {replaced_by.view.entity}."})
    data = {"replaced_by": str(replaced_by)}
    return _moved(version, ViewState.DEPRECATED, actor=actor, reason=reason, data=data, replaced_by=replaced_by)


def retire(version: FeatureViewVersion, *, actor: Actor, reason: str, now: datetime) -> FeatureViewVersion:
    """End a version that no service pins, but those that are retired."""
    require_member(actor, version.view.owner)
    with transaction.atomic():
        FeatureViewVersion.objects.select_for_update().get(pk=version.pk)
        pinning = FeatureService.objects.filter(features__view_version=version, retired_at=None).distinct()[:5]
        if pinning:
            raise TransitionError(f"{version} is pinned by {', '.join(map(str, pinning))} and can not be retired.")
        return _moved(version, ViewState.RETIRED, actor=actor, reason=reason)


def _types_of(spec: ViewSpec) -> list[str]:
    """The type names of the view's features, found by computing it over no rows."""
    try:
        columns = check_expression(spec.expression, [source.name for source in spec.sources])
    except ExpressionError as error:
        raise InvalidInput({"expression": str(error)}) from error
    yields = f"The expression yields {', '.join(columns)}."
    computed = "aggregations" if spec.aggregations else "features"
    lacking = {
        computed: [name for name in spec.columns if name not in columns],
        "event_timestamp": [name for name in (spec.event_timestamp,) if name not in columns],
        "known_at": [name for name in (spec.known_at,) if name not in columns],
        "expression": [name for name in spec.join_keys if name not in columns],
    }
    refuse({field: f"No output column {', '.join(names)}. {yields}" for field, names in lacking.items() if names})
    try:
        empty = offline.engine().values(spec, as_of=_LONG_AGO)
    except SourceError as error:
        raise InvalidInput({"sources": str(error)}) from error
    except OfflineError as error:
        raise InvalidInput({_field_at_fault(spec, error): str(error)}) from error
    return [meaning.type_name(empty.schema.field(name).type) for name in spec.features]


def _refuse_other_types(described: Iterable[Mapping[str, str]], types: Sequence[str]) -> None:
    wrong = [
        f"{each['name']} is {dtype}, not {each['dtype']}."
        for each, dtype in zip(described, types, strict=True)
        if each.get("dtype") not in (None, dtype)
    ]
    if wrong:
        raise InvalidInput({"features": wrong})


def _field_at_fault(spec: ViewSpec, error: OfflineError) -> str:
    """The expression, unless it can be computed by itself and only its windows can not."""
    if not spec.aggregations:
        return "expression"
    try:
        offline.engine().values(replace(spec, features=spec.columns, aggregations=()), as_of=_LONG_AGO)
    except OfflineError:
        return "expression"
    return "aggregations"


def _promise_errors(freshness: timedelta | None, consistency_limit: float | None) -> dict[str, str]:
    return {
        "freshness": "" if freshness is None or freshness > timedelta(0) else "A promise is longer than zero.",
        "consistency_limit": "" if 0 <= (consistency_limit or 0.0) < 1 else "A share from 0 to below 1.",
    }


def _seconds(span: timedelta) -> int | float:
    seconds = span.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _view_for(name: str, *, entity: Entity, words: Mapping[str, Any], actor: Actor) -> FeatureView:
    """The view, made if need be, locked so that its versions get their numbers one at a time.

    ``words`` are owner, description and promises; None: it stays as it is.
    """
    given = {field: value for field, value in words.items() if value is not None}
    FeatureView.objects.get_or_create(name=name, defaults={"entity": entity, **given})
    view = FeatureView.objects.select_for_update().get(name=name)
    require_member(actor, view.owner)
    if view.entity_id != entity.pk:
        raise Conflict(f"Feature view {name} describes {view.entity}, not {entity}; choose another name.")
    changed = changed_words(view, words)
    if changed:
        for field in changed:
            setattr(view, field, given[field])
        view.save(update_fields=changed)
        record("feature_view.changed", view, actor=actor, data={"changed": changed})
    return view


def changed_words(view: FeatureView, words: Mapping[str, Any]) -> list[str]:
    """Which of these words and promises are given and not what the view has."""
    return [field for field, value in words.items() if value is not None and getattr(view, field) != value]


def _moved(
    version: FeatureViewVersion,
    to: str,
    *,
    actor: Actor,
    reason: str,
    data: Mapping[str, Any] | None = None,
    **fields: Any,
) -> FeatureViewVersion:
    require_member(actor, version.view.owner)
    if not reason.strip():
        raise InvalidInput({"reason": "Say why; whoever uses the view will read it."})
    version.move(to, actor=actor, reason=reason, data=data, **fields)
    return version
