"""A look at the canary: each request was answered by one of the two versions.

``CanaryState`` takes the rows as they come and answers at any time what ``measure_canary`` answers for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rollout.analysis.matured import MaturedMeans, Places
from rollout.analysis.rows import BusinessValues, CanaryRows, FloatArray
from rollout.analysis.words import business, distribution, error_rate, latency, loss, predictions, slowest, split
from rollout.judge import Measured
from rollout.plan import CanaryPlan
from stats.sequential.running import Numbering, RunningMeans, RunningRanks, RunningRates, RunningSplit

ALPHA_SPLIT = 0.001
"""The traffic split is called broken only on overwhelming evidence: it is our own defect, not the candidate's."""
TIGHTEST_AT = {"latency": 500.0, "loss": 1500.0, "predictions": 1500.0, "business": 1500.0}
"""Effective rows at which each boundary is narrowest: about where a harm that matters is to be found."""


def measure_canary(
    rows: CanaryRows, plan: CanaryPlan, *, timed: bool, business: Sequence[BusinessValues] = ()
) -> list[Measured]:
    """Every metric of a look at the canary. ``timed``: whether latency is sampled at all (else it guards nothing)."""
    state = CanaryState(plan)
    state.see(rows)
    state.know(rows.label)
    return state.measure(timed=timed, business=business)


class CanaryState:
    """What is known of a canary: sums to which new rows are added, in the order of event time.

    Errors, latency and the split count every request; a request that named no entity is its own there. Scores, loss and
    business values are compared by entity, so what named none is left out. An entity's first row (for errors: its first
    error) is the one that counts where the arithmetic needs independent rows. The latency of a version that was not
    warm yet does not count.
    """

    def __init__(self, plan: CanaryPlan) -> None:
        self.plan = plan
        self._entities = Numbering()
        self._strata = Numbering()
        self._places = Places()
        self._rows = [0, 0]
        self._failed = [0, 0]
        self._errors = RunningRates()
        self._latency = RunningMeans()
        self._predictions = RunningMeans()
        self._distribution = RunningRanks()
        self._split = RunningSplit()
        self._loss = MaturedMeans(by_day=plan.loss_cluster == "day")
        self._business: dict[str, MaturedMeans] = {}

    def __len__(self) -> int:
        """Rows seen."""
        return len(self._places)

    @property
    def candidate_rows(self) -> int:
        return self._rows[1]

    def see(self, rows: CanaryRows) -> None:
        """Add rows that are younger than all seen before; their outcomes are told by ``know``."""
        n, canary, share = len(rows), rows.canary, rows.share
        entity = self._entities.of(rows.entity)
        stratum = self._stratum(rows.step, share)
        named = np.ones(n, dtype=np.bool_) if rows.sticky is None else rows.sticky
        warm = np.ones(n, dtype=np.bool_) if rows.warm is None else rows.warm
        answered = named & ~rows.failed & ~np.isnan(rows.score)
        self._places.add(
            canary=canary,
            stratum=stratum,
            entity=entity,
            day=np.zeros(n, dtype=np.int64) if rows.day is None else rows.day,
            named=named,
            score=np.where(answered, rows.score, np.nan),
        )

        for arm in (0, 1):
            there = canary == bool(arm)
            self._rows[arm] += int(there.sum())
            self._failed[arm] += int((there & rows.failed).sum())
        self._errors.update(canary[rows.failed], share[rows.failed], entity[rows.failed])
        self._split.update(canary, share, entity)
        there = warm & (rows.latency > 0)  # NaN is not
        self._latency.update(np.log(rows.latency[there]), canary[there], stratum[there], entity[there])

        there = answered
        self._predictions.update(rows.score[there], canary[there], stratum[there], entity[there])
        self._distribution.update(rows.score[there], canary[there], share[there], stratum[there], entity[there])

    def _stratum(self, step: NDArray[np.int64], share: FloatArray) -> NDArray[np.int64]:
        """Numbers of (step, share): traffic stays for long at one, so a run of rows is asked for once."""
        starts = np.flatnonzero((np.diff(step, prepend=-1) != 0) | (np.diff(share, prepend=-1.0) != 0))
        numbers = self._strata.of(zip(step[starts].tolist(), share[starts].tolist(), strict=True))
        return np.repeat(numbers, np.diff(starts, append=len(step)))

    def know(self, label: FloatArray) -> None:
        """The outcomes of all rows seen, NaN where none is known or its window is open. They may be corrected."""
        self._loss.settle(np.square(self._places.score - label), self._places)

    def measure(self, *, timed: bool, business: Sequence[BusinessValues] = ()) -> list[Measured]:
        guarding = max(1, sum(each.guards for each in business))
        return [
            self._measured_errors(),
            self._measured_latency(timed=timed),
            self._measured_loss(),
            self._measured_predictions(),
            self._measured_distribution(),
            self._measured_split(),
            *(self._measured_business(each, alpha=self.plan.alpha.business / guarding) for each in business),
        ]

    def _measured_errors(self) -> Measured:
        plan = self.plan
        harm_from, tolerated = plan.harm_from_error_ratio, plan.tolerated_error_ratio
        return error_rate(
            self._errors.evidence(harm_from=harm_from, tolerated_ratio=tolerated),
            candidate=(self._failed[1], self._rows[1]),
            champion=(self._failed[0], self._rows[0]),
            harm_from=harm_from,
            tolerated_ratio=tolerated,
            tolerated_rate=plan.tolerated_error_rate,
            alpha=plan.alpha.errors,
        )

    def _measured_latency(self, *, timed: bool) -> Measured:
        plan, alpha = self.plan, self.plan.alpha.latency
        _, champion = self._latency.means()
        typical = None if champion is None else math.exp(champion)
        harm_from, limit = (
            ratio if typical is None else slowest(typical, ratio=ratio, above=plan.tolerated_latency_ms)
            for ratio in (plan.harm_from_latency_ratio, plan.tolerated_latency_ratio)
        )
        found = self._latency.measure(
            harm_from=math.log(harm_from),
            tolerance=math.log(limit),
            alpha=alpha,
            tightest_at=TIGHTEST_AT["latency"],
        )
        return latency(found, limit, alpha=alpha, timed=timed, harm_from=harm_from, typical=typical)

    def _measured_loss(self) -> Measured:
        plan, alpha = self.plan, self.plan.alpha.loss
        harm_from, tolerated = plan.harm_from_loss_increase, plan.tolerated_loss_increase
        found = self._loss.measure(
            harm_from=harm_from, tolerance=tolerated, alpha=alpha, tightest_at=TIGHTEST_AT["loss"]
        )
        return loss(found, tolerated, alpha=alpha, harm_from=harm_from)

    def _measured_predictions(self) -> Measured:
        plan, alpha = self.plan, self.plan.alpha.predictions
        harm_from, tolerated = plan.harm_from_prediction_shift, plan.tolerated_prediction_shift
        up, down = (
            self._predictions.measure(
                harm_from=harm_from,
                tolerance=tolerated,
                alpha=alpha,
                tightest_at=TIGHTEST_AT["predictions"],
                sign=sign,
            )
            for sign in (1.0, -1.0)
        )
        return predictions(up, down, tolerated, alpha=alpha, harm_from=harm_from)

    def _measured_distribution(self) -> Measured:
        plan = self.plan
        return distribution(
            self._distribution.measure(alpha=plan.alpha.distribution),
            harm_from=plan.harm_from_distance,
            tolerated=plan.tolerated_distance,
            alpha=plan.alpha.distribution,
            guards=plan.distribution == "guard",
        )

    def _measured_split(self) -> Measured:
        return split(
            self._split.measure(), counts=self._split.counts(), candidate_rows=self._rows[1], alpha=ALPHA_SPLIT
        )

    def _measured_business(self, metric: BusinessValues, *, alpha: float) -> Measured:
        named = self._places.named[metric.row]  # failed or not: what became of those whom the candidate was to answer
        known = np.full(len(self), np.nan)
        known[metric.row[named]] = metric.harmful(metric.value[named])
        means = self._business.setdefault(metric.name, MaturedMeans())
        means.settle(known, self._places)
        harm_from, tolerated = (
            metric.on_scale(size, champion=means.champion()) for size in (metric.harm_from, metric.tolerated)
        )
        found = means.measure(
            harm_from=harm_from, tolerance=tolerated, alpha=alpha, tightest_at=TIGHTEST_AT["business"]
        )
        return business(found, metric, alpha=alpha)
