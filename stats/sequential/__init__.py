"""Comparing a canary with the incumbent while traffic is still coming: valid at every look, however often one looks.

Every measurement answers in *evidence*: the natural logarithm of an e-value, a non-negative number whose expectation is
at most 1 when the hypothesis it speaks against is true, at any time chosen by looking at the data (Ville 1939; Howard,
Ramdas, McAuliffe, Sekhon 2021, arXiv 1810.08240). Evidence of at least ``log(1 / alpha)`` at *any* look wrongly speaks
against a true hypothesis with probability at most ``alpha``. 0 says nothing, negative evidence favours the hypothesis.
``harm`` speaks against "not worse than tolerated", ``no_harm`` against "worse than tolerated or just so".
Several metrics share one error by splitting alpha between them (union bound). No threshold lives here.

========================  ====================================================================================
question                  function
========================  ====================================================================================
errors, timeouts, rare    ``rate_ratio``: exact, needs no variance, immune to a drifting base rate and to ramps
"errors are below x %"    ``bernoulli_below``: exact, absolute
latency, loss, outcomes   ``mean_difference``: per ramp step, by entity; logarithms of heavy-tailed values
shadow against champion   ``paired_mean``: the same request scored twice
prediction distribution   ``rank_shift``: exact, sees location, spread and shape
the routing itself        ``sample_ratio``: is the split what was asked for
========================  ====================================================================================

What the arithmetic can not mend, the caller must: give only outcomes whose window has closed (counting those that
happened to arrive favours the arm that was served longer: 73 % false alarms in a ramp), and the canary share as it was
at the moment of each row.
"""

from __future__ import annotations

from stats.sequential.counts import RateRatio, bernoulli_below, rate_ratio, sample_ratio
from stats.sequential.means import MeanDifference, mean_difference, paired_mean
from stats.sequential.mixture import curve, normal_mixture_evidence, normal_mixture_threshold, rho_for
from stats.sequential.ranks import RankShift, rank_shift

__all__ = [
    "MeanDifference",
    "RankShift",
    "RateRatio",
    "bernoulli_below",
    "curve",
    "mean_difference",
    "normal_mixture_evidence",
    "normal_mixture_threshold",
    "paired_mean",
    "rank_shift",
    "rate_ratio",
    "rho_for",
    "sample_ratio",
]
