"""Boundaries and evidence for estimates that are asymptotically normal, and mixtures of e-values in general.

The normal mixture puts a normal prior with variance 1/rho on the true difference (half of it for one-sided questions)
and averages the likelihood ratio over it: one martingale that is good around the information it was tuned for and valid
everywhere (Robbins 1970; Howard et al. 2021, arXiv 1810.08240, section 3.2; with estimated variances Waudby-Smith et
al. 2024, arXiv 2103.06476, theorem 2.2, where rho = 1/r^2; the two-sided boundary is also that of the mixture SPRT,
Johari, Pekelis, Walsh, arXiv 1512.04922).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray

Measured = TypeVar("Measured")


def require_probability(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}")


def require_positive(value: float, name: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, not {value}")


def rho_for(information_target: float, *, alpha: float) -> float:
    """The rho whose two-sided boundary at ``alpha`` is tightest when the information equals ``information_target``.

    Choose it before looking: 5 to 25 % of the planned information serves well. Howard et al. 2021:
    rho = I / (-W(-alpha^2 / e) - 1) with the lower branch of Lambert's W.
    """
    from scipy.special import lambertw

    require_positive(information_target, "information_target")
    require_probability(alpha, "alpha")
    return information_target / (-float(lambertw(-(alpha**2) / math.e, k=-1).real) - 1)


def normal_mixture_threshold(information: float, *, alpha: float, rho: float, two_sided: bool) -> float:
    """How large a z statistic may grow by chance, with probability 1 - alpha at all times together.

    ``information`` is 1 / Var(estimate), in the units of ``rho``. Two-sided:
    sqrt((I + rho) / I * log((I + rho) / (rho alpha^2))), Howard et al. 2021, section 3.2; one-sided: their closed form
    sqrt(2 (I + rho) / I * log(1 + sqrt((I + rho) / rho) / (2 alpha))), slightly wider than the exact one that
    ``normal_mixture_evidence`` uses.
    """
    require_positive(information, "information")
    require_positive(rho, "rho")
    require_probability(alpha, "alpha")
    growth = (information + rho) / information
    spent = math.log1p(information / rho)
    if two_sided:
        return math.sqrt(growth * (spent - 2 * math.log(alpha)))
    return math.sqrt(2 * growth * math.log1p(math.exp(spent / 2) / (2 * alpha)))


def normal_mixture_evidence(z: float, information: float, *, rho: float) -> float:
    """Evidence (log e-value) that the mean behind ``z`` is above 0, against "it is 0 or less".

    Half-normal mixture: log[2 sqrt(rho / (I + rho)) exp(z^2 I / (2 (I + rho))) Phi(z sqrt(I / (I + rho)))],
    Howard et al. 2021, one-sided normal mixture. Turn the sign of z for the opposite question.
    """
    from scipy.special import log_ndtr

    require_positive(information, "information")
    require_positive(rho, "rho")
    scaled = z * math.sqrt(information / (information + rho))
    return math.log(2) - math.log1p(information / rho) / 2 + scaled * scaled / 2 + float(log_ndtr(scaled))


def normal_of_t(t: float, degrees: float) -> float:
    """The normal score with (almost) the tail probability of a t score: Wallace 1959.

    A variance estimated from few entities is often too small; without this, early looks raise false alarms.
    """
    size = math.sqrt(degrees * math.log1p(t * t / degrees)) * (8 * degrees + 1) / (8 * degrees + 3)
    return math.copysign(size, t)


def t_of_normal(z: float, degrees: float) -> float:
    """The inverse of ``normal_of_t``; infinite where so few degrees of freedom can not reach such a score."""
    exponent = (z * (8 * degrees + 3) / (8 * degrees + 1)) ** 2 / degrees
    return math.copysign(math.sqrt(degrees * math.expm1(exponent)), z) if exponent < 700 else math.inf


def log_mean(log_evidence: FloatArray, axis: int = 0) -> FloatArray:
    """Logarithm of the plain average of e-values given as logarithms; an average of e-values is an e-value."""
    top = log_evidence.max(axis=axis, keepdims=True)
    averaged: FloatArray = np.log(np.exp(log_evidence - top).mean(axis=axis)) + top.squeeze(axis)
    return averaged


def log_sum(log_evidence: FloatArray, axis: int = 0) -> FloatArray:
    """Logarithm of the sum of e-values given as logarithms: their average, once their weights were added to them."""
    top = log_evidence.max(axis=axis, keepdims=True)
    summed: FloatArray = np.log(np.exp(log_evidence - top).sum(axis=axis)) + top.squeeze(axis)
    return summed


def curve(measure: Callable[..., Measured], looks: Iterable[int], **columns: ArrayLike | None) -> list[Measured]:
    """``measure`` of the first n rows for every n in ``looks``: the evidence as it grew.

    ``columns`` are the row-wise arguments of ``measure`` by name (None stays None); bind all others with
    ``functools.partial``.
    """
    arrays: dict[str, Any] = {name: None if column is None else np.asarray(column) for name, column in columns.items()}
    return [measure(**{name: None if a is None else a[:n] for name, a in arrays.items()}) for n in looks]
