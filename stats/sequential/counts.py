"""Evidence from counted events. Exact: no variance to estimate, no minimum sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray
from stats.sequential.mixture import log_mean, log_sum, require_positive, require_probability
from stats.sequential.rows import arms, first_of_each, shares, undecided

HIGHER = np.array([1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0])
"""Alternatives to a tolerated rate ratio, as its multiples, when harm is to be shown."""
WEIGHTS = np.array([0.01, 0.03, 0.12, 0.25, 0.3, 0.16, 0.07, 0.04, 0.02])
"""How much of the capital is bet on each of them: most on a doubling. Small ratios need many events anyway."""
LOWER = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
"""The same when it is to be shown that there is none."""
FRACTIONS = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])
"""Alternatives to a tolerated error rate, as fractions of it."""
PSEUDO_ROWS = 10.0
"""Weight of the asked-for share in ``sample_ratio``, in rows of the smaller arm."""
FARTHEST = 40.0
"""Rate ratios are sought between exp(-40) and exp(40)."""
FINENESS = 33
"""Places tried at once when a ratio is sought."""


@dataclass(frozen=True)
class RateRatio:
    """How many times as often the event happens under the canary as under the incumbent.

    ``harm``: evidence that the ratio exceeds the one that harm begins at; ``no_harm``: that it is below the tolerated
    one. ``ratio`` is the maximum-likelihood estimate (None without events, or with none under the incumbent), ``low``
    and ``high`` its two-sided interval that holds at all looks together (``high`` None: no upper limit yet).
    """

    harm: float
    no_harm: float
    events: int
    canary_events: int
    ratio: float | None
    low: float
    high: float | None


@dataclass(frozen=True)
class Tally:
    """Events by the share that was in force: ``total[k]`` at ``share[k]``, ``canary`` of them all by the canary."""

    share: FloatArray
    total: FloatArray
    canary: int

    def harm(self, ratios: FloatArray) -> FloatArray:
        """Evidence that the rate ratio exceeds each of ``ratios``."""
        return self._evidence(ratios, HIGHER, np.log(WEIGHTS / WEIGHTS.sum()))

    def no_harm(self, ratios: FloatArray) -> FloatArray:
        """Evidence that the rate ratio is below each of ``ratios``."""
        return self._evidence(ratios, LOWER, np.full(len(LOWER), -math.log(len(LOWER))))

    def _evidence(self, limits: FloatArray, multiples: FloatArray, log_weights: FloatArray) -> FloatArray:
        """Weighted mean over r of prod (r/r0)^A (1 - pi + pi r0) / (1 - pi + pi r), as a logarithm, for each r0."""
        at_limit = np.log1p(self.share * (limits[:, None] - 1)) @ self.total
        beyond = np.log1p(self.share * (limits[:, None, None] * multiples[:, None] - 1)) @ self.total
        return log_sum(self.canary * np.log(multiples) - beyond + at_limit[:, None] + log_weights, axis=1)

    def excess(self, ratios: FloatArray) -> FloatArray:
        """Expected minus observed canary events if the rate ratio were each of ``ratios``; rising."""
        odds = self.share * ratios[:, None]
        return np.asarray((odds / (1 - self.share + odds)) @ self.total - self.canary)

    def measured(self, *, harm_from: float, tolerated: float, alpha: float) -> RateRatio:
        surprise = math.log(2 / alpha)
        low = _root(lambda ratios: self.harm(ratios) - surprise)
        high = _root(lambda ratios: self.no_harm(ratios) - surprise)
        events = int(self.total.sum())
        return RateRatio(
            harm=float(self.harm(np.array([harm_from]))[0]),
            no_harm=float(self.no_harm(np.array([tolerated]))[0]),
            events=events,
            canary_events=self.canary,
            ratio=0.0 if events and not self.canary else _root(self.excess),
            low=low or 0.0,
            high=high,
        )


def rate_ratio(
    canary_events: ArrayLike,
    share: ArrayLike,
    *,
    tolerated_ratio: float = 1.0,
    harm_from: float | None = None,
    entity: ArrayLike | Sequence[object] | None = None,
    alpha: float = 0.05,
) -> RateRatio:
    """Compare how often a rare event (error, timeout, slow reply) happens, from the events alone.

    ``canary_events[i]``: whether the canary caused the i-th event; ``share[i]``: the canary's share of the traffic at
    that moment (a scalar: of all). Given an event, its arm is a coin with probability pi r / (1 - pi + pi r), whatever
    the base rate does, so drift and ramps cancel (Lindon and Malek, NeurIPS 2022, arXiv 2011.03567; Lindon, Sanden,
    Shirikian, KDD 2022, arXiv 2205.14762).

    Two sizes: harm is a ratio above ``harm_from`` (None: above the tolerated one), and none is one below
    ``tolerated_ratio``. Where the same entities come again and stick to their arm, give ``entity``: only the first
    event of each counts. That is right for rare events only; once most entities have had theirs, the ratio of first
    events tends to 1. ``alpha`` concerns the interval alone.
    """
    harm_from = tolerated_ratio if harm_from is None else harm_from
    require_positive(tolerated_ratio, "tolerated_ratio")
    require_positive(harm_from, "harm_from")
    require_probability(alpha, "alpha")
    canary = arms(canary_events, "canary_events")
    share_then = shares(share, canary)
    kept = first_of_each(entity, len(canary))
    kept = kept[undecided(share_then[kept])]
    canary, share_then = canary[kept], share_then[kept]
    distinct, total = np.unique(share_then, return_counts=True)
    tally = Tally(distinct, total.astype(np.float64), int(canary.sum()))
    return tally.measured(harm_from=harm_from, tolerated=tolerated_ratio, alpha=alpha)


def _root(function: Callable[[FloatArray], FloatArray]) -> float | None:
    """The ratio at which a monotone function of an array of them crosses 0; None when it does not.

    Many places at once, then as many within the two that embrace the root: arithmetic in arrays is what is quick.
    """
    places = np.linspace(-FARTHEST, FARTHEST, FINENESS)
    values = function(np.exp(places))
    if values[0] * values[-1] >= 0:
        return None
    for _ in range(3):
        after = int(np.argmax(np.signbit(values) != np.signbit(values[0])))
        places = np.linspace(places[after - 1], places[after], FINENESS)
        values = function(np.exp(places))
    after = int(np.argmax(np.signbit(values) != np.signbit(values[0])))
    if not after:
        return math.exp(float(places[0]))
    gap = float(values[after] - values[after - 1])
    return math.exp(float(places[after - 1] - values[after - 1] * (places[after] - places[after - 1]) / gap))


def bernoulli_below(errors: int, n: int, tolerated: float) -> float:
    """Evidence that an error rate lies below ``tolerated``, from ``errors`` among ``n`` rows; 0 when n is 0.

    Mean over fractions f of f^errors ((1 - f tolerated) / (1 - tolerated))^(n - errors): likelihood ratios of f times
    the tolerated rate against it, whose expectation under any higher rate is below 1 (Wald 1947; bets on bounded means:
    Waudby-Smith and Ramdas, arXiv 2010.09686). f = 0 is among them, so that spotless traffic proves it soonest.
    """
    require_probability(tolerated, "tolerated")
    if not 0 <= errors <= n:
        raise ValueError(f"errors must lie between 0 and n={n}, not {errors}")
    if errors == 0:
        with_errors = np.zeros(len(FRACTIONS))
    else:
        with_errors = np.full(len(FRACTIONS), -np.inf)
        with_errors[1:] = errors * np.log(FRACTIONS[1:])
    without = (n - errors) * (np.log1p(-FRACTIONS * tolerated) - math.log1p(-tolerated))
    return float(log_mean(with_errors + without))


def sample_ratio(canary: ArrayLike, share: ArrayLike, *, entity: ArrayLike | Sequence[object] | None = None) -> float:
    """Evidence that the canary does not get the share it was given: lost logs, broken stickiness, a wrong route table.

    With a constant share pi: log B(a + s, b + f) - log B(a, b) - s log pi - f log(1 - pi) for s canary and f incumbent
    rows (Lindon and Malek 2022); a / (a + b) = pi. With several shares the evidence of each is added: every row
    multiplies only the e-value of its own share by a factor with expectation 1 given the past, so the product is a
    martingale too, however the shares follow each other. Give ``entity`` where assignment is sticky: what is random is
    the entity, once.
    """
    arm = arms(canary)
    share_then = shares(share, arm)
    kept = first_of_each(entity, len(arm))
    kept = kept[undecided(share_then[kept])]
    distinct, step = np.unique(share_then[kept], return_inverse=True)
    served = np.bincount(step, weights=arm[kept], minlength=len(distinct)).astype(np.float64)
    return split_evidence(distinct, served, np.bincount(step, minlength=len(distinct)) - served)


def split_evidence(share: FloatArray, served: FloatArray, others: FloatArray) -> float:
    """``sample_ratio`` from counts: at ``share[k]`` the canary got ``served[k]`` rows, the incumbent ``others[k]``."""
    from scipy.special import betaln

    weight = PSEUDO_ROWS / np.minimum(share, 1 - share)
    a, b = weight * share, weight * (1 - share)
    gained = betaln(a + served, b + others) - betaln(a, b)
    return float((gained - served * np.log(share) - others * np.log1p(-share)).sum())
