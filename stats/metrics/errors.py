"""How far predictions of a quantity lie from what came."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval
from stats.metrics.rows import Linear, around, mean_loss, pair, span


def mae(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Mean absolute error, in the label's unit. An unseen row may err by all that outcomes and predictions span."""
    outcomes, scores = pair(y, p)
    return mean_loss(np.abs(outcomes - scores), reach=span(outcomes, scores), confidence=confidence)


def mae_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """The mean absolute error and each row's pull on it."""
    return mean_rows(np.abs(y - p), reach=span(y, p))


def rmse(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Root mean squared error, in the label's unit; the root of the mean square's interval."""
    outcomes, scores = pair(y, p)
    square = mean_loss((outcomes - scores) ** 2, reach=span(outcomes, scores) ** 2, confidence=confidence)
    if square is None:
        return None
    low, high = math.sqrt(max(0.0, square.low)), math.sqrt(square.high)
    return Interval(math.sqrt(square.estimate), low, high, square.n, confidence)


def rmse_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """The root mean square and each row's pull on it (delta method)."""
    if len(y) < 2:
        return None
    squares = (y - p) ** 2
    mean = float(squares.mean())
    root = math.sqrt(mean)
    if root == 0:
        return Linear(root, np.zeros(len(y)), reach=span(y, p))
    return Linear(root, (squares - mean) / (2 * root), reach=span(y, p) ** 2 / (2 * root))


def r2(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Share of the outcomes' variance that the predictions explain; below zero they do worse than the mean would.

    Delta method over both mean squares. None for outcomes that are all equal.
    """
    linear = r2_rows(*pair(y, p))
    if linear is None:
        return None
    found = around(linear.estimate, linear.rows, reach=linear.reach, confidence=confidence)
    return Interval(found.estimate, found.low, min(1.0, found.high), found.n, confidence)


def r2_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """R² and each row's pull on it (delta method)."""
    if len(y) < 2 or np.ptp(y) == 0:
        return None
    errors, spread = (y - p) ** 2, (y - y.mean()) ** 2
    unexplained = float(errors.mean() / spread.mean())
    whole = float(spread.mean())
    return Linear(1 - unexplained, (unexplained * spread - errors) / whole, reach=span(y, p) ** 2 / whole)


def mean_rows(values: FloatArray, *, reach: float) -> Linear | None:
    """A mean; each row pulls by its distance from it."""
    if len(values) < 2:
        return None
    mean = float(values.mean())
    return Linear(mean, values - mean, reach=reach)
