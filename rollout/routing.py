"""Who serves an endpoint right now, as the gateway sees it: one row of the database, kept for half a second.

A roll-back is one row update, so every process follows within ``KEEP`` seconds. When the database does not answer, the
last table that was read goes on serving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import InterfaceError, OperationalError

from audit.errors import NotFound
from features.models import FeatureService
from registry.models import ModelVersion
from rollout.models import Route
from rollout.plan import RolloutPlan
from rollout.prediction_log import PREDICTION

log = logging.getLogger(__name__)

KEEP = 0.5
"""Seconds of wall clock that a process may go on with what it read."""


@dataclass(frozen=True)
class Serving:
    """A version on a route: what it takes, and under which name each input is logged.

    ``logged`` maps input columns to columns of the log. They are the same, unless the champion logs something else
    under that name (another version of the feature view), or the log itself does. ``asked`` maps what the feature
    service takes from the request (join keys, request features) to columns of the log: the consistency audit recomputes
    from them.
    """

    version: ModelVersion
    service: FeatureService | None
    inputs: tuple[str, ...]
    logged: Mapping[str, str]
    asked: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return self.inputs


@dataclass(frozen=True)
class Line:
    """A route as the gateway needs it. ``candidate`` is None unless a rollout is in shadow or canary.

    ``fallback`` is the fixed score for when nobody can answer, ``fallback_version`` the earlier champion that answers
    then instead, where the kill switch named one.
    """

    endpoint: str
    revision: int
    enabled: bool
    entity_column: str
    threshold: float
    fallback: float | None
    champion: Serving | None
    candidate: Serving | None
    stage: str
    step: int
    share: float
    salt: str
    timed_rows: int
    fallback_version: Serving | None = None

    @property
    def champion_id(self) -> int | None:
        return self.champion.version.pk if self.champion else None

    @property
    def candidate_id(self) -> int | None:
        return self.candidate.version.pk if self.candidate else None


@dataclass
class _Kept:
    line: Line
    read_at: float = field(default_factory=time.monotonic)


_kept: dict[str, _Kept] = {}


def line(endpoint: str, *, refresh: bool = False) -> Line:
    """The endpoint's route; read from the database when ``refresh``, or when the copy is older than ``KEEP``.

    Raises NotFound when there is no such endpoint.
    """
    kept = _kept.get(endpoint)
    if kept is not None and not refresh and time.monotonic() - kept.read_at < KEEP:
        return kept.line
    try:
        known = kept.line if kept is not None else None
        _kept[endpoint] = _Kept(_read(endpoint, known))
    except (OperationalError, InterfaceError):
        if kept is None:
            raise
        log.exception("The route of %s can not be read; revision %s goes on serving", endpoint, kept.line.revision)
        return kept.line
    return _kept[endpoint].line


def forget(endpoint: str | None = None) -> None:
    """Drop this process's copy (of all endpoints: None)."""
    if endpoint is None:
        _kept.clear()
    else:
        _kept.pop(endpoint, None)


def _read(endpoint: str, known: Line | None) -> Line:
    """The route from the database; only what may change without a new revision, where ``known`` has the newest."""
    editable = ("enabled", "entity_column", "threshold", "fallback")
    newest = Route.objects.filter(endpoint__name=endpoint)
    row = newest.values_list("revision", "fallback__score", *(f"endpoint__{name}" for name in editable)).first()
    if row is None:
        raise NotFound(f"There is no endpoint {endpoint!r}.")
    settings = dict(zip(editable, row[2:], strict=True))
    if row[1] is not None:
        settings["fallback"] = row[1]
    if known is not None and known.revision == row[0]:
        return replace(known, **settings)
    places = ("champion", "candidate", "fallback__version")
    versions = [f"{place}__{each}" for place in places for each in ("service", "registered_model", "conversion")]
    route = newest.select_related("rollout", *versions).get()
    stopped = route.fallback.version if route.fallback else None
    champion = serving(route.champion) if route.champion else None
    return Line(
        endpoint=endpoint,
        revision=route.revision,
        champion=champion,
        candidate=serving(route.candidate, beside=champion) if route.candidate else None,
        stage=route.stage,
        step=route.step,
        share=route.share,
        salt=route.salt,
        timed_rows=(RolloutPlan.model_validate(route.rollout.plan) if route.rollout else RolloutPlan()).timed_rows,
        fallback_version=serving(stopped) if stopped else None,
        **settings,
    )


def serving(version: ModelVersion, *, beside: Serving | None = None) -> Serving:
    """What a version takes; as a candidate ``beside`` a champion its inputs get names of their own where needed."""
    inputs = input_columns(version)
    meanings = _meanings(version.service, inputs)
    taken = _meanings(beside.service, beside.inputs) if beside else {}
    logged = {name: _log_name(name, meanings, taken) for name in inputs}
    asked = {name: logged.get(name, f"request:{name}") for name in _asked(version.service)}
    return Serving(version, version.service, inputs, logged, asked)


def input_columns(version: ModelVersion) -> tuple[str, ...]:
    """The model's inputs in order: its signature says, else its feature service."""
    stated: Sequence[Mapping[str, Any]] = version.signature.get("inputs", ())
    if stated:
        return tuple(each["name"] for each in stated)
    return version.service.vector if version.service else ()


def _asked(service: FeatureService | None) -> list[str]:
    """The join keys and request features of a service."""
    if service is None:
        return []
    keys = (key for each in service.pinned() for key in each.view_version.view.entity.join_keys)
    return list(dict.fromkeys([*keys, *service.request_features]))


_Meaning = tuple[str, int, str] | None
"""A pinned feature of a view version, a column of an on-demand transform, or (None) what comes with the request."""


def _meanings(service: FeatureService | None, inputs: Sequence[str]) -> dict[str, _Meaning]:
    """What each input column means."""
    known: dict[str, _Meaning] = {}
    if service is not None:
        known = {name: ("transform", each.pk, name) for each in service.pinned_transforms() for name in each.columns}
        known |= {each.column: ("view", each.view_version_id, each.feature) for each in service.pinned()}
    return {name: known.get(name) for name in inputs}


def _log_name(name: str, meanings: Mapping[str, _Meaning], taken: Mapping[str, _Meaning]) -> str:
    if name in taken and taken[name] != meanings[name]:
        return f"candidate:{name}"
    return f"feature:{name}" if name in PREDICTION.names else name
