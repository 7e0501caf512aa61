"""What makes candidates of an endpoint wait, and the time that does not count for their rollouts.

Freezes, the product owner's pause and the kill switch let no candidate start, get more traffic or be promoted. While a
rollout is paused, or its endpoint frozen or stopped, its clocks (minimum time, horizon) stand still.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from rollout.freezes import Frozen, Span, covered, frozen, occurrences
from rollout.models import Decision, DecisionKind, Endpoint, FreezeWindow, Outcome, Rollout
from rollout.plan import RolloutPlan, plan_for


def plan_of(endpoint: Endpoint) -> RolloutPlan:
    """The plan in force for an endpoint now."""
    return plan_for(endpoint.registered_model.tier, endpoint.plan)


def freeze_of(endpoint: Endpoint, *, now: datetime) -> Frozen | None:
    """The freeze that an endpoint is in, decided or of its plan."""
    windows = FreezeWindow.objects.filter(endpoint=endpoint, ends_at__gt=now)
    return frozen(_spans(windows), plan_of(endpoint).canary.freeze, now)


def waits_for(endpoint: Endpoint, *, now: datetime) -> str:
    """What a candidate has to wait for, as in "It waits for …"; empty: for nothing."""
    if not endpoint.enabled:
        return f"the kill switch of {endpoint} to be released"
    if endpoint.rollouts_paused:
        return f"the product owner to let rollouts go on at {endpoint}"
    freeze = freeze_of(endpoint, now=now)
    if freeze is None:
        return ""
    what = f" ({freeze.note})" if freeze.note else ""
    return f"the freeze of {endpoint} to end at {freeze.until:%Y-%m-%d %H:%M} UTC{what}"


def counted(rollout: Rollout, since: datetime | None, *, now: datetime) -> timedelta:
    """The time since a moment in which the rollout could show something: neither paused, frozen nor stopped."""
    if since is None or since >= now:
        return timedelta(0)
    windows = FreezeWindow.objects.filter(endpoint=rollout.endpoint_id, ends_at__gt=since, starts_at__lt=now)
    weekly = plan_of(rollout.endpoint).canary.freeze
    still = [*_spans(windows), *occurrences(weekly, since, now), *_paused(rollout, now), *_stopped(rollout, now)]
    return (now - since) - covered(still, since, now)


def _spans(windows: Iterable[FreezeWindow]) -> list[Span]:
    return [Span(each.starts_at, each.ended_at, each.note) for each in windows]


def _paused(rollout: Rollout, now: datetime) -> list[Span]:
    ended = [Span(datetime.fromisoformat(since), datetime.fromisoformat(until)) for since, until in rollout.pauses]
    return [*ended, Span(rollout.paused_at, now)] if rollout.paused_at is not None else ended


def _stopped(rollout: Rollout, now: datetime) -> list[Span]:
    """When the endpoint's kill switch was pulled, from the decisions about it."""
    switched = Decision.objects.filter(
        endpoint=rollout.endpoint_id, kind__in=[DecisionKind.STOP, DecisionKind.RESUME]
    ).values_list("kind", "decided_at", "takes_effect_at", "outcome__outcome", "outcome__at")
    acts = [
        (decided_at if due is None else at, kind)
        for kind, decided_at, due, outcome, at in switched
        if due is None or outcome == Outcome.CARRIED_OUT
    ]
    spans, since = [], None
    for at, kind in sorted(acts):
        if kind == DecisionKind.STOP:
            since = since or at
        elif since is not None:
            spans.append(Span(since, at))
            since = None
    return [*spans, Span(since, now)] if since is not None else spans
