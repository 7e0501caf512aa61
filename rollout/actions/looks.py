"""Write a look down and do what it concludes, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from audit.trail import Actor
from rollout.actions import candidates
from rollout.actions.routes import lock_endpoint
from rollout.judge import FAILED, Conclusion, Kind, Look
from rollout.models import AnalysisRun, Measurement, Rollout
from rollout.standstill import waits_for


def record_look(rollout: Rollout, look: Look, *, actor: Actor, now: datetime) -> AnalysisRun:
    """The look as an analysis run with its measurements, and its consequence: a step, promotion, roll-back or hold.

    A step or a promotion that has to wait (a freeze) is told once, and looking goes on. Raises TransitionError when the
    rollout has moved since ``rollout`` was read, or somebody else looked meanwhile: then this look describes what is no
    longer there, and nothing is written.
    """
    with transaction.atomic():
        what = _waits_for(rollout, look, now)
        if what:
            look = _waiting(look, what)
        candidates.lock(rollout)
        if rollout.analyses.count() + 1 != look.number:
            raise candidates.overtaken(rollout)
        analysis = AnalysisRun.objects.create(
            rollout=rollout,
            number=look.number,
            stage=look.stage,
            step=look.step,
            at=now,
            conclusion=look.conclusion.kind,
            summary=look.conclusion.summary,
            candidate_rows=look.candidate_rows,
            incumbent_rows=look.incumbent_rows,
            detail=dict(look.detail),
        )
        Measurement.objects.bulk_create([Measurement(analysis=analysis, **asdict(each)) for each in look.measured])
        _carry_out(rollout, look, actor, now)
        if what:
            candidates.wait_for(rollout, what, actor=actor, reason=look.conclusion.summary)
    return analysis


def _waits_for(rollout: Rollout, look: Look, now: datetime) -> str:
    """What the step that the look has earned must wait for. The endpoint is locked, before the rollout."""
    if look.conclusion.kind not in (Kind.ADVANCE, Kind.PROMOTE):
        return ""
    return waits_for(lock_endpoint(rollout.endpoint), now=now)


def _waiting(look: Look, what: str) -> Look:
    step = "The next step" if look.conclusion.kind == Kind.ADVANCE else "Its promotion"
    summary = f"{look.conclusion.summary} {step} waits for {what}."
    return replace(look, conclusion=Conclusion(Kind.WAIT, summary))


def _carry_out(rollout: Rollout, look: Look, actor: Actor, now: datetime) -> None:
    reason = look.conclusion.summary
    match look.conclusion.kind:
        case Kind.ADVANCE:
            candidates.advance(rollout, actor=actor, reason=reason, now=now)
        case Kind.PROMOTE:
            candidates.promote(rollout, actor=actor, reason=reason, now=now)
        case Kind.ROLL_BACK:
            candidates.roll_back(rollout, actor=actor, reason=reason, now=now, data=_harm(look))
        case Kind.HOLD:
            candidates.hold(rollout, actor=actor, reason=reason, now=now)
        case Kind.WAIT:
            pass


def _harm(look: Look) -> dict[str, Any]:
    """What a roll-back's event says: the metrics that failed, and where the candidate lost most."""
    failed = [each.metric for each in look.measured if each.guards and each.verdict == FAILED]
    segments = [{name: value for name, value in each.items() if name != "examples"} for each in _lost(look)]
    return {"look": look.number, "failed": failed, "segments": segments}


def _lost(look: Look) -> Sequence[Mapping[str, Any]]:
    """The segments where the candidate lost most; the requests in them stay with the look."""
    found: Sequence[Mapping[str, Any]] = look.detail.get("loss", [])
    return found
