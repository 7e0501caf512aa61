"""Conversion to ONNX in the real child: what is converted, how the difference is found, what is refused."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from engines import conversion, scoring
from engines.conversion import Converted, NotConvertible
from engines.scoring import Scorer, Unscorable

TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any) -> Path:
        path = tmp_path / "model.skops"
        skops.io.dump(content, path)
        return path

    return save


Save = Callable[[Any], Path]


def rows(count: int = 600) -> pd.DataFrame:
    """Two numbers, one with nulls, and a text with nulls."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"size": rng.normal(size=count), "age": rng.integers(0, 90, count).astype(float)})
    frame["shop"] = rng.choice(["a", "b", "c"], count).astype(object)
    frame.loc[::9, "age"] = np.nan
    frame.loc[::11, "shop"] = np.nan
    return frame


def late(frame: pd.DataFrame) -> Any:
    return ((frame["size"] + (frame["shop"] == "b") + frame["age"].isna()) > 0.4).astype(int)


def boosted(encoder: Any) -> Pipeline:
    """Trees that take nulls as they are."""
    coded = make_column_transformer((encoder, ["shop"]), ("passthrough", ["size", "age"]))
    frame = rows()
    return make_pipeline(coded, HistGradientBoostingClassifier(max_iter=30)).fit(frame, late(frame))


def convert(path: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Converted:
    asked = rows() if frame is None else frame
    table = pa.Table.from_pandas(asked, preserve_index=False)
    return conversion.convert(path, **{"columns": list(asked), "rows": table, "tolerance": TOLERANCE, **changes})


def test_convert__trees_with_nulls_and_texts__answers_alike(saved: Save) -> None:
    coded = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    made = convert(saved(boosted(coded)))
    assert made.is_within(TOLERANCE)
    assert (made.rows, made.errors, made.disagreements) == (600, 0, 0)
    assert made.variations == 24  # four rows for each of three columns, twice
    assert made.probes > 200
    assert set(made.libraries) >= {"skl2onnx", "onnxruntime", "scikit-learn"}


def test_convert__missing_text_is_a_category__answers_alike(saved: Save) -> None:
    assert convert(saved(boosted(OneHotEncoder(handle_unknown="ignore", sparse_output=False)))).is_within(TOLERANCE)


def test_convert__its_bytes__answer_in_a_scorer_as_the_original(saved: Save, tmp_path: Path) -> None:
    model = boosted(OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    (tmp_path / "model.onnx").write_bytes(convert(saved(model)).content)
    asked = rows(50)
    asked.loc[0, "shop"] = "never seen"
    with Scorer(tmp_path / "model.onnx", load_class="onnx", columns=list(asked)) as scorer:
        scored = scorer.predict(pa.Table.from_pandas(asked, preserve_index=False))
    assert scored.errors == {}
    np.testing.assert_allclose(scored.scores, model.predict_proba(asked)[:, 1], atol=TOLERANCE)


def test_convert__model_that_refuses_null__its_onnx_does_too(saved: Save, tmp_path: Path) -> None:
    frame = rows()[["size"]]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, frame["size"] > 0)
    made = convert(saved(model), frame)
    assert made.is_within(TOLERANCE)
    metadata = {each.key: each.value for each in onnx.ModelProto.FromString(made.content).metadata_props}
    assert json.loads(metadata["gatehouse.refuses_null"]) == ["size"]
    (tmp_path / "model.onnx").write_bytes(made.content)
    with Scorer(tmp_path / "model.onnx", load_class="onnx", columns=["size"]) as scorer:
        scored = scorer.predict(pa.table({"size": [1.0, None]}))
    assert set(scored.errors) == {1}
    assert "size is missing" in scored.errors[1]


def test_convert__encoder_that_raises_at_unknown_text__onnx_raises_as_well(saved: Save) -> None:
    frame = rows().dropna()
    coded = make_column_transformer((OneHotEncoder(handle_unknown="error"), ["shop"]), ("passthrough", ["size", "age"]))
    model = make_pipeline(coded, LogisticRegression(max_iter=500)).fit(frame, late(frame))
    made = convert(saved(model), frame)
    assert made.disagreements == 0
    assert made.is_within(TOLERANCE)


def nearly_one() -> pd.DataFrame:
    """Numbers whose differences single precision does not know."""
    return pd.DataFrame({"x": np.random.default_rng(1).normal(size=3000) * 1e-9 + 1.0})


def test_convert__forest_of_scaled_numbers_that_single_precision_merges__answers_alike(saved: Save) -> None:
    frame = nearly_one()
    model = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(frame, frame["x"] > 1)
    made = convert(saved(model), frame)
    assert made.probes > 0
    assert made.is_within(1e-7)


def test_convert__converter_that_knows_single_precision_only__is_found_out(saved: Save) -> None:
    frame = nearly_one()
    made = convert(
        saved(make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)).fit(frame)), frame
    )
    assert not made.is_within(TOLERANCE)
    assert made.max_difference > 0.1
    assert made.worst[0]["original"] != made.worst[0]["onnx"]


def rain(count: int = 400) -> pd.DataFrame:
    """Two texts, and rain of 0.22 or 0.24: a tree splits between them at 0.22999999999999998, below 0.23."""
    frame = pd.DataFrame({"precip": np.resize([0.22, 0.24], count)})
    frame["shop"] = np.resize(np.array(["a", "b", "b"], dtype=object), count)
    return frame


def test_convert__threshold_just_below_a_value_that_comes_later__takes_the_same_branch(
    saved: Save, tmp_path: Path
) -> None:
    frame = rain()
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    coded = make_column_transformer((unknown, ["shop"]), ("passthrough", ["precip"]))
    model = make_pipeline(coded, HistGradientBoostingClassifier(max_iter=30)).fit(frame, frame["precip"] > 0.23)
    assert np.float32(0.23) <= np.float32(0.22999999999999998)  # where single precision goes left
    made = convert(saved(model), frame)
    assert made.is_within(1e-7)
    (tmp_path / "model.onnx").write_bytes(made.content)
    asked = rain(6).assign(precip=[0.23, 0.22999999999999998, np.nextafter(0.23, 0), np.nextafter(0.23, 1), 0.22, 0.24])
    expected = model.predict_proba(asked)[:, 1]
    assert expected[0] == expected[5] > expected[1] == expected[4]
    with Scorer(tmp_path / "model.onnx", load_class="onnx", columns=list(asked)) as scorer:
        scored = scorer.predict(pa.Table.from_pandas(asked, preserve_index=False)).scores
    assert scored[0] == scored[5] > scored[1] == scored[4]  # the very same leaves
    np.testing.assert_allclose(scored, expected, rtol=0, atol=1e-7)  # ONNX gives the sum of leaves as float32


FILLED = make_pipeline(SimpleImputer(), StandardScaler())


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingRegressor(max_iter=20),
        GradientBoostingClassifier(n_estimators=20),
        GradientBoostingRegressor(n_estimators=20),
        RandomForestRegressor(20, random_state=0),
        DecisionTreeClassifier(max_depth=6, random_state=0),
        RandomForestClassifier(20, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("filled", [True, False], ids=["filled and scaled", "as it is"])
def test_convert__each_kind_of_trees__answers_alike_on_and_beside_thresholds(
    model: Any, filled: bool, saved: Save
) -> None:
    frame = rows()[["size", "age"]]
    takes_nulls = not isinstance(model, (GradientBoostingClassifier, GradientBoostingRegressor))
    asked = frame if filled or takes_nulls else frame.fillna(0.0)
    made = convert(saved((make_pipeline(FILLED, model) if filled else model).fit(asked, late(rows()))), asked)
    assert made.probes > 50
    assert made.is_within(1e-6)


def test_convert__trees_that_no_training_has_split__answer_alike(saved: Save) -> None:
    frame = rows(30)[["size", "age"]]
    model = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=30).fit(frame, late(rows(30)))
    made = convert(saved(model), frame)
    assert made.probes == 0
    assert made.is_within(1e-7)


def test_convert__regressor_of_large_numbers__is_converted_in_double_precision(saved: Save) -> None:
    frame = rows()[["size"]]
    model = LinearRegression().fit(frame, frame["size"] * 1e6)
    made = convert(saved(model), frame)
    assert made.is_within(TOLERANCE)
    given = onnx.ModelProto.FromString(made.content).graph.input[0].type.tensor_type.elem_type
    assert given == onnx.TensorProto.DOUBLE


def test_convert__estimator_that_the_converter_does_not_know__says_so(saved: Save) -> None:
    frame = rows()[["size"]]
    voting = VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=2))], voting="soft")
    model = make_pipeline(StandardScaler(), voting.set_params(flatten_transform=True)).fit(frame, frame["size"] > 0)
    with pytest.raises(NotConvertible, match="not implemented"):
        convert(saved(model), frame)


def test_convert__column_of_times__is_not_converted(saved: Save) -> None:
    frame = rows()[["size"]]
    model = LinearRegression().fit(frame, frame["size"])
    with pytest.raises(NotConvertible, match="timestamp"):
        convert(saved(model), frame.assign(size=pd.Timestamp("2013-01-01", tz="UTC")))


def test_convert__original_that_can_not_be_scored__is_unscorable(tmp_path: Path, saved: Save) -> None:
    (tmp_path / "model.skops").write_bytes(os.urandom(500))
    with pytest.raises(Unscorable, match="not a skops file"):
        convert(tmp_path / "model.skops")
    with pytest.raises(Unscorable, match="does not predict"):
        convert(saved({"a": 1}))


def test_convert__too_little_time_or_memory__is_unscorable_and_the_next_one_works(saved: Save) -> None:
    path = saved(boosted(OneHotEncoder(handle_unknown="ignore", sparse_output=False)))
    with pytest.raises(Unscorable, match="not answered"):
        convert(path, time_limit=timedelta(milliseconds=1))
    with pytest.raises(Unscorable, match=r"memory|ended"):
        convert(path, memory_limit=1 * 2**20)
    assert convert(path).is_within(TOLERANCE)


def test_convert__twice__gives_the_same_bytes(saved: Save) -> None:
    path = saved(boosted(OneHotEncoder(handle_unknown="ignore", sparse_output=False)))
    assert convert(path).content == convert(path).content
