"""The curves that a person would rather look at than a number, of both versions on the same rows, as plain JSON.

Every interval here is *pointwise*: it holds for one place of the curve, not for the whole of it. A binary task has

    {"confidence": 0.95, "threshold": 0.5, "rows": 13000,
     "roc":         {"candidate": {"threshold": [...], "fpr": [...], "tpr": [...], "low": [...], "high": [...]}, …},
     "pr":          {"candidate": {"threshold": [...], "recall": [...], "precision": [...], "low", "high"}, …},
     "calibration": {"candidate": {"predicted": [...], "observed": [...], "low": [...], "high": [...], "n": [...]}, …},
     "scores":      {"edges": [...], "candidate": {"negatives": [...], "positives": [...]}, …}}

and a regression ``"residuals"`` ({"edges": …, "candidate": [counts]}, residual = predicted − actual) and
``"predicted_vs_actual"`` (as ``calibration``) instead. ``champion`` stands beside ``candidate`` where there is one. No
curve has more than 100 points; a curve that does not exist (one class only, no rows) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gates.frozen import Json
from stats.interval import FloatArray, Interval, mean_interval, wilson
from stats.metrics.calibration import bins_of

POINTS = 100
SCORE_BINS = 40
BINARY = "binary_classification"


def curves(
    task: str,
    y: FloatArray,
    candidate: FloatArray,
    champion: FloatArray | None,
    *,
    threshold: float,
    confidence: float,
) -> Json:
    """The task's curves of both versions, on the rows that each could score."""
    arms = {"candidate": candidate} | ({} if champion is None else {"champion": champion})
    scored = {name: (y[np.isfinite(p)], p[np.isfinite(p)]) for name, p in arms.items()}
    kinds: Mapping[str, Callable[[FloatArray, FloatArray], Json | None]]
    if task == BINARY:
        kinds = {
            "roc": lambda outcomes, p: _roc(outcomes, p, confidence),
            "pr": lambda outcomes, p: _precision_recall(outcomes, p, confidence),
            "calibration": lambda outcomes, p: _calibration(outcomes, p, confidence),
        }
        histogram = {"scores": _score_histogram(scored)}
    else:
        kinds = {"predicted_vs_actual": lambda outcomes, p: _predicted_vs_actual(outcomes, p, confidence)}
        histogram = {"residuals": _residual_histogram(scored)}
    drawn = {
        kind: {name: curve for name, (outcomes, p) in scored.items() if (curve := draw(outcomes, p)) is not None}
        for kind, draw in kinds.items()
    }
    found = {kind: each for kind, each in (drawn | histogram).items() if each}
    return {"confidence": confidence, "threshold": threshold, "rows": len(y), **found}


def _cuts(y: FloatArray, p: FloatArray) -> FloatArray:
    """At most 98 scores to cut at, from the highest: every one where there are few, else as many of each class."""
    values = np.unique(p)
    if len(values) > POINTS - 2:
        share = np.linspace(0, 1, (POINTS - 2) // 2)
        values = np.unique(np.concatenate([np.quantile(p[y == each], share, method="nearest") for each in (0, 1)]))
    return values[::-1]


def _found_at(y: FloatArray, p: FloatArray, cuts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """True and false positives when every row at or above a cut is acted on."""
    positives, negatives = np.sort(p[y == 1]), np.sort(p[y == 0])
    true = len(positives) - np.searchsorted(positives, cuts, side="left")
    false = len(negatives) - np.searchsorted(negatives, cuts, side="left")
    return true.astype(np.float64), false.astype(np.float64)


def _has_both(y: FloatArray) -> bool:
    return 0 < int((y == 1).sum()) < len(y)


def _roc(y: FloatArray, p: FloatArray, confidence: float) -> Json | None:
    """False and true positive rate, from nobody to everybody; the interval is of the latter (Wilson)."""
    if not _has_both(y):
        return None
    cuts = _cuts(y, p)
    true, false = _found_at(y, p, cuts)
    positives = int((y == 1).sum())
    true, false = np.concatenate([[0.0], true]), np.concatenate([[0.0], false])
    low, high = _wilson(true, np.full(len(true), float(positives)), confidence)
    return {
        "threshold": [None, *_plain(cuts)],
        "fpr": _plain(false / (len(y) - positives)),
        "tpr": _plain(true / positives),
        "low": low,
        "high": high,
    }


def _precision_recall(y: FloatArray, p: FloatArray, confidence: float) -> Json | None:
    """Precision against recall from the highest score down; the interval is of the precision (Wilson)."""
    if not _has_both(y):
        return None
    cuts = _cuts(y, p)
    true, false = _found_at(y, p, cuts)
    low, high = _wilson(true, true + false, confidence)
    return {
        "threshold": _plain(cuts),
        "recall": _plain(true / float((y == 1).sum())),
        "precision": _plain(true / (true + false)),
        "low": low,
        "high": high,
    }


def _calibration(y: FloatArray, p: FloatArray, confidence: float) -> Json | None:
    """Observed share by predicted probability, in bins of about equal mass; the interval is of the share (Wilson)."""
    bins = bins_of(y, p)
    if bins is None:
        return None
    low, high = _wilson(bins.observed * bins.n, bins.n.astype(np.float64), confidence)
    observed = {"predicted": _plain(bins.predicted), "observed": _plain(bins.observed)}
    return {**observed, "low": low, "high": high, "n": [int(each) for each in bins.n]}


def _predicted_vs_actual(y: FloatArray, p: FloatArray, confidence: float) -> Json | None:
    """The mean of what came by what was predicted, in bins of about equal mass; the interval is of that mean."""
    bins = bins_of(y, p)
    if bins is None:
        return None
    found = [mean_interval(y[bins.of_row == each], confidence=confidence) for each in range(len(bins.n))]
    means = [each or _point(float(bins.observed[place]), confidence) for place, each in enumerate(found)]
    return {
        "predicted": _plain(bins.predicted),
        "observed": [each.estimate for each in means],
        "low": [each.low for each in means],
        "high": [each.high for each in means],
        "n": [int(each) for each in bins.n],
    }


def _point(value: float, confidence: float) -> Interval:
    return Interval(value, value, value, 1, confidence)


def _score_histogram(scored: Mapping[str, tuple[FloatArray, FloatArray]]) -> Json:
    """How many rows of each outcome have which score."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    counted = {
        name: {
            word: [int(each) for each in np.histogram(p[y == outcome], edges)[0]]
            for word, outcome in (("negatives", 0), ("positives", 1))
        }
        for name, (y, p) in scored.items()
        if len(y)
    }
    return {"edges": _plain(edges), **counted} if counted else {}


def _residual_histogram(scored: Mapping[str, tuple[FloatArray, FloatArray]]) -> Json:
    """How many rows are predicted too low or too high, and by how much; the outer bins hold all that lies beyond."""
    residuals = {name: p - y for name, (y, p) in scored.items() if len(y)}
    if not residuals:
        return {}
    everything = np.concatenate(list(residuals.values()))
    low, high = (float(each) for each in np.quantile(everything, [0.005, 0.995]))
    edges = np.linspace(low, high, SCORE_BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counted = {
        name: [int(each) for each in np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]]
        for name, values in residuals.items()
    }
    return {"edges": _plain(edges), **counted}


def _wilson(successes: FloatArray, n: FloatArray, confidence: float) -> tuple[list[float], list[float]]:
    found = [wilson(round(x), int(rows), confidence=confidence) for x, rows in zip(successes, n, strict=True)]
    known = [each or Interval(0.0, 0.0, 1.0, 0, confidence) for each in found]
    return [each.low for each in known], [each.high for each in known]


def _plain(values: FloatArray) -> list[float]:
    return [float(each) for each in values]
