"""What follows from a look: wait, take the next step, promote, roll back, or hold for a person. Pure.

The rule has three ways out, and no data opens none of them (rollout research, 2.5):

* harm beyond the size that counts as harm is *proven* on any guard metric: roll back, at any look;
* the minimum time and rows are reached and nothing speaks against the candidate: the next step. The last step asks
  more: harm of the tolerated size must be *excluded* on every guard metric, then it is promoted. So does the shadow;
* otherwise wait, and from the horizon (of hours or of rows) on hold: the state stays and a person decides.

Both sizes are the plan's: what is harm may be smaller than what is still tolerated. Where both are certain of the same
difference (more than harm, less than tolerated) it is harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rollout.plan import RolloutPlan, ShadowPlan

PASSED, FAILED, INCONCLUSIVE, ERROR = "passed", "failed", "inconclusive", "error"


class Kind(StrEnum):
    """A look's conclusion."""

    WAIT = "wait"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    HOLD = "hold"


@dataclass(frozen=True)
class Measured:
    """One metric of one look.

    ``value`` with ``low`` and ``high`` is the candidate's difference (or rate, or ratio). ``harm`` is the log e-value
    for more harm than ``harm_from``, ``no_harm`` the one for less than ``limit``; ``needed`` is what proves either.
    ``n`` counts the candidate's observations. Metrics that do not ``guard`` are only reported.
    """

    metric: str
    verdict: str
    message: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    n: int = 0
    harm: float | None = None
    no_harm: float | None = None
    needed: float | None = None
    guards: bool = True
    harm_from: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far a stage is: hours and candidate rows in this step, and since the stage (shadow, canary) began.

    ``uncovered`` names the segments of the traffic of which the shadow has too few rows; empty: none.
    """

    hours: float
    rows: int
    stage_hours: float
    uncovered: str = ""
    stage_rows: int = 0


@dataclass(frozen=True)
class Conclusion:
    """What to do, and why in one sentence with its numbers."""

    kind: Kind
    summary: str


@dataclass(frozen=True)
class Look:
    """One look at a rollout, ready to be written down: where it stood, what was measured, what follows."""

    number: int
    stage: str
    step: int
    conclusion: Conclusion
    measured: Sequence[Measured]
    candidate_rows: int
    incumbent_rows: int
    detail: Mapping[str, Any] = field(default_factory=dict)


def verdict_of(harm: bool, excluded: bool) -> str:
    """failed: harm is proven; passed: it is excluded; inconclusive: neither yet."""
    if harm:
        return FAILED
    return PASSED if excluded else INCONCLUSIVE


def conclude_shadow(measured: Sequence[Measured], progress: Progress, plan: ShadowPlan) -> Conclusion:
    """The conclusion of a look at the shadow. ``progress.rows`` counts shadow rows with an outcome."""
    guards = _guards(measured)
    if harmed := _with(guards, FAILED):
        return Conclusion(Kind.ROLL_BACK, _sentences(harmed))
    missing = _missing(progress, hours=plan.min_hours, rows=plan.min_rows) or progress.uncovered or _undecided(guards)
    if not missing:
        return Conclusion(Kind.ADVANCE, _sentences(guards))
    return _wait_or_hold(missing, progress, horizon=plan.max_hours)


def conclude_canary(measured: Sequence[Measured], progress: Progress, plan: RolloutPlan, *, step: int) -> Conclusion:
    """The conclusion of a look at canary ``step`` (from 1).

    Where a guard could not be measured at all (the split is broken: the arms can not be compared) what the others say
    is no proof: it is held, whatever they say. A candidate that keeps failing is taken off by its breaker all the same.
    """
    guards = _guards(measured)
    if broken := _with(guards, ERROR):
        return Conclusion(Kind.HOLD, f"Nothing can be concluded. {_sentences(broken)}")
    if harmed := _with(guards, FAILED):
        return Conclusion(Kind.ROLL_BACK, _sentences(harmed))
    this = plan.step(step)
    missing = _missing(progress, hours=this.min_hours, rows=this.min_rows)
    if plan.is_last(step):
        missing = missing or _undecided(guards)
        if not missing:
            return Conclusion(Kind.PROMOTE, _sentences(guards))
    else:
        missing = missing or _unmeasured(guards)
        if not missing:
            return Conclusion(
                Kind.ADVANCE, f"No harm after {progress.hours:.0f} h and {progress.rows} rows at this step."
            )
    return _wait_or_hold(missing, progress, horizon=plan.canary.horizon_hours, rows=plan.canary.horizon_rows)


def _guards(measured: Sequence[Measured]) -> list[Measured]:
    return [each for each in measured if each.guards]


def _with(measured: Sequence[Measured], verdict: str) -> list[Measured]:
    return [each for each in measured if each.verdict == verdict]


def _missing(progress: Progress, *, hours: float, rows: int) -> str:
    """What is missing in time and rows, or nothing."""
    if progress.hours < hours:
        return f"{progress.hours:.0f} of at least {hours:.0f} hours have passed."
    if progress.rows < rows:
        return f"{progress.rows} of at least {rows} rows are there."
    return ""


def _undecided(guards: Sequence[Measured]) -> str:
    """Which metrics are not proven harmless yet; without any metric nothing is proven."""
    if not guards:
        return "Nothing was measured."
    return _sentences([each for each in guards if each.verdict != PASSED])


def _unmeasured(guards: Sequence[Measured]) -> str:
    """Metrics without a single observation, or that could not be measured: before the last step only they block."""
    if not guards:
        return "Nothing was measured."
    return _sentences([each for each in guards if each.n == 0 or each.verdict == ERROR])


def _wait_or_hold(missing: str, progress: Progress, *, horizon: float, rows: int | None = None) -> Conclusion:
    if progress.stage_hours >= horizon:
        return Conclusion(Kind.HOLD, f"Undecided after {progress.stage_hours:.0f} hours: {missing}")
    if rows is not None and progress.stage_rows >= rows:
        return Conclusion(Kind.HOLD, f"Undecided after {progress.stage_rows:,} rows of the candidate: {missing}")
    return Conclusion(Kind.WAIT, missing)


def _sentences(measured: Sequence[Measured]) -> str:
    return " ".join(each.message for each in measured)
