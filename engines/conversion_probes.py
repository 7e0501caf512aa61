"""Rows whose numbers lie exactly on the thresholds of a model's trees, and right beside them.

There the least rounding takes the other branch, and real rows seldom lie there until one day they do: a training with
0.22 and 0.24 splits at 0.22999999999999998, and a row of 0.23 goes right in float64 and left in float32. What stands
before the trees (scaling, filling) is asked, not known: a column is set to both ends of its range, and between the two
answers the threshold's place is found, exact where the answer is a straight line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.pipeline import Pipeline

from engines import skops_model

MOST_THRESHOLDS = 256
"""Thresholds asked for, those that most rows of the training came by first, of every feature in turn."""
BASE_ROWS = 16
"""Real rows of which one number each is moved onto a threshold."""
ROUNDS = 2
"""How often a threshold's place is corrected by what the model makes of it."""
_SINGLE_STEPS = (-1.0, -0.25, 0.25, 1.0)
"""Places beside a threshold in steps of single precision."""
PER_THRESHOLD = 3 + len(_SINGLE_STEPS)

Doubles = npt.NDArray[np.float64]


def probes(estimator: Any, real: pa.Table) -> pa.Table:
    """At most ``MOST_THRESHOLDS * PER_THRESHOLD`` rows on and beside thresholds, of the real rows' columns and types.

    None for a model without trees, and for one whose preparation of rows can not be asked.
    """
    wanted = _by_feature(estimator)
    numbers = [name for name in real.column_names if pa.types.is_float64(real.column(name).type)]
    base = real.take(np.unique(np.linspace(0, len(real) - 1, BASE_ROWS).astype(np.int64)))
    frame = skops_model.frame(base, tuple(real.column_names))
    spans = {name: span for name in numbers if (span := _span(real.column(name))) is not None}
    if not wanted or not spans:
        return real.slice(0, 0)
    try:
        moved = _placed(_Prepared.of(estimator), frame, spans, wanted)
    except (TypeError, ValueError):  # scikit-learn's words for rows that it does not take
        return real.slice(0, 0)
    return pa.Table.from_pandas(moved, schema=real.schema, preserve_index=False)


def thresholds(estimator: Any) -> Iterator[tuple[int, float, int]]:
    """Feature, threshold and rows of training of every split of the trees in an estimator."""
    if isinstance(estimator, Pipeline):
        yield from thresholds(estimator.steps[-1][1])
    for predictor in (each for trees in getattr(estimator, "_predictors", ()) for each in trees):
        splits = predictor.nodes[(predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] == 0)]
        yield from zip(
            splits["feature_idx"].tolist(), splits["num_threshold"].tolist(), splits["count"].tolist(), strict=True
        )
    tree = getattr(estimator, "tree_", None)
    if tree is not None and hasattr(tree, "children_left"):
        at = tree.children_left >= 0
        yield from zip(
            tree.feature[at].tolist(), tree.threshold[at].tolist(), tree.n_node_samples[at].tolist(), strict=True
        )
    for member in _members(estimator):
        if not isinstance(member, Pipeline):  # its trees see other features than the whole is given
            yield from thresholds(member)


def _members(estimator: Any) -> Iterator[Any]:
    """The fitted estimators in an estimator that are given the same rows as itself."""
    members = getattr(estimator, "estimators_", ())
    yield from members.ravel() if isinstance(members, np.ndarray) else members
    for calibrated in getattr(estimator, "calibrated_classifiers_", ()):
        yield calibrated.estimator


def _by_feature(estimator: Any) -> dict[int, list[float]]:
    """The finite thresholds of each feature, those that most rows came by first."""
    rows: dict[tuple[int, float], int] = {}
    for feature, threshold, came_by in thresholds(estimator):
        if np.isfinite(threshold):
            rows[feature, threshold] = rows.get((feature, threshold), 0) + came_by
    found: dict[int, list[float]] = {}
    for feature, threshold in sorted(rows, key=lambda split: (-rows[split], split)):
        found.setdefault(feature, []).append(threshold)
    return found


def _span(column: pa.ChunkedArray) -> tuple[float, float] | None:
    """Both ends of a column's finite values, apart from each other."""
    values = column.to_numpy()
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) and finite.min() < finite.max() else None


# ---------------------------------------------------------------------- what stands before the trees


@dataclass(frozen=True)
class _Prepared:
    """What a pipeline makes of rows before its last step; without a pipeline, the rows themselves."""

    steps: Any

    @classmethod
    def of(cls, estimator: Any) -> _Prepared:
        return cls(estimator[:-1] if isinstance(estimator, Pipeline) and len(estimator.steps) > 1 else None)

    def __call__(self, frame: pd.DataFrame) -> Doubles:
        """One row each of the features that the trees compare."""
        made = frame if self.steps is None else self.steps.transform(frame)
        return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)


def _placed(
    prepared: _Prepared, frame: pd.DataFrame, spans: dict[str, tuple[float, float]], wanted: dict[int, list[float]]
) -> pd.DataFrame:
    """The base rows with one number each on a threshold or beside it."""
    size = len(frame)
    ends = [frame.assign(**{name: end}) for name, span in spans.items() for end in span]
    answers = prepared(pd.concat(ends, ignore_index=True)).reshape(len(spans), 2, size, -1)
    chosen = _chosen(answers, list(spans), wanted)
    rows = np.arange(len(chosen)) % size
    columns = np.array([column for column, _, _ in chosen], dtype=np.int64)
    features = np.array([feature for _, feature, _ in chosen], dtype=np.int64)
    aims = np.array([threshold for _, _, threshold in chosen], dtype=np.float64)
    low = np.array([span[0] for span in spans.values()])[columns]
    high = np.array([span[1] for span in spans.values()])[columns]
    at_low, at_high = answers[columns, 0, rows, features], answers[columns, 1, rows, features]
    with np.errstate(all="ignore"):  # a feature that does not move in one of the rows
        slopes = (high - low) / (at_high - at_low)
        places = np.where((at_low == low) & (at_high == high), aims, low + (aims - at_low) * slopes)
    names = [list(spans)[column] for column in columns]
    fits = np.isfinite(places) & np.isfinite(slopes)
    places, slopes = np.where(fits, places, low), np.where(fits, slopes, 0.0)
    for _ in range(ROUNDS if len(chosen) else 0):
        answered = prepared(_with(frame, rows, names, places))[np.arange(len(chosen)), features]
        places = places + np.nan_to_num((aims - answered) * slopes)
    beside = _beside(places)
    return _with(frame, np.repeat(rows, PER_THRESHOLD), [name for name in names for _ in range(PER_THRESHOLD)], beside)


def _chosen(answers: Doubles, names: list[str], wanted: dict[int, list[float]]) -> list[tuple[int, int, float]]:
    """Column (its number), feature and threshold: of each feature that a column moves, in turn, its next threshold."""
    moves = np.isfinite(answers).all(axis=1) & (answers[:, 0] != answers[:, 1])
    pairs = [
        (column, feature)
        for column in range(len(names))
        for feature in np.flatnonzero(moves[column].any(axis=0)).tolist()
        if feature in wanted
    ]
    turns = max((len(each) for each in wanted.values()), default=0)
    in_turn = (
        (column, feature, wanted[feature][turn])
        for turn in range(turns)
        for column, feature in pairs
        if turn < len(wanted[feature])
    )
    return [each for each, _ in zip(in_turn, range(MOST_THRESHOLDS), strict=False)]


def _beside(places: Doubles) -> Doubles:
    """Each place, its neighbours in double precision and some within a step of single precision; one after another."""
    step = np.spacing(np.abs(places).astype(np.float32)).astype(np.float64)
    beside = [places, np.nextafter(places, -np.inf), np.nextafter(places, np.inf)]
    return np.stack([*beside, *(places + step * by for by in _SINGLE_STEPS)], axis=1).ravel()


def _with(frame: pd.DataFrame, rows: npt.NDArray[np.int64], names: list[str], places: Doubles) -> pd.DataFrame:
    """The frame's ``rows``, of each one named number replaced."""
    moved = frame.iloc[rows].reset_index(drop=True)
    which = np.array(names, dtype=object)
    for name in dict.fromkeys(names):
        moved[name] = np.where(which == name, places, moved[name].to_numpy())
    return moved
