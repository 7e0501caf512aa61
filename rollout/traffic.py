"""Who splits an endpoint's traffic, told what the route says: the reconciliation between the two, and what comes back.

The route (one row, moved by the verbs of rollouts and decisions) is what is wanted. Our own gateway polls it; any other
backend (``engines.traffic``) is told: the plan is stored before it is applied, its fence is the route's revision. What
another backend served is read from its log into the prediction log, so that looks judge it like our own traffic.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.conf import settings
from django.db import transaction

from audit import clock
from engines.traffic.access_log import Place
from engines.traffic.document import GatewayTraffic, KServeTraffic, NginxTraffic, Traffic, read_document, version_name
from engines.traffic.kserve import KServeBackend
from engines.traffic.nginx import NginxBackend
from engines.traffic.port import (
    Caps,
    Observed,
    OlderFence,
    Plan,
    Read,
    Receipt,
    Refused,
    Split,
    TrafficBackend,
    TrafficError,
    UnknownVersion,
    Unsupported,
    in_words,
)
from registry.models import ModelVersion
from rollout import actions, prediction_log
from rollout.actions.candidates import ROLLOUTS
from rollout.models import ACTIVE, Endpoint, GatewayProcess, Rollout, Route, SpoolSegment, TrafficPlan
from rollout.prediction_log import PREDICTION

log = logging.getLogger(__name__)

ADRIFT_AFTER = timedelta(minutes=3)
"""A backend that does not do so long what the route says is an incident; until then it is only told again."""
SILENT_AFTER = timedelta(seconds=30)
"""A gateway process that has told nothing for so long is not waited for."""
FOLLOWS_WITHIN = 1.0
_MOST_PIECES = 64

_RELATED = (
    "endpoint__registered_model",
    "champion__registered_model",
    "candidate__registered_model",
    "fallback__version__registered_model",
    "rollout",
)

# ---------------------------------------------------------------------- what is wanted, and of whom


def split_of(route: Route) -> Split:
    """What the route says: who answers whom. A shadow is scored from the log, so it is no part of the traffic."""
    endpoint, fallback = route.endpoint, route.fallback
    if not endpoint.enabled:
        if fallback is not None and fallback.version is not None:
            return Split(_named(fallback.version))
        score = fallback.score if fallback is not None else endpoint.fallback
        return Split(_named(route.champion), stopped=True, fallback=score)
    if route.champion is None or route.candidate is None or route.stage != "canary":
        return Split(_named(route.champion))
    return Split(_named(route.champion), _named(route.candidate), route.share, route.salt, route.step)


def _named(version: ModelVersion | None) -> str | None:
    return None if version is None else version_name(version.registered_model.name, version.number)


def route_of(endpoint: Endpoint) -> Route:
    return Route.objects.select_related(*_RELATED).get(endpoint=endpoint)


def traffic_of(endpoint: Endpoint) -> Traffic:
    """The endpoint's document (it was checked when it was written)."""
    return read_document(endpoint.traffic)


def is_elsewhere(endpoint: Endpoint) -> bool:
    """Somebody else than our own gateway splits its traffic."""
    return not isinstance(traffic_of(endpoint), GatewayTraffic)


def backend_of(endpoint: Endpoint) -> TrafficBackend:
    """Who splits the endpoint's traffic. nginx's place on this machine is the operator's: GATEHOUSE_NGINX_…"""
    document = traffic_of(endpoint)
    if isinstance(document, NginxTraffic):
        folder, logs = Path(settings.GATEHOUSE_NGINX_FOLDER), Path(settings.GATEHOUSE_NGINX_LOGS)
        return NginxBackend(document, folder, logs, tuple(shlex.split(settings.GATEHOUSE_NGINX_COMMAND)))
    if isinstance(document, KServeTraffic):
        return KServeBackend(document)
    return GatewayBackend()


# ---------------------------------------------------------------------- our own gateway


@dataclass(frozen=True)
class GatewayBackend:
    """Our own gateway behind the same port: its route row is the truth, so applying means to wait until all follow.

    A change of the split is a verb (``rollout.actions``); an abort without one ends the rollout by its verb. Each
    process follows the row within half a second and says so in its heartbeat; without any process (the gateway is
    used in this one) the row itself is what is routed.
    """

    name: str = "gateway"

    def capabilities(self) -> Caps:
        return Caps(sticky=True, mirror=False, smallest_share=2.0**-53, seconds=FOLLOWS_WITHIN, aborts_alone=False)

    def plan(self, endpoint: str, want: Split, was: Split | None) -> Plan:
        if want.mirror_to is not None:
            raise Unsupported("The gateway mirrors nothing: a shadow is scored from the log.")
        for version in want.versions:
            _known_version(version)
        return Plan(endpoint, self.name, want, in_words(was, want))

    def apply(self, plan: Plan, fence: int) -> Receipt:
        before = _slowest(plan.endpoint)
        route = _route(plan.endpoint)
        if route.revision > fence:
            raise OlderFence(f"The route is at revision {route.revision}; the plan was made for {fence}.")
        if route.revision < fence or split_of(route) != plan.want:
            raise Refused(f"The route of {plan.endpoint} says otherwise (revision {route.revision}): verbs change it.")
        _wait_for_processes(plan.endpoint, fence)
        if (newest := _route(plan.endpoint).revision) > fence:
            raise OlderFence(f"The route moved on to revision {newest} meanwhile.")
        changed = before is not None and before < fence
        return Receipt(fence, plan.want, changed, "Every gateway process has it." if changed else "All do so already.")

    def observed(self, endpoint: str) -> Observed:
        """The route, once every living process has it; before, only how far the slowest is."""
        route, slowest = _route(endpoint), _slowest(endpoint)
        if slowest is None or slowest >= route.revision:
            return Observed(split_of(route), route.revision)
        return Observed(None, slowest)

    def read(self, endpoint: str, since: str) -> Read:
        """The prediction log; the place is the moment up to which it was read."""
        moment = datetime.fromisoformat(since) if since else datetime(2000, 1, 1, tzinfo=UTC)
        until = clock.now() + timedelta(days=1)
        table = prediction_log.read(endpoint, since=moment, until=until, columns=PREDICTION.names).sort_by("at")
        rows = _with_names(table.to_pylist())
        last = rows[-1]["at"] + timedelta(microseconds=1) if rows else moment
        return Read(rows, last.isoformat())

    def abort(self, endpoint: str, fence: int) -> Receipt:
        route = _route(endpoint)
        if route.candidate_id is None:
            return Receipt(fence, split_of(route), False, "The candidate is off already.")
        if route.revision > fence:
            raise OlderFence(f"The route is at revision {route.revision}: an abort of {fence} is too late.")
        rollout = route.rollout
        if rollout is None or rollout.state not in ACTIVE:
            raise Refused(f"The route of {endpoint} names no active rollout.")
        reason = f"The traffic backend of {endpoint} was told to abort."
        actions.abort(rollout, actor=ROLLOUTS, reason=reason, now=clock.now())
        gone = _route(endpoint)
        _wait_for_processes(endpoint, gone.revision)
        return Receipt(fence, split_of(gone), True, "The rollout was aborted.")


def _route(endpoint: str) -> Route:
    return Route.objects.select_related(*_RELATED).get(endpoint__name=endpoint)


def _slowest(endpoint: str) -> int | None:
    """The oldest revision that a living gateway process serves; None without any."""
    living = GatewayProcess.objects.filter(ended_at=None, seen_at__gt=clock.now() - SILENT_AFTER)
    served = [each.routes.get(endpoint) for each in living]
    revisions = [
        each["revision"] for each in served if isinstance(each, Mapping) and isinstance(each.get("revision"), int)
    ]
    return min(revisions, default=None)


def _wait_for_processes(endpoint: str, revision: int) -> None:
    """Until every living process has told that it serves this revision; Refused when one does not in time.

    They follow within half a second, and tell of it with their next heartbeat.
    """
    until = time.monotonic() + SILENT_AFTER.total_seconds()
    while (slowest := _slowest(endpoint)) is not None and slowest < revision:
        if time.monotonic() > until:
            raise Refused(f"A gateway process still serves revision {slowest} of {endpoint}.")
        time.sleep(0.1)


def _known_version(name: str) -> None:
    model, _, number = name.rpartition("-v")
    known = ModelVersion.objects.filter(registered_model__name=model, number=int(number) if number.isdigit() else 0)
    if not known.exists():
        raise UnknownVersion(f"There is no version {name}.")


def _with_names(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the log with the model's name and the version's number, as other backends' rows have them."""
    ids = {row["version_id"] for row in rows} - {None}
    names = {each.pk: each for each in ModelVersion.objects.filter(pk__in=ids).select_related("registered_model")}
    for row in rows:
        version = names.get(row["version_id"])
        row["model"] = version.registered_model.name if version else None
        row["version"] = version.number if version else None
    return rows


# ---------------------------------------------------------------------- reconciliation


def reconcile(endpoint: Endpoint, *, now: datetime) -> TrafficPlan | None:
    """Tell the endpoint's backend what the route says, if it does not do so; the plan in force (None: our own gateway,
    which follows by itself and does).

    A candidate that is to go is taken off first. What the backend refuses stands in the plan, is tried again with the
    next call, and is told to the platform group when it lasts.
    """
    backend, route = backend_of(endpoint), route_of(endpoint)
    want, fence = split_of(route), route.revision
    if isinstance(backend, GatewayBackend):
        return _watch_gateway(backend, endpoint, want, fence, now)
    seen, problem = _observed(backend, endpoint)
    try:
        plan = backend.plan(endpoint.name, want, seen.split)
    except TrafficError as refusal:
        impossible = Plan(endpoint.name, backend.name, want, in_words(seen.split, want))
        return _adrift(_stored(endpoint, impossible, fence, now), str(refusal), now)
    stored = _stored(endpoint, plan, fence, now)
    if isinstance(backend, KServeBackend):
        return stored
    if not problem and (seen.split, seen.fence) == (plan.want, fence):
        return _settled(stored, Receipt(fence, plan.want, False, "It does so already."), now)
    try:
        if _loses_candidate(seen, plan.want):
            backend.abort(endpoint.name, fence)
        return _settled(stored, backend.apply(plan, fence), now)
    except OlderFence:  # somebody told it of a newer route meanwhile, and says how that went
        return stored
    except TrafficError as refusal:
        return _adrift(stored, str(refusal), now)


def _observed(backend: TrafficBackend, endpoint: Endpoint) -> tuple[Observed, str]:
    try:
        return backend.observed(endpoint.name), ""
    except Refused as problem:
        return Observed(None, None), str(problem)


def _loses_candidate(seen: Observed, want: Split) -> bool:
    """The candidate answers, and is to answer nobody any more (one that was promoted answers everybody)."""
    candidate = None if seen.split is None else seen.split.candidate
    return seen.split is not None and candidate in seen.split.weights and candidate not in want.weights


def _watch_gateway(
    backend: GatewayBackend, endpoint: Endpoint, want: Split, fence: int, now: datetime
) -> TrafficPlan | None:
    """Its processes follow by themselves; those that do not are told of, like any other backend's."""
    seen, changed_at = backend.observed(endpoint.name), route_of(endpoint).changed_at
    if seen.split is None and changed_at is not None and now - changed_at < SILENT_AFTER:
        return _last_plan(endpoint, backend.name)  # they are about to tell
    if seen.split is None:
        behind = f"A gateway process still serves revision {seen.fence}."
        plan = Plan(endpoint.name, backend.name, want, in_words(None, want))
        return _adrift(_stored(endpoint, plan, fence, now), behind, now)
    last = _last_plan(endpoint, backend.name)
    if last is None or not last.problem:
        return last
    return _settled(last, Receipt(fence, want, False, "Every gateway process has it."), now)


def _last_plan(endpoint: Endpoint, backend: str) -> TrafficPlan | None:
    return TrafficPlan.objects.filter(endpoint=endpoint, backend=backend).order_by("-fence").first()


def _stored(endpoint: Endpoint, plan: Plan, fence: int, now: datetime) -> TrafficPlan:
    """The plan as a row, before anything is done: new, or as it stands when it says the same."""
    wanted = {"split": plan.want.as_dict(), "warnings": list(plan.warnings), "text": plan.text}
    last = _last_plan(endpoint, plan.backend)
    trouble = last.receipt if last is not None and last.problem else {}
    carried = {name: trouble[name] for name in ("adrift_since", "told") if name in trouble}
    row, created = TrafficPlan.objects.get_or_create(
        endpoint=endpoint,
        backend=plan.backend,
        fence=fence,
        defaults={
            "wanted": wanted,
            "difference": "\n".join(plan.difference),
            "planned_at": now,
            "receipt": carried,
            "problem": last.problem if carried and last is not None else "",
        },
    )
    if not created and row.wanted != wanted:  # the endpoint's document says something else now
        row.wanted, row.difference, row.planned_at = wanted, "\n".join(plan.difference), now
        row.save(update_fields=["wanted", "difference", "planned_at"])
    return row


def _settled(row: TrafficPlan, receipt: Receipt, now: datetime) -> TrafficPlan:
    """It is as wanted; whoever was told that it is not is told so."""
    was_told = row.receipt.get("told", False)
    with transaction.atomic():
        row.applied_at = row.applied_at if row.applied_at and not receipt.changed else now
        row.receipt, row.problem = receipt.as_dict(), ""
        row.save(update_fields=["applied_at", "receipt", "problem"])
        if was_told:
            actions.note_traffic_restored(row, actor=ROLLOUTS)
    return row


def _adrift(row: TrafficPlan, problem: str, now: datetime) -> TrafficPlan:
    """It is not as wanted; when that lasts, somebody is told, once."""
    since = datetime.fromisoformat(row.receipt.get("adrift_since", now.isoformat()))
    told = row.receipt.get("told", False)
    tell = not told and now - since >= ADRIFT_AFTER
    with transaction.atomic():
        row.receipt = {**row.receipt, "adrift_since": since.isoformat(), "told": told or tell}
        row.problem = problem[:2000]
        row.save(update_fields=["receipt", "problem"])
        if tell:
            actions.note_traffic_adrift(row, since=since, actor=ROLLOUTS)
    log.warning("%s: %s", row, problem)
    return row


# ---------------------------------------------------------------------- what was served

_MANIFEST = "access-log:{endpoint}:"


@dataclass(frozen=True)
class TakenIn:
    """What one call read: ``rows`` that are in the log now, ``unreadable`` lines."""

    rows: int = 0
    unreadable: int = 0

    def as_dict(self) -> dict[str, int]:
        return {"rows": self.rows, "unreadable": self.unreadable}


def take_in(endpoint: Endpoint, *, now: datetime) -> TakenIn:
    """Read what the endpoint's backend served since the last time into the prediction log, each request once.

    How far the log is read stands in the manifest (``SpoolSegment``), moved on in the transaction that shows the rows.
    """
    backend = backend_of(endpoint)
    rows = unreadable = 0
    if not isinstance(backend, NginxBackend):
        return TakenIn()
    for _ in range(_MOST_PIECES):
        since = _place(endpoint)
        read = backend.read(endpoint.name, since)
        if read.place == since:
            break
        stored = _take_in_piece(endpoint, read, since, now)
        if stored is None:
            break  # another one is at it
        rows, unreadable = rows + stored, unreadable + read.unreadable + len(read.rows) - stored
    if unreadable:
        log.warning("%s: %s lines of its backend's log are no predictions", endpoint, unreadable)
    return TakenIn(rows, unreadable)


def _take_in_piece(endpoint: Endpoint, read: Read, since: str, now: datetime) -> int | None:
    """The rows of one reading that are in the log now; None when somebody else has read it meanwhile."""
    table = _logged(endpoint, read.rows)
    staged = prediction_log.stage(endpoint.name, table, name=_file_name(table, since)) if len(table) else []
    try:
        with transaction.atomic():
            Endpoint.objects.select_for_update().get(pk=endpoint.pk)
            if _place(endpoint) != since:
                return None
            for file in staged:
                file.publish()
            _go_on(endpoint, read.place, len(table), now)
    finally:
        for file in staged:
            file.discard()
    return len(table)


def _file_name(table: pa.Table, since: str) -> str:
    """The same for the same piece, so that an attempt that was cut short is replaced; old before new."""
    first = table["at"][0].as_py()
    return f"{int(first.timestamp() * 1e9):019d}-access.{since.replace(':', '.') or 'first'}"


def _place(endpoint: Endpoint) -> str:
    """How far the backend's log is in; empty before the first time."""
    begins = _MANIFEST.format(endpoint=endpoint.name)
    row = SpoolSegment.objects.filter(name__startswith=begins, finished_at=None).order_by("-pk").first()
    if row is None:
        return ""
    inode, _, beginning = row.name.removeprefix(begins).partition(":")
    return str(Place(int(inode), row.ingested_bytes, beginning))


def _go_on(endpoint: Endpoint, place: str, rows: int, now: datetime) -> None:
    """Write down how far it is in; a file that was rotated away is finished."""
    reached = Place.parse(place)
    if reached is None:
        return
    begins = _MANIFEST.format(endpoint=endpoint.name)
    name = f"{begins}{reached.inode}:{reached.beginning}"
    mine = SpoolSegment.objects.filter(name__startswith=begins)
    mine.filter(finished_at=None).exclude(name=name).update(finished_at=now)
    born = {"folder": settings.GATEHOUSE_NGINX_LOGS, "first_at": now, "last_at": now}
    row, _ = SpoolSegment.objects.get_or_create(name=name, defaults=born)
    row.ingested_bytes, row.rows, row.last_at, row.finished_at = reached.offset, row.rows + rows, now, None
    row.save()


def _logged(endpoint: Endpoint, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as the log has them; those of versions that Gatehouse does not know are left out."""
    numbers = {(row["model"], row["version"]) for row in rows}
    known = ModelVersion.objects.filter(registered_model__name__in={model for model, _ in numbers if model})
    versions = {(each.registered_model.name, each.number): each.pk for each in known.select_related("registered_model")}
    salts = {row["salt"] for row in rows if row["salt"]}
    candidates = dict(Rollout.objects.filter(endpoint=endpoint, salt__in=salts).values_list("salt", "version_id"))
    found = [
        {
            **{name: row[name] for name in _TAKEN},
            "endpoint": endpoint.name,
            "entity": row["entity"] or row["request_id"],
            "sticky": row["entity"] is not None,
            "bucket": None,
            "version_id": versions.get((row["model"], row["version"])),
            "warm": None,  # who served it knows; latency of it counts
            "shadow": False,
            "candidate_id": candidates.get(row["salt"]),
            "source": prediction_log.INTAKE,
        }
        for row in rows
        if row["arm"] == "fallback" or (row["model"], row["version"]) in versions
    ]
    return pa.Table.from_pylist(found, schema=PREDICTION)


_TAKEN = (
    "request_id", "at", "stage", "step", "share", "salt", "arm", "answered_by", "score", "status", "error",
    "latency_ms",
)  # fmt: skip

# ---------------------------------------------------------------------- what people are shown


@dataclass(frozen=True)
class Standing:
    """Who splits an endpoint's traffic, what that can not tell us, and whether it does what the route says.

    ``follows`` is None where nothing is known (manifests that somebody else applies, nothing planned yet).
    """

    backend: str
    caps: Caps
    want: Split
    fence: int
    plan: TrafficPlan | None
    follows: bool | None

    @property
    def difference(self) -> list[str]:
        return self.plan.difference.splitlines() if self.plan else []

    @property
    def warnings(self) -> list[str]:
        return list(self.plan.wanted.get("warnings", [])) if self.plan else []


def standing(endpoint: Endpoint) -> Standing:
    """From what is stored: no backend is asked."""
    backend, route = backend_of(endpoint), route_of(endpoint)
    plan = _last_plan(endpoint, backend.name)
    follows: bool | None = None
    if isinstance(backend, GatewayBackend):
        follows = plan is None or not plan.problem
    elif plan is not None and not isinstance(backend, KServeBackend):
        follows = plan.fence == route.revision and plan.applied_at is not None and not plan.problem
    return Standing(backend.name, backend.capabilities(), split_of(route), route.revision, plan, follows)


def kserve_manifest(endpoint: Endpoint, document: KServeTraffic) -> str:
    """The endpoint's InferenceService as its route is now. Raises Unsupported, UnknownVersion."""
    return KServeBackend(document).plan(endpoint.name, split_of(route_of(endpoint)), None).text
