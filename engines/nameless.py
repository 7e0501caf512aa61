"""Ask a scikit-learn estimator for one row of numbers without a data frame around it.

An estimator that was fitted on a data frame expects one at each call, only to look at the column names and take the
numbers out again: of one row that costs five times what the arithmetic does. A copy of the estimator that has forgotten
the names takes the bare numbers. It shares everything else with the original, and is used only where it answered the
original's scores to the bit at every probe.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

Row = npt.NDArray[np.float64]
"""Of shape [1, columns]."""

PLAIN = frozenset(
    [
        *("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "QuantileTransformer", "PowerTransformer"),
        *("SimpleImputer", "LogisticRegression", "LinearRegression", "Ridge", "Lasso", "ElasticNet", "SGDClassifier"),
        *("DecisionTreeClassifier", "DecisionTreeRegressor", "RandomForestClassifier", "RandomForestRegressor"),
        *("ExtraTreesClassifier", "ExtraTreesRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor"),
        *("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
    ]
)
"""Classes of scikit-learn to which names mean nothing: they work on a matrix of numbers."""
NAMES = "feature_names_in_"
_PROBES = 24


def asked_barely(
    estimator: Any, columns: Sequence[str], way_to_ask: Callable[[Any], Callable[[Any], Any]]
) -> Callable[[Row], float] | None:
    """How to ask for the score of a row of numbers; None where the estimator needs its data frame.

    ``way_to_ask`` makes of an estimator what answers a frame, or a matrix, with one number per row.
    """
    forgotten = _without_names(estimator, columns)
    if forgotten is None:
        return None
    named, bare = way_to_ask(estimator), way_to_ask(forgotten)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows at the extreme probes
        for row in _probes(len(columns)):
            if not _same(_said(named, pd.DataFrame(row, columns=list(columns))), _said(bare, row)):
                return None
    return lambda row: float(bare(row)[0])


def _without_names(estimator: Any, columns: Sequence[str]) -> Any | None:
    """A copy that shares everything but the names; None where names may mean something."""
    if type(estimator) is not Pipeline:
        return _nameless(estimator, columns)
    (name, first), *others = estimator.steps
    if any(hasattr(step, NAMES) for _, step in others):  # data frames go from step to step
        return None
    forgotten = _nameless(first, columns)
    if forgotten is None:
        return None
    pipeline = copy.copy(estimator)
    pipeline.steps = [(name, forgotten), *others]
    return pipeline


def _nameless(estimator: Any, columns: Sequence[str]) -> Any | None:
    kind = type(estimator)
    if kind.__name__ not in PLAIN or not kind.__module__.startswith("sklearn."):
        return None
    names = estimator.__dict__.get(NAMES)
    if names is None or list(names) != list(columns):
        return None
    forgotten = copy.copy(estimator)
    delattr(forgotten, NAMES)
    return forgotten


def _probes(columns: int) -> Iterator[Row]:
    """Rows of usual and of extreme numbers, and rows with values missing."""
    random = np.random.default_rng(0)
    for scale in (0.0, 1e-6, 1.0, 1e6, 1e300):
        yield random.normal(size=(1, columns)) * scale
    for _ in range(_PROBES):
        row = random.normal(size=(1, columns)) * random.choice([1.0, 100.0])
        yield np.where(random.random(row.shape) < random.choice([0.0, 0.3]), np.nan, row)


def _said(ask: Callable[[Any], Any], rows: Any) -> npt.NDArray[np.float64] | None:
    """The answer; None for a refusal."""
    try:
        return np.asarray(ask(rows), dtype=np.float64)
    except Exception:  # noqa: BLE001  # the model is not our code: whatever it raises is a refusal
        return None


def _same(one: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and one.tobytes() == other.tobytes()
