"""Read the route table from the database: one cheap question for what changed, the whole line only where something did.

A line that was read needs the database no more: bytes, inputs, names in the log, tokens are all in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q

from audit import clock, scopes
from audit.errors import GatehouseError, Unavailable
from audit.models import ApiToken
from features import online
from registry.conversion import served_form
from registry.models import AUDITORS, ModelVersion
from rollout import routing
from rollout.gateway.table import Column, TableFallback, TableLine, TableVersion
from rollout.models import Endpoint, Route
from rollout.plan import RolloutPlan

_MARKS = (
    "endpoint_id",
    "revision",
    "endpoint__enabled",
    "endpoint__durable",
    "endpoint__entity_column",
    "endpoint__threshold",
    "endpoint__fallback",
    "champion__conversion",
    "candidate__conversion",
)
Mark = tuple[Any, ...]
"""What of a line may change: two equal marks are one line."""


class TableAway(Exception):
    """The database did not answer."""


class LineUnreadable(Exception):
    """One endpoint's route is not what it should be; the others are not to suffer."""


class Lines:
    """The route table in the database. Every method raises TableAway when it does not answer."""

    def marks(self) -> Mapping[str, Mark]:
        """By endpoint: one query, some microseconds per endpoint."""
        with _answering():
            rows = list(Route.objects.values_list("endpoint__name", *_MARKS))
        return {name: mark for name, *mark in rows for mark in [tuple(mark)]}

    def line(self, endpoint: str) -> TableLine:
        """The whole line, without tokens. Raises LineUnreadable."""
        with _answering():
            try:
                return read_line(endpoint)
            except (GatehouseError, ObjectDoesNotExist, ValueError, KeyError) as problem:
                raise LineUnreadable(str(problem)) from problem

    def tokens(self) -> Mapping[str, Mapping[str, float | None]]:
        """By endpoint: digest of each token that may ask there, and when it expires (seconds since 1970)."""
        with _answering():
            return read_tokens(clock.now())


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, InterfaceError) as problem:
        if not connection.in_atomic_block:
            connection.close()  # the next question is asked on a new one
        raise TableAway(str(problem)) from problem


# ---------------------------------------------------------------------- a line


def read_line(endpoint: str) -> TableLine:
    """Raises Route.DoesNotExist when there is no such endpoint."""
    places = ("champion", "candidate", "fallback__version")
    related = [f"{place}__{each}" for place in places for each in ("service", "registered_model", "conversion")]
    routes = Route.objects.select_related("endpoint__registered_model", "rollout", *related)
    route = routes.get(endpoint__name=endpoint)
    decided = route.endpoint
    champion = routing.serving(route.champion) if route.champion else None
    candidate = routing.serving(route.candidate, beside=champion) if route.candidate else None
    return TableLine(
        endpoint=decided.name,
        endpoint_id=decided.pk,
        revision=route.revision,
        enabled=decided.enabled,
        durable=decided.durable,
        entity_column=decided.entity_column,
        threshold=decided.threshold,
        task=decided.registered_model.task,
        fallback=_fallback(route),
        champion=table_version(champion) if champion else None,
        candidate=table_version(candidate) if candidate else None,
        stage=route.stage,
        step=route.step,
        share=route.share,
        salt=route.salt,
        rollout=route.rollout_id,
        timeout_ms=_timeout(route),
    )


def table_version(serving: routing.Serving) -> TableVersion:
    """A version as the table has it, in the form in which it is served."""
    version, service = serving.version, serving.service
    form = served_form(version)
    try:
        path = str(form.path)
    except Unavailable:  # gone or damaged: it is refused when it is loaded
        path = ""
    plan = online.plan_of(service) if service is not None else None
    return TableVersion(
        pk=version.pk,
        number=version.number,
        model=version.registered_model.name,
        load_class=str(form.load_class),
        digest=form.digest,
        path=path,
        inputs=tuple(Column(name, _kinds(version).get(name, "")) for name in serving.inputs),
        logged=dict(serving.logged),
        asked=dict(serving.asked),
        service=service.pk if service is not None else None,
        keys=tuple(dict.fromkeys(name for names in plan.join_keys for name in names)) if plan else (),
        stored=(*plan.columns, *plan.computed) if plan else (),
        tolerance=settings.GATEHOUSE_ONNX_TOLERANCE,
    )


def _kinds(version: ModelVersion) -> Mapping[str, str]:
    """The signature's word for each input; the feature view's for what it does not say."""
    known: dict[str, str] = {}
    if version.service is not None:
        known = {each.column: each.view_version.types.get(each.feature, "") for each in version.service.pinned()}
    said = {each["name"]: str(each.get("type", "")) for each in version.signature.get("inputs", ())}
    return known | {name: kind for name, kind in said.items() if kind}


def _fallback(route: Route) -> TableFallback | None:
    """What was named for the kill switch; beside it, or without one, the endpoint's fixed score."""
    named, fixed = route.fallback, route.endpoint.fallback
    if named is None:
        return None if fixed is None else TableFallback(score=fixed)
    version = table_version(routing.serving(named.version)) if named.version else None
    return TableFallback(score=fixed if named.score is None else named.score, version=version, name=named.name)


def _timeout(route: Route) -> float | None:
    return RolloutPlan.model_validate(route.rollout.plan).canary.timeout_ms if route.rollout else None


# ---------------------------------------------------------------------- who may ask


def read_tokens(now: datetime) -> dict[str, dict[str, float | None]]:
    """The tokens with the scope to serve, of open accounts with a duty for the endpoint's model."""
    alive = Q(expiry=None) | Q(expiry__gt=now)
    rows = ApiToken.objects.filter(alive, user__is_active=True).values_list("digest", "expiry", "scopes", "user_id")
    serving = [(digest, expiry, user) for digest, expiry, allowed, user in rows if scopes.SERVE in allowed]
    users = User.objects.filter(pk__in={user for *_, user in serving}).exclude(groups__name=AUDITORS)
    groups: dict[int, set[int]] = {}
    for user, group in users.values_list("pk", "groups"):
        groups.setdefault(user, set()).add(group)
    found: dict[str, dict[str, float | None]] = {}
    duties = [f"registered_model__{each}" for each in ("data_science", "platform", "product")]
    for endpoint, *owners in Endpoint.objects.values_list("name", *duties):
        found[endpoint] = {
            digest: None if expiry is None else expiry.timestamp()
            for digest, expiry, user in serving
            if groups.get(user, set()) & set(owners)
        }
    return found
