"""Incidents about the prediction log: it promises to lose nothing, so whoever keeps the hosts hears when it does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from audit.trail import Actor
from monitoring import exposure
from monitoring.actions.incidents import raise_incident, resolve_cause
from monitoring.models import Incident, IncidentKind
from monitoring.spools import CROWDED, RECENT, Spools
from registry.models import Duty

LOST = f"{IncidentKind.PREDICTION_LOG}:lost"
TORN = f"{IncidentKind.PREDICTION_LOG}:torn"
FULL = f"{IncidentKind.PREDICTION_LOG}:full"


def report_spools(found: Spools, *, actor: Actor, now: datetime) -> None:
    """Open an incident for what is new, and close what has not come again for a day or, of a full disk, is over."""
    _report_lost(found, actor=actor, now=now)
    _report_torn(found, actor=actor, now=now)
    if found.is_crowded:
        _raise_full(found, actor=actor, now=now)
    elif found.fullest is not None:
        resolve_cause(FULL, actor=actor, reason=f"It is {found.fullest:.0%} full.", now=now)


def _report_lost(found: Spools, *, actor: Actor, now: datetime) -> None:
    rows, damaged = sum(found.dropped.values()), sum(found.damaged.values())
    counts = {**found.dropped, **found.damaged}
    detail = (
        f"{rows} rows were answered but not logged, because the spool took no more; {damaged} bytes of segments can "
        "not be read. Looks, monitors and audits do not see those rows. Make room on the disk, or raise "
        "GATEHOUSE_SPOOL_BYTES; see that the worker runs (job rollout.ingest). Damaged segments stay in the spool as "
        ".damaged."
    )
    title = "The prediction log lost rows"
    _report_counts(LOST, counts, title=title, detail=detail, severity="high", actor=actor, now=now)


def _report_torn(found: Spools, *, actor: Actor, now: datetime) -> None:
    detail = (
        f"{len(found.torn)} gateway processes died while they wrote a record ({sum(found.torn.values())} bytes). "
        "Nobody had an answer for it yet, so nothing that was acknowledged is lost. Look why they were killed."
    )
    title = "Gateway processes were killed"
    _report_counts(TORN, found.torn, title=title, detail=detail, severity="low", actor=actor, now=now)


def _report_counts(
    cause: str, counts: Mapping[str, int], *, title: str, detail: str, severity: str, actor: Actor, now: datetime
) -> None:
    """Counts only grow, and are told for as long as their process lives: what an incident has said is not news."""
    last = Incident.objects.filter(cause_key=cause).order_by("-id").first()
    said: Mapping[str, int] = last.evidence["counts"] if last is not None else {}
    said_at = datetime.fromisoformat(last.evidence["at"]) if last is not None else now
    if any(count > said.get(name, 0) for name, count in counts.items()):
        evidence = {"counts": dict(counts), "at": now.isoformat()}
        _raise(cause, title=title, detail=detail, evidence=evidence, severity=severity, actor=actor, now=now)
    elif now - said_at >= RECENT:
        resolve_cause(cause, actor=actor, reason="It did not happen again for a day.", now=now)


def _raise_full(found: Spools, *, actor: Actor, now: datetime) -> None:
    detail = (
        f"A spool is {found.fullest:.0%} full. From {CROWDED:.0%} on canaries get no traffic, and when it is full, "
        "rows are answered without being logged. See that the worker runs (job rollout.ingest) and the disk has room."
    )
    evidence = {"used": found.fullest}
    title = "The prediction log's disk is filling up"
    _raise(FULL, title=title, detail=detail, evidence=evidence, severity="high", actor=actor, now=now)


def _raise(
    cause: str, *, title: str, detail: str, evidence: Mapping[str, object], severity: str, actor: Actor, now: datetime
) -> None:
    raise_incident(
        kind=IncidentKind.PREDICTION_LOG,
        duty=Duty.PLATFORM,
        registered_model=None,
        version=None,
        cause_key=cause,
        title=title,
        detail=detail,
        evidence=evidence,
        severity=severity,
        actor=actor,
        now=now,
        owner=exposure.platform_group(),
    )
