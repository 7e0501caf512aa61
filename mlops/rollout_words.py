"""What the rollout pages say: the state in one sentence, metrics and their sizes, and the plan in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState
from rollout.plan import RolloutPlan

TITLES = {
    "errors": "Errors",
    "latency": "Latency",
    "loss": "Loss on outcomes",
    "predictions": "Mean score",
    "distribution": "Distribution of the scores",
    "split": "Split of the traffic",
    "agreement": "Same decision",
    "auc": "AUC on outcomes",
    "kept_promise": "Promise of the gates",
    "breaker": "Circuit breaker",
}
MEANINGS = {
    "errors": "how often it could not answer",
    "latency": "time of one answer, against the champion's",
    "loss": "squared error on known outcomes, above the champion's",
    "predictions": "candidate's minus champion's",
    "distribution": "how far the scores lie apart, in shape too",
    "split": "whether it gets the share it was given",
    "agreement": "both lead to the same decision",
    "auc": "gain over the champion",
    "kept_promise": "what the gates measured, on real outcomes",
}
TONES = {
    RolloutState.PENDING: "live",
    RolloutState.SHADOW: "live",
    RolloutState.CANARY: "live",
    RolloutState.PAUSED: "warn",
    RolloutState.PROMOTED: "good",
    RolloutState.ROLLED_BACK: "bad",
    RolloutState.ABORTED: "warn",
}
RATES, RATIOS, PLAIN = {"errors", "split", "agreement"}, {"latency"}, {"distribution", "kept_promise"}


def title(metric: str) -> str:
    """A metric's name for a person (a business metric has a title of its own)."""
    return TITLES.get(metric, metric.replace("_", " ").replace("-", " ").capitalize())


def meaning(metric: str) -> str:
    return MEANINGS.get(metric, "business metric, from what people did")


def number(metric: str, value: float | None) -> str:
    """A value of a metric in the unit that it is read in; a dash when there is none."""
    if value is None:
        return "—"
    if metric in RATES:
        return f"{value:.2%}".replace("%", " %")
    if metric in RATIOS:
        return f"{value:.3g} ×"
    if metric in PLAIN:
        return f"{value:.3g}"
    return f"{value:+.4g}"


def size(metric: str, value: float | None) -> str:
    """A size of harm: without the sign that a difference has; both ways where a shift counts either way."""
    if value is None:
        return "—"
    if metric == "predictions":
        return f"±{value:.3g}"
    return number(metric, value).lstrip("+")


JUDGED = {"passed": "excluded", "failed": "proven", "error": "not measurable", "inconclusive": "undecided"}
JUDGED_OF = {
    "split": {"passed": "in order", "error": "broken"},
    "kept_promise": {"passed": "kept", "failed": "broken"},
}


def judged(metric: str, verdict: str) -> str:
    """What a verdict means for a metric: of most, what is known of harm."""
    return JUDGED_OF.get(metric, {}).get(verdict) or JUDGED.get(verdict, verdict)


def interval(metric: str, low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"{number(metric, low) if low is not None else '-∞'} to {number(metric, high) if high is not None else '∞'}"


# ---------------------------------------------------------------------- the state in one sentence


@dataclass(frozen=True)
class Headline:
    """``sentence`` says where the rollout stands, ``why`` with numbers; ``because`` which metric at which look."""

    sentence: str
    why: str
    tone: str
    because: str = ""


def headline(rollout: Rollout, latest: AnalysisRun | None, *, waits_for: str, ahead: int) -> Headline:
    """Where a rollout stands. ``latest`` is its last look, with measurements; ``ahead`` counts rollouts before it."""
    held = is_held(rollout, latest)
    tone = (
        "warn" if rollout.state in (RolloutState.SHADOW, RolloutState.CANARY) and waits_for else TONES[_state(rollout)]
    )
    sentence = {
        RolloutState.PENDING: _pending,
        RolloutState.SHADOW: _shadow,
        RolloutState.CANARY: _canary,
        RolloutState.PAUSED: _paused,
        RolloutState.PROMOTED: _promoted,
        RolloutState.ROLLED_BACK: _rolled_back,
        RolloutState.ABORTED: _aborted,
    }[_state(rollout)](rollout, latest, ahead)
    is_running = rollout.state in (RolloutState.SHADOW, RolloutState.CANARY)
    why = (
        latest.summary if latest is not None and is_running and latest.stage == rollout.state else rollout.state_reason
    )
    if is_running and (latest is None or latest.stage != rollout.state):
        why = f"{rollout.state_reason} The next look says more." if rollout.state_reason else "No look yet."
    if waits_for and rollout.state in (RolloutState.PENDING, RolloutState.SHADOW, RolloutState.CANARY):
        why = f"{why} Whatever is found, the next step waits for {waits_for}; a rollback waits for nothing."
    if is_running and held:
        tone, sentence = "warn", f"{sentence} It is held: the product owner decides."
    return Headline(sentence, why, tone, _because(rollout, latest))


def is_held(rollout: Rollout, latest: AnalysisRun | None) -> bool:
    """``Rollout.is_held`` where the last look is at hand."""
    return latest is not None and latest.conclusion == "hold" and latest.stage == rollout.state


def _state(rollout: Rollout) -> RolloutState:
    return RolloutState(rollout.state)


def _name(rollout: Rollout) -> str:
    return f"v{rollout.version.number}"


def _rest(rollout: Rollout) -> str:
    return f"v{rollout.incumbent.number}" if rollout.incumbent is not None else "nobody"


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at is not None else "an unknown moment"


def _pending(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    before = {0: "it is next", 1: "one candidate is before it"}.get(ahead, f"{ahead} candidates are before it")
    return f"{_name(rollout)} waits for its turn on {rollout.endpoint.name}: {before}."


def _shadow(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    return (
        f"{_name(rollout)} scores the traffic of {rollout.endpoint.name} unseen since {_day(rollout.shadow_since)}; "
        f"{_rest(rollout)} answers everybody."
    )


def _canary(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    steps = rollout.plan.get("canary", {}).get("steps", [])
    share = steps[rollout.step - 1].get("share") if 0 < rollout.step <= len(steps) else None
    part = percent(share) if share is not None else "a part"
    return (
        f"{_name(rollout)} answers {part} of {rollout.endpoint.name} (step {rollout.step} of {len(steps)}) since "
        f"{_day(rollout.step_since)}; {_rest(rollout)} the rest."
    )


def _paused(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    where = f"canary step {rollout.step}" if rollout.paused_in == RolloutState.CANARY else "shadow"
    since = _day(rollout.state_since)
    return f"{_name(rollout)} is paused in {where} since {since}; {_rest(rollout)} answers everybody."


def _promoted(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    took = _took(rollout)
    return f"{_name(rollout)} became champion of {rollout.endpoint.name} on {_day(rollout.ended_at)}{took}."


def _rolled_back(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    where = f"canary step {rollout.step}" if rollout.step else "shadow"
    return (
        f"{_name(rollout)} was rolled back in {where} on {_day(rollout.ended_at)}{_took(rollout)}; "
        f"{_rest(rollout)} answers everybody again."
    )


def _aborted(rollout: Rollout, latest: AnalysisRun | None, ahead: int) -> str:
    return f"{_name(rollout)} was taken off {rollout.endpoint.name} on {_day(rollout.ended_at)}{_took(rollout)}."


def _took(rollout: Rollout) -> str:
    began, ended = rollout.shadow_since, rollout.ended_at
    if began is None or ended is None:
        return ", without a comparison: nothing served there yet" if rollout.state == RolloutState.PROMOTED else ""
    return f", {length(ended - began)} after its shadow began"


def percent(share: float) -> str:
    """A share of one as per cent with as many digits as it has."""
    return f"{share * 100:.3g} %"


def length(time: timedelta) -> str:
    hours = time / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"


def _because(rollout: Rollout, latest: AnalysisRun | None) -> str:
    """Which metrics at which look ended it."""
    if rollout.state != RolloutState.ROLLED_BACK or latest is None or latest.conclusion != "roll_back":
        return ""
    failed = [each for each in latest.measurements.all() if each.guards and each.verdict == "failed"]
    if not failed:
        return ""
    names = " and ".join(title(each.metric).lower() for each in failed)
    evidence = "; ".join(told for each in failed if (told := _evidence(each)))
    return f"Look {latest.number} proved harm in {names}{': ' if evidence else ''}{evidence}."


def _evidence(measured: Measurement) -> str:
    if measured.harm is None or not measured.needed:
        return ""
    return f"evidence of {measured.harm:.1f} where {measured.needed:.1f} proves it"


# ---------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class Part:
    """A part of the plan: a title and its sentences."""

    title: str
    lines: tuple[str, ...]


def plan_in_words(document: dict[str, Any]) -> tuple[Part, ...]:
    """The plan in force as it was copied into the rollout; empty when it is of a form that is no longer read."""
    try:
        plan = RolloutPlan.model_validate(document)
    except ValidationError:
        return ()
    return (
        Part("Shadow", tuple(_shadow_lines(plan))),
        Part("Canary", tuple(_canary_lines(plan))),
        Part("Sizes of harm", tuple(_size_lines(plan))),
        Part("Every look", tuple(_look_lines(plan))),
    )


def _hours(hours: float) -> str:
    return f"{hours:g} hours" if hours < 96 or hours % 24 else f"{hours / 24:g} days"


def length_of(hours: float) -> str:
    """A time between looks: seconds, minutes or hours."""
    if hours < 1 / 30:
        return f"{hours * 3600:.0f} seconds"
    return f"{hours * 60:.0f} minutes" if hours < 1 else "hour" if hours == 1 else _hours(hours)


def _shadow_lines(plan: RolloutPlan) -> Iterator[str]:
    shadow = plan.shadow
    yield f"At least {_hours(shadow.min_hours)} and {shadow.min_rows:,} rows with a known outcome."
    for column, rows in shadow.min_segment_rows.items():
        yield f"Every level of {column} that makes 1 % of the traffic or more needs {rows:,} rows."
    yield (
        f"Undecided after {_hours(shadow.max_hours)} it is held and a person decides: not enough evidence never passes."
    )
    if shadow.timed_rows:
        yield (
            f"{shadow.timed_rows} requests a look are timed alone, candidate and champion in turns, within "
            f"{shadow.timed_seconds:g} s."
        )


def _canary_lines(plan: RolloutPlan) -> Iterator[str]:
    for number, step in enumerate(plan.canary.steps, start=1):
        yield f"Step {number}: {percent(step.share)} for at least {_hours(step.min_hours)} and {step.min_rows:,} rows."
    yield "After the last step it is promoted once harm of the tolerated size is excluded on every metric."
    rows = f", or {plan.canary.horizon_rows:,} rows of it" if plan.canary.horizon_rows else ""
    yield f"Undecided {_hours(plan.canary.horizon_hours)} after the first step{rows}, it is held and a person decides."
    for freeze in plan.canary.freeze:
        note = f": {freeze.note}" if freeze.note else ""
        yield f"Frozen each week from {freeze.starts} to {freeze.ends} ({freeze.zone}){note}."


SIZES = {
    "error_ratio": ("errors", "{:g} × the champion's"),
    "latency_ratio": ("latency", "{:g} × the champion's"),
    "loss_increase": ("loss", "{:g} above"),
    "prediction_shift": ("mean score", "±{:g}"),
    "distance": ("distribution", "{:g} apart"),
}
"""The plan's sizes in words, each with a ``harm_from_`` and a ``tolerated_``."""


def _size_lines(plan: RolloutPlan) -> Iterator[str]:
    yield "Rolls back once harm beyond the first is proven; goes on once harm beyond the second is excluded."
    for stage, sizes in (("Shadow", plan.shadow), ("Canary", plan.canary)):
        told = []
        for name, (what, form) in SIZES.items():
            harm_from, tolerated = getattr(sizes, f"harm_from_{name}", None), getattr(sizes, f"tolerated_{name}", None)
            if harm_from is not None and tolerated is not None:
                both = form.format(tolerated) if harm_from == tolerated else f"{harm_from:g}, {form.format(tolerated)}"
                told.append(f"{what} {both}")
        yield f"{stage}: {'; '.join(told)}."


def _look_lines(plan: RolloutPlan) -> Iterator[str]:
    hours = plan.look_every / timedelta(hours=1)
    every = length_of(hours)
    yield f"It is looked at every {every}. At any look proven harm rolls it back, without a person."
    for stage, alphas in (("shadow", plan.shadow.alpha), ("canary", plan.canary.alpha)):
        shares = {name: value for name, value in alphas.model_dump().items() if isinstance(value, float) and value}
        split = ", ".join(f"{title(name).lower()} {value:.2%}".replace("%", " %") for name, value in shares.items())
        total = f"{sum(shares.values()):.1%}".replace("%", " %")
        yield f"Chance of a false alarm over all looks of the {stage}: at most {total} ({split})."
