"""Scores in this process are those of the children, for every form, kind of column and missing value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skl2onnx
import skops.io
from onnx import TensorProto, helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from engines import conversion, scoring
from engines.in_process import InProcessModel, open_model
from engines.scoring import Scorer, Unscorable

COLUMNS = ("size", "shop", "age")


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


def rows(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Numbers with holes, and a text with holes."""
    random = np.random.default_rng(seed)
    size, age = random.normal(size=n), random.integers(0, 90, n).astype(float)
    age[random.random(n) < 0.2] = np.nan
    shop = random.choice(["a", "b", "c"], n).astype(object)
    shop[random.random(n) < 0.1] = np.nan
    return pd.DataFrame({"size": size, "shop": shop, "age": age})


def fitted() -> Any:
    frame = rows()
    coded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]), ("passthrough", ["size", "age"]), sparse_threshold=0
    )
    label = frame["size"] + 0.02 * frame["age"].fillna(50) > 1
    return make_pipeline(coded, HistGradientBoostingClassifier(max_iter=20, random_state=0)).fit(frame, label)


@pytest.fixture(scope="module")
def skops_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forms") / "model.skops"
    path.write_bytes(skops.io.dumps(fitted()))
    return path


@pytest.fixture(scope="module")
def onnx_file(skops_file: Path) -> Path:
    table = pa.Table.from_pandas(rows(), preserve_index=False)
    made = conversion.convert(skops_file, columns=COLUMNS, rows=table, tolerance=1e-5)
    path = skops_file.with_suffix(".onnx")
    path.write_bytes(made.content)
    return path


def listed(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """As a request brings them: None where nothing is known."""
    return {name: pa.array(frame[name], from_pandas=True).to_pylist() for name in frame.columns}


def both(path: Path, load_class: str, frame: pd.DataFrame) -> tuple[Any, Any]:
    table = pa.table({name: pa.array(values) for name, values in listed(frame).items()})
    with Scorer(path, load_class=load_class, columns=COLUMNS) as scorer:
        child = scorer.predict(table)
    mine = open_model(path, load_class=load_class, columns=COLUMNS).scores(listed(frame), len(frame))
    return child, mine


@pytest.mark.parametrize("form", ["skops", "onnx"])
def test_scores__many_rows_with_nulls_and_texts__are_the_childs_to_the_bit(
    form: str, skops_file: Path, onnx_file: Path
) -> None:
    child, (scores, errors) = both(skops_file if form == "skops" else onnx_file, form, rows(300, seed=1))
    assert scores.tobytes() == child.scores.tobytes()
    assert errors == child.errors


@pytest.mark.parametrize("form", ["skops", "onnx"])
def test_scores__row_by_row__are_those_of_all_at_once(form: str, skops_file: Path, onnx_file: Path) -> None:
    model = open_model(skops_file if form == "skops" else onnx_file, load_class=form, columns=COLUMNS, texts=["shop"])
    columns = listed(rows(40, seed=2))
    together, _ = model.scores(columns, 40)
    alone = [model.scores({name: values[row : row + 1] for name, values in columns.items()}, 1) for row in range(40)]
    assert [scores[0] for scores, _ in alone] == pytest.approx(together.tolist(), abs=1e-12)
    assert not any(errors for _, errors in alone)


def test_scores__numbers_as_an_array__are_those_of_the_list(onnx_file: Path) -> None:
    model = open_model(onnx_file, load_class="onnx", columns=COLUMNS)
    columns = listed(rows(20, seed=3))
    arrays: dict[str, Any] = {**columns, "size": np.array(columns["size"], dtype=np.float32)}
    narrow = {**columns, "size": [float(np.float32(each)) for each in columns["size"]]}
    assert model.scores(arrays, 20)[0].tolist() == model.scores(narrow, 20)[0].tolist()


@pytest.mark.parametrize("form", ["skops", "onnx"])
def test_scores__a_row_that_the_model_refuses__costs_only_itself(form: str, tmp_path: Path) -> None:
    frame = rows().fillna({"age": 50.0})[["size", "age"]]
    estimator = LogisticRegression().fit(frame, frame["size"] > 0)
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(estimator))
    if form == "onnx":
        table = pa.Table.from_pandas(frame, preserve_index=False)
        made = conversion.convert(path, columns=("size", "age"), rows=table, tolerance=1e-5)
        path = tmp_path / "model.onnx"
        path.write_bytes(made.content)
    columns: dict[str, list[Any]] = {"size": [0.1, None, 0.3], "age": [40, 50, 60]}
    with Scorer(path, load_class=form, columns=("size", "age")) as scorer:
        child = scorer.predict(pa.table(columns))
    scores, errors = open_model(path, load_class=form, columns=("size", "age")).scores(columns, 3)
    assert list(errors) == [1]
    assert errors == child.errors
    assert scores.tobytes() == child.scores.tobytes()


def test_scores__a_text_where_a_number_goes__is_an_error_of_every_row(onnx_file: Path) -> None:
    columns: dict[str, list[Any]] = {**listed(rows(2)), "size": ["1.5", "2.5"]}
    scores, errors = open_model(onnx_file, load_class="onnx", columns=COLUMNS).scores(columns, 2)
    assert np.isnan(scores).all()
    assert errors == dict.fromkeys((0, 1), "ValueError: size holds str, and the model takes a number")


def test_scores__a_whole_number_no_float_can_hold__is_an_error(onnx_file: Path) -> None:
    columns = {**listed(rows(1)), "age": [2**53 + 1]}
    _, errors = open_model(onnx_file, load_class="onnx", columns=COLUMNS).scores(columns, 1)
    assert "2**53" in errors[0]


def test_open__other_bytes_than_registered__is_refused(onnx_file: Path) -> None:
    with pytest.raises(Unscorable, match="damaged"):
        open_model(onnx_file, load_class="onnx", columns=COLUMNS, digest="0" * 64)
    digest = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    model: InProcessModel = open_model(onnx_file, load_class="onnx", columns=COLUMNS, digest=digest)
    assert model.columns == COLUMNS


def test_open__a_type_that_is_not_allowed__is_refused(tmp_path: Path) -> None:
    class Own(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
        pass

    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(Own()))
    with pytest.raises(Unscorable):
        open_model(path, load_class="skops", columns=("x",))


def test_open__an_operator_of_somebodys__is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, 1))
    graph = helper.make_graph([helper.make_node("Run", ["x"], ["y"], domain="evil")], "g", [value], [value])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("evil", 1)]).SerializeToString())
    with pytest.raises(Unscorable, match="evil"):
        open_model(path, load_class="onnx", columns=("x",))


def test_scores__one_input_with_all_columns__is_the_childs(tmp_path: Path) -> None:
    frame = rows()[["size", "age"]].fillna(50.0)
    estimator = LogisticRegression().fit(frame, frame["size"] > 0)
    path = tmp_path / "model.onnx"
    kinds = [("X", FloatTensorType([None, 2]))]
    path.write_bytes(
        skl2onnx.convert_sklearn(estimator, initial_types=kinds, options={"zipmap": False}).SerializeToString()
    )
    columns = {"size": frame["size"].tolist(), "age": frame["age"].tolist()}
    with Scorer(path, load_class="onnx", columns=("size", "age")) as scorer:
        child = scorer.predict(pa.table(columns))
    scores, _ = open_model(path, load_class="onnx", columns=("size", "age")).scores(columns, len(frame))
    assert scores.tobytes() == child.scores.tobytes()
