"""One row of numbers without a data frame: the same score to the bit, or not used at all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engines.in_process import open_model
from engines.nameless import asked_barely
from engines.skops_model import way_to_ask

COLUMNS = ("a", "b", "c", "d")


def frame(n: int = 400, *, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, 4)), columns=list(COLUMNS))


def fitted(model: Any, *, columns: Sequence[str] = COLUMNS) -> Any:
    rows = frame()
    return model.fit(rows[list(columns)], rows.sum(axis=1) > 0)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=10),
        RandomForestRegressor(n_estimators=5, random_state=0),
    ],
    ids=["alone", "scaled", "imputed", "boosted", "forest"],
)
def test_asked_barely__plain_models__give_the_frames_score_to_the_bit(model: Any) -> None:
    estimator = fitted(model)
    ask, named = asked_barely(estimator, COLUMNS, way_to_ask), way_to_ask(estimator)
    assert ask is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says nothing of missing names
        for at, row in enumerate(frame(50, seed=1).to_numpy()):
            assert ask(row[np.newaxis]) == named(frame(50, seed=1).iloc[at : at + 1])[0]
    assert list(getattr(estimator, "feature_names_in_", ())) == list(COLUMNS)  # the original forgot nothing


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(ColumnTransformer([("some", StandardScaler(), ["d", "a"])]), LogisticRegression()),
        make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression()),
    ],
    ids=["columns by name", "frames between steps"],
)
def test_asked_barely__names_mean_something__is_not_possible(model: Any) -> None:
    assert asked_barely(fitted(model), COLUMNS, way_to_ask) is None


def test_asked_barely__columns_in_another_order__is_not_possible() -> None:
    assert asked_barely(fitted(LogisticRegression(), columns=("b", "a", "c", "d")), COLUMNS, way_to_ask) is None


def test_asked_barely__another_answer_at_a_probe__is_not_used() -> None:
    calls = count()

    def drifting(estimator: Any) -> Any:
        return lambda rows: np.array([float(next(calls))])

    assert asked_barely(fitted(LogisticRegression()), COLUMNS, drifting) is None


def test_in_process__one_row__is_the_frames_score_to_the_bit(tmp_path: Path) -> None:
    estimator = fitted(make_pipeline(StandardScaler(), LogisticRegression()))
    skops.io.dump(estimator, tmp_path / "model.skops")
    model = open_model(tmp_path / "model.skops", load_class="skops", columns=COLUMNS)
    rows = frame(30, seed=2)
    framed = [way_to_ask(estimator)(rows.iloc[at : at + 1])[0] for at in range(30)]
    alone = [model.scores({name: rows[name].tolist()[at : at + 1] for name in COLUMNS}, 1)[0][0] for at in range(30)]
    as_arrays = [model.scores({name: rows[name].to_numpy()[[at]] for name in COLUMNS}, 1)[0][0] for at in range(30)]
    assert alone == as_arrays == framed


@pytest.mark.parametrize("value", [None, "text", 2**60], ids=["missing", "text", "inexact"])
def test_in_process__one_row_that_it_refuses__says_why_as_of_many(tmp_path: Path, value: Any) -> None:
    skops.io.dump(fitted(make_pipeline(StandardScaler(), LogisticRegression())), tmp_path / "model.skops")
    model = open_model(tmp_path / "model.skops", load_class="skops", columns=COLUMNS)
    row: dict[str, list[Any]] = {name: [0.5] for name in COLUMNS} | {"b": [value]}
    scores, errors = model.scores(row, 1)
    twice, errors_of_two = model.scores({name: values * 2 for name, values in row.items()}, 2)
    assert np.isnan(scores).all()
    assert np.isnan(twice).all()
    assert errors[0] == errors_of_two[0]
