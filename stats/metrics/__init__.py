"""How good predictions are, with uncertainty: one version alone, and two versions on the same rows.

Conventions: ``y`` holds outcomes (0 or 1 in classification), ``p`` scores in [0, 1], all of shape (n,). ``None`` where
the question has no answer (no rows, one class only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval
from stats.metrics.calibration import ece, ece_interval, ece_rows, mean_gap, mean_gap_rows
from stats.metrics.decisions import (
    SHARES,
    accuracy,
    balanced_accuracy,
    decision_rows,
    f1,
    precision,
    recall,
    specificity,
)
from stats.metrics.errors import mae, mae_rows, r2, r2_rows, rmse, rmse_rows
from stats.metrics.probabilities import (
    average_precision,
    average_precision_rows,
    brier,
    brier_difference,
    brier_pulls,
    brier_rows,
    log_loss,
    log_loss_pulls,
    log_loss_rows,
    paired_auc_difference,
    roc_auc,
    roc_auc_rows,
)
from stats.metrics.rows import Linear

__all__ = [
    "METRICS",
    "Linear",
    "Metric",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "brier_difference",
    "brier_rows",
    "ece",
    "ece_interval",
    "f1",
    "log_loss",
    "log_loss_rows",
    "mae",
    "mean_gap",
    "paired_auc_difference",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "specificity",
]


@dataclass(frozen=True)
class Metric:
    """A named metric: the function from (y, p, confidence) to its interval, and which direction is good.

    ``label`` is its name for a person; ``linear`` the metric to first order, for comparisons. Metrics of decisions take
    the ``threshold`` above which a row is acted on; for the others it means nothing.
    """

    name: str
    label: str
    measure: Callable[..., Interval | None]
    linear: Callable[..., Linear | None]
    greater_is_better: bool

    @property
    def is_of_decisions(self) -> bool:
        return self.name in SHARES

    @property
    def is_folded(self) -> bool:
        """Whether it is the size of something that may go either way."""
        return self.name in {"calibration_gap", "absolute_bias"}

    def value(self, y: ArrayLike, p: ArrayLike, *, threshold: float, confidence: float) -> Interval | None:
        """The metric with its interval, decisions taken at ``threshold``."""
        if self.is_of_decisions:
            return self.measure(y, p, confidence, threshold=threshold)
        return self.measure(y, p, confidence)

    def to_first_order(self, y: FloatArray, p: FloatArray, *, threshold: float) -> Linear | None:
        """The metric and each row's pull on it, decisions taken at ``threshold``."""
        return self.linear(y, p, threshold) if self.is_of_decisions else self.linear(y, p)


def _decision(name: str, label: str, measure: Callable[..., Interval | None]) -> Metric:
    return Metric(name, label, measure, partial(decision_rows, name), greater_is_better=True)


def _loss(
    name: str, label: str, measure: Callable[..., Interval | None], linear: Callable[..., Linear | None]
) -> Metric:
    return Metric(name, label, measure, linear, greater_is_better=False)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "AUC", roc_auc, roc_auc_rows, greater_is_better=True),
        Metric("average_precision", "average precision", average_precision, average_precision_rows, True),
        _loss("brier", "Brier score", brier, brier_pulls),
        _loss("log_loss", "log loss", log_loss, log_loss_pulls),
        _loss("ece", "calibration error", ece_interval, ece_rows),
        _loss("calibration_gap", "calibration gap", mean_gap, mean_gap_rows),
        _decision("accuracy", "accuracy", accuracy),
        _decision("balanced_accuracy", "balanced accuracy", balanced_accuracy),
        _decision("precision", "precision", precision),
        _decision("recall", "recall", recall),
        _decision("specificity", "specificity", specificity),
        _decision("f1", "F1", f1),
        _loss("mae", "mean absolute error", mae, mae_rows),
        _loss("rmse", "root mean squared error", rmse, rmse_rows),
        Metric("r2", "R²", r2, r2_rows, greater_is_better=True),
        _loss("absolute_bias", "bias", mean_gap, mean_gap_rows),
    )
}
"""Metrics by name; ``greater_is_better`` tells which side of the interval has to clear a bar."""
