"""How much worse a metric is in a segment of the rows than over all of them, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.interval import FloatArray
from stats.metrics import METRICS, Linear
from stats.metrics.decisions import SHARES, at_counts, cells_of
from stats.metrics.rows import effective, standard_error


@dataclass(frozen=True)
class Contrast:
    """``worse_by``: how much worse the segment is than all rows, in the metric's unit; below zero it is better.

    ``freedom``: degrees of freedom of its standard error. ``half_step``: half of what one row is worth. ``sides``: 2
    for sizes of something that may go either way. ``bias``: what small segments look worse by without being it.
    """

    worse_by: float
    standard_error: float
    freedom: float
    half_step: float
    sides: int
    bias: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def p_value(self, margin: float) -> float:
        """One-sided: how likely so bad a segment is when it is truly worse than all rows by no more than ``margin``."""
        from scipy.special import stdtr

        distance = self.worse_by - self.bias - margin - self.half_step
        if self.standard_error <= 0:
            return 0.0 if distance > 0 else 1.0
        return min(1.0, self.sides * float(stdtr(self.freedom, -distance / self.standard_error)))


def rows_that_speak(metric: str, y: FloatArray, p: FloatArray, *, threshold: float) -> int:
    """How many rows the metric rests on: of the rarer class for a ranking, of the smallest denominator for shares."""
    if metric in SHARES:
        counts = np.bincount(cells_of(y, p, threshold), minlength=4)
        return int(min(np.array(share.among) @ counts for share in SHARES[metric]))
    positives = int((y == 1).sum())
    if metric == "roc_auc":
        return min(positives, len(y) - positives)
    return positives if metric == "average_precision" else len(y)


def contrast(
    metric: str,
    y: FloatArray,
    p: FloatArray,
    segment: NDArray[np.bool_],
    *,
    overall: Linear | None,
    threshold: float,
) -> Contrast | None:
    """The metric among the rows of ``segment`` against all rows (``overall``, the metric to first order), which hold
    the segment: their common rows are counted by each row's influence on both (Efron 1982, section 6.3).

    A metric of decisions gets the larger of that spread and the one of a segment with all rows' true and false positive
    rates (a score test): a segment where by chance nobody was found has no spread of its own. None without a value.
    """
    described = METRICS[metric]
    within = described.to_first_order(y[segment], p[segment], threshold=threshold)
    if overall is None or within is None:
        return None
    sign = -1.0 if described.greater_is_better else 1.0
    rows = _difference(overall, within, segment)
    speaking = effective(rows)
    error, freedom, half_step = standard_error(rows), max(speaking - 1, 1.0), 0.0
    if described.is_of_decisions:
        error, half_step = _score_error(metric, y, p, segment, threshold, at_least=error)
        freedom = float(len(y))
    return Contrast(
        worse_by=sign * (within.estimate - overall.estimate),
        standard_error=error,
        freedom=freedom,
        half_step=half_step,
        sides=2 if described.is_folded else 1,
        bias=within.bias,
    )


def _difference(overall: Linear, within: Linear, segment: NDArray[np.bool_]) -> FloatArray:
    """Influence of every row on the difference: mean zero, shape (n,)."""
    rows = -overall.rows
    rows[segment] += within.rows * (len(segment) / len(within.rows))
    return rows


def _score_error(
    metric: str, y: FloatArray, p: FloatArray, segment: NDArray[np.bool_], threshold: float, *, at_least: float
) -> tuple[float, float]:
    """The standard error if the segment were like all rows, and half a row's worth of the metric there."""
    cells = cells_of(y, p, threshold)
    every = np.bincount(cells, minlength=4).astype(np.float64)
    here = np.bincount(cells[segment], minlength=4).astype(np.float64)
    negatives, positives = here[:2].sum(), here[2:].sum()
    alike = np.concatenate([_spread(every[:2], negatives), _spread(every[2:], positives)])
    expected = at_counts(metric, alike)
    seen = at_counts(metric, here)
    if expected is None or seen is None:
        return at_least, 0.0
    n = float(here.sum())
    variance = float(alike @ expected.influence**2) / n
    error = math.sqrt(variance / n * (1 - n / len(y)))
    return max(error, at_least), seen.half_step


def _spread(counts: FloatArray, total: float) -> FloatArray:
    """So many rows, shared out as ``counts`` are."""
    shared: FloatArray = counts * (total / counts.sum()) if counts.sum() > 0 else np.zeros(2)
    return shared
