"""A look at the shadow: every request was answered by the champion and scored by the candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rollout.analysis.disagreement import decisions
from rollout.analysis.distributions import in_words, spread
from rollout.analysis.rows import FloatArray, ShadowRows
from rollout.analysis.words import errors, latency, latency_limit, loss, predictions, rate
from rollout.judge import FAILED, INCONCLUSIVE, PASSED, Measured, verdict_of
from rollout.plan import ShadowPlan
from stats.interval import Interval
from stats.metrics import paired_auc_difference, roc_auc
from stats.sequential import MeanDifference, paired_mean


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
        _distribution(rows),
        _discrimination(rows),
    ]
    if promise is not None:
        measured.append(_kept_promise(rows, plan, promise, look))
    return measured


def _shadow_errors(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    """Both versions got every row, so an error is the candidate's with probability 1/2 when they fail as often."""
    n = len(rows.candidate)
    mine, theirs = rows.entities(rows.candidate_failed), rows.entities(rows.champion_failed)
    return errors(
        by_candidate=np.repeat([True, False], [len(mine), len(theirs)]),
        share=0.5,
        # The candidate's first error of an entity and the champion's are two events.
        entity=[*(f"candidate:{each}" for each in mine), *(f"champion:{each}" for each in theirs)],
        candidate_rows=n,
        champion_rows=n,
        harm_from=plan.harm_from_error_ratio,
        tolerated_ratio=plan.tolerated_error_ratio,
        tolerated_rate=plan.tolerated_error_rate,
        alpha=plan.alpha.errors,
    )


def _shadow_latency(rows: ShadowRows, plan: ShadowPlan, *, timed: bool) -> Measured:
    there = (rows.candidate_latency > 0) & (rows.champion_latency > 0)  # NaN is not
    champion = rows.champion_latency[there]
    harm_from, limit = (
        latency_limit(champion, ratio=ratio, above=plan.tolerated_latency_ms)
        for ratio in (plan.harm_from_latency_ratio, plan.tolerated_latency_ratio)
    )
    found = paired_mean(
        np.log(rows.candidate_latency[there] / champion),
        entity=rows.entities(there),
        harm_from=math.log(harm_from),
        tolerance=math.log(limit),
        alpha=plan.alpha.latency,
    )
    typical = float(np.exp(np.log(champion).mean())) if len(champion) else None
    return latency(found, limit, alpha=plan.alpha.latency, timed=timed, harm_from=harm_from, typical=typical)


def _shadow_loss(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    there = rows.with_outcome
    found = paired_mean(
        loss_differences(rows)[there],
        entity=rows.entities(there),
        harm_from=plan.harm_from_loss_increase,
        tolerance=plan.tolerated_loss_increase,
        alpha=plan.alpha.loss,
    )
    return loss(found, plan.tolerated_loss_increase, alpha=plan.alpha.loss, harm_from=plan.harm_from_loss_increase)


def loss_differences(rows: ShadowRows) -> FloatArray:
    """Squared error of the candidate minus the champion's on the same request; NaN without an outcome."""
    difference: FloatArray = np.square(rows.candidate - rows.label) - np.square(rows.champion - rows.label)
    return difference


def _shadow_predictions(rows: ShadowRows, plan: ShadowPlan) -> Measured:
    there = rows.both
    shift = (rows.candidate - rows.champion)[there]
    entity = rows.entities(there)

    harm_from, tolerated = plan.harm_from_prediction_shift, plan.tolerated_prediction_shift

    def measured(sign: float) -> MeanDifference:
        return paired_mean(
            sign * shift, entity=entity, harm_from=harm_from, tolerance=tolerated, alpha=plan.alpha.predictions
        )

    return predictions(measured(1.0), measured(-1.0), tolerated, alpha=plan.alpha.predictions, harm_from=harm_from)


def _agreement(rows: ShadowRows, threshold: float) -> Measured:
    """How often both versions lead to the same decision. Only reported: a better version must disagree somewhere."""
    found = decisions(rows, threshold)
    message = f"Same decision at {threshold:g} in {found.same} of {found.n} rows ({rate(found.same, found.n)})"
    if found.different:
        message += f"; the candidate alone acts in {found.only_candidate}, the champion alone in {found.only_champion}"
    if known := found.candidate_right + found.champion_right:
        message += (
            f". Of {known} different decisions with an outcome the candidate was right in {found.candidate_right}"
        )
    return Measured(
        metric="agreement",
        verdict=PASSED if found.n else INCONCLUSIVE,
        message=f"{message}.",
        value=found.same / found.n if found.n else None,
        n=found.n,
        guards=False,
    )


def _distribution(rows: ShadowRows) -> Measured:
    """How far the two distributions of scores lie apart. Only reported: on pairs the mean shift is what is proven."""
    there = rows.both
    found = spread(rows.candidate[there], rows.champion[there])
    if found is None:
        return Measured("distribution", INCONCLUSIVE, "Distribution of the scores: no rows yet.", guards=False)
    return Measured(
        metric="distribution",
        verdict=PASSED,
        message=(
            f"Distribution of the scores: largest distance {found.distance:.3f} (Kolmogorov-Smirnov); the candidate's "
            f"are {in_words(found)}."
        ),
        value=found.distance,
        n=int(there.sum()),
        guards=False,
    )


def _discrimination(rows: ShadowRows) -> Measured:
    """The AUC of both on the outcomes known by now. Only reported: its interval holds at one look, not at all."""
    there = rows.with_outcome
    labels = rows.label[there]
    n = int(there.sum())
    if not n or not np.isin(labels, (0.0, 1.0)).all():
        return Measured("auc", INCONCLUSIVE, "AUC: no outcome of both kinds is known yet.", n=n, guards=False)
    mine, theirs = (roc_auc(labels, each[there]) for each in (rows.candidate, rows.champion))
    gain = paired_auc_difference(labels, rows.candidate[there], rows.champion[there])
    if mine is None or theirs is None or gain is None:
        return Measured("auc", INCONCLUSIVE, "AUC: no outcome of both kinds is known yet.", n=n, guards=False)
    return Measured(
        metric="auc",
        verdict=PASSED,
        message=(
            f"AUC on {n} known outcomes: {mine.estimate:.3f} against the champion's {theirs.estimate:.3f}, a "
            f"difference of {gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] (95 % at this look alone)."
        ),
        value=gain.estimate,
        low=gain.low,
        high=gain.high,
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
