"""From logged rows to measured metrics: a candidate against the champion, in shadow (the same request answered by both)
and in canary (each request by one of them). Numbers and verdicts, no Django; ``rollout.judge`` concludes from them.

Every metric is judged three ways with evidence that is valid at each look (``stats.sequential``): harm of more than the
tolerated size proven, excluded, or neither yet. Rows come from the log since the stage began, so that a look that is
repeated says the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rollout.judge import ERROR, FAILED, INCONCLUSIVE, PASSED, Measured, verdict_of
from rollout.plan import CanaryPlan, ShadowPlan
from stats.interval import Interval
from stats.metrics import paired_auc_difference, roc_auc
from stats.sequential import (
    MeanDifference,
    bernoulli_below,
    mean_difference,
    paired_mean,
    rate_ratio,
    sample_ratio,
)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ALPHA_SPLIT = 0.001
"""The traffic split is called broken only on overwhelming evidence: it is our own defect, not the candidate's."""
WORDS = {PASSED: "excluded", FAILED: "proven", INCONCLUSIVE: "neither proven nor excluded yet"}


@dataclass(frozen=True)
class CanaryRows:
    """Rows of the canary stage in event time, one entry per request in each field.

    ``score`` is what was answered, ``label`` the outcome where its window has closed and it arrived (else NaN),
    ``latency`` in milliseconds where timed (else NaN), ``failed`` whether the arm's version could not answer.
    """

    entity: Sequence[str]
    canary: BoolArray
    share: FloatArray
    step: NDArray[np.int64]
    failed: BoolArray
    score: FloatArray
    label: FloatArray
    latency: FloatArray

    def entities(self, where: BoolArray) -> list[str]:
        return [self.entity[position] for position in np.flatnonzero(where).tolist()]


@dataclass(frozen=True)
class ShadowRows:
    """Requests that the champion answered and the candidate scored afterwards, one entry per request in each field.

    NaN where a version failed, was not timed, or no outcome is known yet.
    """

    entity: Sequence[str]
    candidate: FloatArray
    champion: FloatArray
    candidate_failed: BoolArray
    champion_failed: BoolArray
    label: FloatArray
    candidate_latency: FloatArray
    champion_latency: FloatArray

    def entities(self, where: BoolArray) -> list[str]:
        return [self.entity[position] for position in np.flatnonzero(where).tolist()]

    @property
    def both(self) -> BoolArray:
        """Rows that both versions answered."""
        return ~(self.candidate_failed | self.champion_failed)

    @property
    def with_outcome(self) -> BoolArray:
        return self.both & ~np.isnan(self.label)


@dataclass(frozen=True)
class Promise:
    """The AUC that the candidate's gates measured, with its interval; ``over_champion``: its gain over the champion.

    The gain is the better promise: weeks differ in how hard they are to predict, but they do so for both versions.
    """

    value: float
    low: float
    high: float
    over_champion: bool = False

    @property
    def measure(self) -> str:
        return "AUC over the champion" if self.over_champion else "AUC"

    def __str__(self) -> str:
        return f"{self.measure} {_signed(self.value, self)} [{_signed(self.low, self)}, {_signed(self.high, self)}]"


def _signed(value: float, promise: Promise) -> str:
    return f"{value:+.3f}" if promise.over_champion else f"{value:.3f}"


# ---------------------------------------------------------------------- canary


def measure_canary(rows: CanaryRows, plan: CanaryPlan, *, timed: bool) -> list[Measured]:
    """Every metric of a look at the canary. ``timed``: whether latency is sampled at all (else it guards nothing)."""
    return [
        _canary_errors(rows, plan),
        _canary_latency(rows, plan, timed=timed),
        _canary_loss(rows, plan),
        _canary_predictions(rows, plan),
        _canary_split(rows),
    ]


def _canary_errors(rows: CanaryRows, plan: CanaryPlan) -> Measured:
    by_canary = rows.canary[rows.failed]
    return _errors(
        by_candidate=by_canary,
        share=rows.share[rows.failed],
        entity=rows.entities(rows.failed),
        candidate_rows=int(rows.canary.sum()),
        champion_rows=int((~rows.canary).sum()),
        tolerated_ratio=plan.tolerated_error_ratio,
        tolerated_rate=plan.tolerated_error_rate,
        alpha=plan.alpha.errors,
    )


def _errors(
    *,
    by_candidate: BoolArray,
    share: FloatArray | float,
    entity: Sequence[str],
    candidate_rows: int,
    champion_rows: int,
    tolerated_ratio: float,
    tolerated_rate: float,
    alpha: float,
) -> Measured:
    """Errors, one entry per error. Harm: more than ``tolerated_ratio`` times as often as the champion, while not proven
    to be rarer than ``tolerated_rate``. Excluded: one of the two is."""
    needed = _needed(alpha)
    count = int(by_candidate.sum())
    ratio = rate_ratio(by_candidate, share, tolerated_ratio=tolerated_ratio, entity=entity, alpha=alpha)
    rare = bernoulli_below(count, candidate_rows, tolerated_rate)
    # Under "too often, relatively and absolutely" both are e-values, and so is their mean.
    no_harm = float(np.logaddexp(ratio.no_harm, rare) - math.log(2))
    harm = ratio.harm if rare < needed else min(ratio.harm, 0.0)
    verdict = verdict_of(harm >= needed, no_harm >= needed)
    others = len(by_candidate) - count
    return Measured(
        metric="errors",
        verdict=verdict,
        message=(
            f"Errors: {count} in {candidate_rows} rows ({_share(count, candidate_rows)}) against {others} in "
            f"{champion_rows} ({_share(others, champion_rows)}); more than {tolerated_ratio:g} times as often and "
            f"above {tolerated_rate:.1%} is {WORDS[verdict]}."
        ),
        value=count / candidate_rows if candidate_rows else None,
        limit=tolerated_rate,
        n=candidate_rows,
        harm=harm,
        no_harm=no_harm,
        needed=needed,
    )


def _canary_latency(rows: CanaryRows, plan: CanaryPlan, *, timed: bool) -> Measured:
    there = ~np.isnan(rows.latency) & (rows.latency > 0)
    canary, milliseconds = rows.canary[there], rows.latency[there]
    limit = _latency_limit(milliseconds[~canary], ratio=plan.tolerated_latency_ratio, above=plan.tolerated_latency_ms)
    found = mean_difference(
        np.log(milliseconds),
        canary,
        rows.share[there],
        stratum=rows.step[there],
        entity=rows.entities(there),
        tolerance=math.log(limit),
        alpha=plan.alpha.latency,
    )
    return _latency(found, limit, alpha=plan.alpha.latency, timed=timed)


def _latency_limit(champion: FloatArray, *, ratio: float, above: float) -> float:
    """The slow-down tolerated, as a ratio: ``ratio``, or what ``above`` milliseconds more are, if that is more."""
    if not len(champion):
        return ratio
    typical = float(np.exp(np.log(champion).mean()))
    return max(ratio, 1 + above / typical)


def _latency(found: MeanDifference, limit: float, *, alpha: float, timed: bool) -> Measured:
    value, low, high = (None if each is None else math.exp(min(each, 700.0)) for each in _interval(found))
    verdict, needed = _judged(found, alpha)
    measured = (
        f"{_number(value)} times the champion's {_bounds(low, high)}" if value is not None else "not measured yet"
    )
    return Measured(
        metric="latency",
        verdict=verdict,
        message=f"Latency: {measured}; more than {limit:.3g} times is {WORDS[verdict]}.",
        value=value,
        low=low,
        high=high,
        limit=limit,
        n=found.n_canary,
        harm=found.harm,
        no_harm=found.no_harm,
        needed=needed,
        guards=timed,
    )


def _canary_loss(rows: CanaryRows, plan: CanaryPlan) -> Measured:
    there = ~rows.failed & ~np.isnan(rows.label)
    found = mean_difference(
        np.square(rows.score[there] - rows.label[there]),
        rows.canary[there],
        rows.share[there],
        stratum=rows.step[there],
        entity=rows.entities(there),
        tolerance=plan.tolerated_loss_increase,
        alpha=plan.alpha.loss,
    )
    return _loss(found, plan.tolerated_loss_increase, alpha=plan.alpha.loss)


def _loss(found: MeanDifference, tolerated: float, *, alpha: float) -> Measured:
    verdict, needed = _judged(found, alpha)
    return Measured(
        metric="loss",
        verdict=verdict,
        message=(
            f"Squared error on {found.n_canary} known outcomes: {_difference(found)} against the champion; an increase "
            f"beyond {tolerated:g} is {WORDS[verdict]}."
        ),
        value=found.estimate,
        low=found.low,
        high=found.high,
        limit=tolerated,
        n=found.n_canary,
        harm=found.harm,
        no_harm=found.no_harm,
        needed=needed,
    )


def _canary_predictions(rows: CanaryRows, plan: CanaryPlan) -> Measured:
    there = ~rows.failed & ~np.isnan(rows.score)

    def measured(sign: float) -> MeanDifference:
        return mean_difference(
            sign * rows.score[there],
            rows.canary[there],
            rows.share[there],
            stratum=rows.step[there],
            entity=rows.entities(there),
            tolerance=plan.tolerated_prediction_shift,
            alpha=plan.alpha.predictions,
        )

    return _predictions(measured(1.0), measured(-1.0), plan.tolerated_prediction_shift, alpha=plan.alpha.predictions)


def _predictions(up: MeanDifference, down: MeanDifference, tolerated: float, *, alpha: float) -> Measured:
    """A shift in either direction: ``down`` is measured with the sign turned."""
    needed = _needed(alpha)
    harm = no_harm = None
    if up.harm is not None and down.harm is not None and up.no_harm is not None and down.no_harm is not None:
        harm = float(np.logaddexp(up.harm, down.harm) - math.log(2))
        no_harm = min(up.no_harm, down.no_harm)
    verdict = verdict_of(harm is not None and harm >= needed, no_harm is not None and no_harm >= needed)
    return Measured(
        metric="predictions",
        verdict=verdict,
        message=(
            f"Mean score on {up.n_canary} rows: {_difference(up)} against the champion; a shift beyond "
            f"±{tolerated:g} is {WORDS[verdict]}."
        ),
        value=up.estimate,
        low=up.low,
        high=up.high,
        limit=tolerated,
        n=up.n_canary,
        harm=harm,
        no_harm=no_harm,
        needed=needed,
    )


def _canary_split(rows: CanaryRows) -> Measured:
    """Whether the candidate gets the share it was given; if not, nothing that was measured can be trusted."""
    needed = _needed(ALPHA_SPLIT)
    evidence = sample_ratio(rows.canary, rows.share, entity=rows.entity)
    broken = evidence >= needed
    n = int(rows.canary.sum())
    served = f"{n} of {len(rows.canary)} rows where {rows.share.sum():.0f} were expected"
    verdict = ERROR if broken else PASSED if len(rows.canary) else INCONCLUSIVE
    judged = (
        "the split is broken, so that the arms can not be compared" if broken else "nothing speaks against the split"
    )
    return Measured(
        metric="split",
        verdict=verdict,
        message=f"Split: the candidate got {served}; {judged}.",
        value=n / len(rows.canary) if len(rows.canary) else None,
        n=n,
        harm=evidence,
        needed=needed,
    )


# ---------------------------------------------------------------------- shadow


def measure_shadow(
    rows: ShadowRows, plan: ShadowPlan, *, threshold: float, promise: Promise | None, look: int, timed: bool
) -> list[Measured]:
    """Every metric of look number ``look`` (from 1) at the shadow. ``promise`` is None where no AUC was gated."""
    measured = [
        _shadow_errors(rows, plan),
        _shadow_latency(rows, plan, timed=timed),
        _shadow_loss(rows, plan),
        _shadow_predictions(rows, plan),
        _agreement(rows, threshold),
    ]
    if promise is not None:
        measured.append(_kept_promise(rows, plan, promise, look))
    return measured


def _shadow_errors(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    """Both versions got every row, so an error is the candidate's with probability 1/2 when they fail as often."""
    n = len(rows.candidate)
    mine, theirs = rows.entities(rows.candidate_failed), rows.entities(rows.champion_failed)
    return _errors(
        by_candidate=np.repeat([True, False], [len(mine), len(theirs)]),
        share=0.5,
        # The candidate's first error of an entity and the champion's are two events.
        entity=[*(f"candidate:{each}" for each in mine), *(f"champion:{each}" for each in theirs)],
        candidate_rows=n,
        champion_rows=n,
        tolerated_ratio=plan.tolerated_error_ratio,
        tolerated_rate=plan.tolerated_error_rate,
        alpha=plan.alpha.errors,
    )


def _shadow_latency(rows: ShadowRows, plan: ShadowPlan, *, timed: bool) -> Measured:
    there = (rows.candidate_latency > 0) & (rows.champion_latency > 0)  # NaN is not
    champion = rows.champion_latency[there]
    limit = _latency_limit(champion, ratio=plan.tolerated_latency_ratio, above=plan.tolerated_latency_ms)
    found = paired_mean(
        np.log(rows.candidate_latency[there] / champion),
        entity=rows.entities(there),
        tolerance=math.log(limit),
        alpha=plan.alpha.latency,
    )
    return _latency(found, limit, alpha=plan.alpha.latency, timed=timed)


def _shadow_loss(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    there = rows.with_outcome
    found = paired_mean(
        loss_differences(rows)[there],
        entity=rows.entities(there),
        tolerance=plan.tolerated_loss_increase,
        alpha=plan.alpha.loss,
    )
    return _loss(found, plan.tolerated_loss_increase, alpha=plan.alpha.loss)


def loss_differences(rows: ShadowRows) -> FloatArray:
    """Squared error of the candidate minus the champion's on the same request; NaN without an outcome."""
    difference: FloatArray = np.square(rows.candidate - rows.label) - np.square(rows.champion - rows.label)
    return difference


def _shadow_predictions(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    there = rows.both
    shift = (rows.candidate - rows.champion)[there]
    entity = rows.entities(there)

    def measured(sign: float) -> MeanDifference:
        tolerated = plan.tolerated_prediction_shift
        return paired_mean(sign * shift, entity=entity, tolerance=tolerated, alpha=plan.alpha.predictions)

    return _predictions(measured(1.0), measured(-1.0), plan.tolerated_prediction_shift, alpha=plan.alpha.predictions)


def _agreement(rows: ShadowRows, threshold: float) -> Measured:
    """How often both versions lead to the same decision. Only reported: a better version must disagree somewhere."""
    there = rows.both
    n = int(there.sum())
    same = int(((rows.candidate >= threshold) == (rows.champion >= threshold))[there].sum())
    return Measured(
        metric="agreement",
        verdict=PASSED if n else INCONCLUSIVE,
        message=f"Same decision at {threshold:g} in {same} of {n} rows ({_share(same, n)}).",
        value=same / n if n else None,
        n=n,
        guards=False,
    )


def _kept_promise(rows: ShadowRows, plan: ShadowPlan, promise: Promise, look: int) -> Measured:
    """The AUC (or its gain over the champion) on real outcomes against the one that the gates measured. A version that
    saw the future in training shines there and not here.

    DeLong's interval holds at one look; look k therefore gets 6 / (pi k)^2 of alpha, which sums to alpha over all.
    Passed asks for the estimate only: the loss against the champion is what has to be proven.
    """
    tolerance = plan.kept_gain_tolerance if promise.over_champion else plan.kept_promise_tolerance
    limit = promise.low - tolerance
    shown = _shown(rows, promise, confidence=1 - 2 * plan.alpha_promise * 6 / (math.pi * look) ** 2)
    if shown is None:
        message = f"Promised {promise}; too few outcomes of both kinds yet."
        return Measured("kept_promise", INCONCLUSIVE, message, limit=limit)
    verdict = verdict_of(shown.high < limit, shown.estimate >= limit)
    bar = _signed(limit, promise)
    judged = {
        PASSED: "the promise is kept",
        FAILED: f"clearly below {bar}",
        INCONCLUSIVE: f"below {bar}, but not clearly yet",
    }
    numbers = [_signed(each, promise) for each in (shown.estimate, shown.low, shown.high)]
    return Measured(
        metric="kept_promise",
        verdict=verdict,
        message=(
            f"Promised {promise}, shows {numbers[0]} [{numbers[1]}, {numbers[2]}] on "
            f"{shown.n} real outcomes: {judged[verdict]}."
        ),
        value=shown.estimate,
        low=shown.low,
        high=shown.high,
        limit=limit,
        n=shown.n,
    )


def _shown(rows: ShadowRows, promise: Promise, *, confidence: float) -> Interval | None:
    """What real outcomes show of the promised measure; None without outcomes of both kinds."""
    there = rows.with_outcome
    labels = rows.label[there]
    if not np.isin(labels, (0.0, 1.0)).all():
        return None
    if promise.over_champion:
        return paired_auc_difference(labels, rows.candidate[there], rows.champion[there], confidence)
    return roc_auc(labels, rows.candidate[there], confidence)


# ---------------------------------------------------------------------- shared


def _needed(alpha: float) -> float:
    return math.log(1 / alpha)


def _judged(found: MeanDifference, alpha: float) -> tuple[str, float]:
    needed = _needed(alpha)
    harm = found.harm is not None and found.harm >= needed
    excluded = found.no_harm is not None and found.no_harm >= needed
    return verdict_of(harm, excluded), needed


def _interval(found: MeanDifference) -> tuple[float | None, float | None, float | None]:
    return found.estimate, found.low, found.high


def _difference(found: MeanDifference) -> str:
    if found.estimate is None:
        return "not comparable yet"
    return f"{found.estimate:+.4f} {_bounds(found.low, found.high, '+.4f')}".strip()


def _bounds(low: float | None, high: float | None, form: str = ".3g") -> str:
    if low is None and high is None:
        return "(no interval yet)"
    return f"[{_number(low, form, '-∞')}, {_number(high, form, '∞')}]"


def _number(value: float | None, form: str = ".3g", otherwise: str = "–") -> str:
    return otherwise if value is None else f"{value:{form}}"


def _share(count: int, n: int) -> str:
    return f"{count / n:.2%}" if n else "no rows"
