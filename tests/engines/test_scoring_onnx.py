"""ONNX artifacts in real scorer processes: who is let in, how rows go in and scores come out, what bombs cost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
import skl2onnx
from onnx import TensorProto, helper
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from engines import sandbox, scoring
from engines.scoring import Scorer, Unscorable

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def value(name: str, kind: int, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def save(file: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **more: Any) -> Path:
    opsets = [helper.make_opsetid(domain, 18 if not domain else 1) for domain in ("", *more.pop("domains", ()))]
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), **more)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    file.write_bytes(model.SerializeToString())
    return file


def doubled(file: Path, kind: int = FLOAT, shape: Sequence[Any] = (None, 1)) -> Path:
    """A model that answers twice what it is given."""
    return save(
        file, [helper.make_node("Add", ["x", "x"], ["y"])], [value("x", kind, shape)], [value("y", kind, shape)]
    )


def scorer(path: Path, *columns: str, **changes: Any) -> Scorer:
    return Scorer(path, load_class="onnx", columns=columns or ("x",), **changes)


def learned() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"size": rng.normal(size=200), "shop": rng.choice(["a", "b"], 200).astype(object)})


# ---------------------------------------------------------------------- rows in, scores out


def test_predict__input_per_column_with_text__is_what_the_estimator_says(file: Path) -> None:
    rows = learned()
    coded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["shop"]), ("passthrough", ["size"]))
    estimator = make_pipeline(coded, LogisticRegression()).fit(rows, rows["size"] > 0)
    kinds = [("size", FloatTensorType([None, 1])), ("shop", StringTensorType([None, 1]))]
    file.write_bytes(skl2onnx.convert_sklearn(estimator, initial_types=kinds).SerializeToString())
    with scorer(file, "shop", "size") as warm:
        scored = warm.predict(pa.Table.from_pandas(rows, preserve_index=False))
    assert scored.errors == {}
    np.testing.assert_allclose(scored.scores, estimator.predict_proba(rows)[:, 1], atol=1e-6)


def test_predict__one_matrix_of_all_columns__is_what_the_estimator_says(file: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3))
    estimator = LinearRegression().fit(rows, rows.sum(axis=1))
    model = skl2onnx.convert_sklearn(estimator, initial_types=[("input", FloatTensorType([None, 3]))])
    file.write_bytes(model.SerializeToString())
    with scorer(file, "a", "b", "c") as warm:
        scored = warm.predict(pa.table(dict(zip("abc", rows.T, strict=True))))
    np.testing.assert_allclose(scored.scores, rows.sum(axis=1), atol=1e-5)


def test_predict__null__arrives_as_nan_and_costs_its_row_only(file: Path) -> None:
    with scorer(doubled(file)) as warm:
        scored = warm.predict(pa.table({"x": [1.0, None, 3.0]}))
    assert scored.scores[[0, 2]].tolist() == [2.0, 6.0]
    assert "finite" in scored.errors[1]


def test_predict__whole_numbers_asked__a_null_or_a_fraction_is_an_error_of_its_row(file: Path) -> None:
    with scorer(doubled(file, INT64)) as warm:
        scored = warm.predict(pa.table({"x": [1.0, None, 2.5, 4.0]}))
    assert scored.scores[[0, 3]].tolist() == [2.0, 8.0]
    assert set(scored.errors) == {1, 2}
    assert "whole number" in scored.errors[1]


def test_predict__text_where_a_number_is_taken__says_which_column(file: Path) -> None:
    with scorer(doubled(file)) as warm:
        scored = warm.predict(pa.table({"x": ["a", "b"]}))
    assert scored.errors == {0: scored.errors[0], 1: scored.errors[0]}
    assert "x holds string" in scored.errors[0]


def test_predict__many_rows_of_which_one_raises__costs_only_itself(file: Path) -> None:
    estimator = make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression())
    rows = learned()[["shop"]]
    estimator.fit(rows, rows["shop"] == "a")
    model = skl2onnx.convert_sklearn(estimator, initial_types=[("shop", StringTensorType([None, 1]))])
    file.write_bytes(model.SerializeToString())
    with scorer(file, "shop") as warm:
        scored = warm.predict(pa.table({"shop": ["a"] * 500 + ["new"] + ["b"] * 499}))
    assert set(scored.errors) == {500}
    assert "Unknown Category" in scored.errors[500]


def test_time_rows__single_rows__are_timed(file: Path) -> None:
    with scorer(doubled(file)) as warm:
        times = warm.time_rows(pa.table({"x": np.zeros(50)}), budget=timedelta(seconds=10))
    assert len(times) == 50
    assert (times > 0).all()


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("content", [b"", b"\x80\x05cos\nsystem\n", b"\x08\x08\x12\x00", b"PK\x03\x04", b"{}"])
def test_scorer__no_onnx_model__is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Unscorable, match=r"no ONNX model|begins like ONNX|can not be loaded"):
        scorer(file)


def outside(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_scorer__values_in_another_file__are_not_read(file: Path) -> None:
    (file.parent / "secret").write_bytes(b"\0" * 4)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    save(file, nodes, [value("x", FLOAT, [None, 1])], [value("y", FLOAT, [None, 1])], initializer=[outside("secret")])
    with pytest.raises(Unscorable, match="other files"):
        scorer(file)


def test_scorer__values_in_another_file_inside_a_branch__are_not_read(file: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=outside("/etc/hostname"))],
        "branch",
        [],
        [value("inner", FLOAT, [1])],
    )
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("If", ["flag"], ["w"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    save(file, nodes, [value("x", FLOAT, [None, 1])], [value("y", FLOAT, [None, 1])], initializer=[flag])
    with pytest.raises(Unscorable, match="other files"):
        scorer(file)


def test_scorer__operators_of_somebody_else__are_refused_by_name(file: Path) -> None:
    nodes = [helper.make_node("Run", ["x"], ["y"], domain="evil.ops")]
    inputs, outputs = [value("x", FLOAT, [None, 1])], [value("y", FLOAT, [None, 1])]
    with pytest.raises(Unscorable, match=r"evil\.ops"):
        scorer(save(file, nodes, inputs, outputs, domains=["evil.ops"]))


def test_scorer__inputs_that_are_not_its_columns__are_told(file: Path) -> None:
    with pytest.raises(Unscorable, match="neither one input per column"):
        scorer(doubled(file, shape=[None, 3]), "a", "b")


def test_scorer__three_classes__are_refused(file: Path) -> None:
    with pytest.raises(Unscorable, match="3 classes"):
        scorer(doubled(file, shape=[None, 3]), "a", "b", "c")


# ---------------------------------------------------------------------- bombs


def test_scorer__constant_of_a_hundred_gigabytes__is_stopped_quickly(file: Path) -> None:
    shape = helper.make_tensor("shape", INT64, [2], [100_000, 250_000])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    save(file, nodes, [value("x", FLOAT, [None, 1])], [value("y", FLOAT, [None, 1])], initializer=[shape])
    began = time.monotonic()
    with scorer(file) as warm:
        scored = warm.predict(pa.table({"x": [1.0]}))
    assert "bad_alloc" in scored.errors[0]
    assert time.monotonic() - began < 5


def test_predict__loop_without_end__is_ended(file: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [value("i", INT64, []), value("go", TensorProto.BOOL, []), value("state", FLOAT, [None, 1])],
        [value("on", TensorProto.BOOL, []), value("next", FLOAT, [None, 1])],
    )
    times = helper.make_tensor("times", INT64, [], [2**62])
    go = helper.make_tensor("go0", TensorProto.BOOL, [], [True])
    save(
        file,
        [helper.make_node("Loop", ["times", "go0", "x"], ["y"], body=body)],
        [value("x", FLOAT, [None, 1])],
        [value("y", FLOAT, [None, 1])],
        initializer=[times, go],
    )
    with scorer(file, call_timeout=timedelta(seconds=1)) as warm, pytest.raises(Unscorable, match="not answered"):
        warm.predict(pa.table({"x": [1.0]}))
    assert not warm.is_alive


def test_predict__more_memory_than_its_limit__is_an_error_and_the_next_question_is_answered(file: Path) -> None:
    times = helper.make_tensor("times", INT64, [2], [1, 400_000])
    nodes = [
        helper.make_node("Tile", ["x", "times"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["y"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", INT64, [1], [1])
    nodes[1].input.append("axes")
    save(file, nodes, [value("x", FLOAT, [None, 1])], [value("y", FLOAT, [None])], initializer=[times, axes])
    with scorer(file, memory_limit=64 * 2**20) as warm:
        assert warm.predict(pa.table({"x": [1.0]})).errors == {}
        assert warm.predict(pa.table({"x": [1.0] * 2000})).errors == {}  # in parts that its memory allows


# ---------------------------------------------------------------------- the process


def test_load__telemetry_of_the_runtime__is_off_before_the_runtime_is_imported() -> None:
    code = """
import os, sys
def watch(event, arguments):
    if event == "import" and arguments[0] == "onnxruntime":
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.addaudithook(watch)
import engines.onnx_model
"""
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=sandbox.ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "1\n"


def test_environment__of_every_child__has_telemetry_off() -> None:
    assert sandbox.environment(threads=1)["ORT_DISABLE_TELEMETRY"] == "1"


def test_nursery__of_onnx__has_neither_scikit_learn_nor_threads_of_the_runtime(file: Path) -> None:
    scoring.shut_down()
    with scorer(doubled(file)):
        family = [Path(f"/proc/{pid}") for pid in descendants(os.getpid())]
        python = [each for each in family if "onnxruntime" in (each / "maps").read_text()]
        names = {(each / "comm").read_text().strip() for where in python for each in (where / "task").iterdir()}
        assert len(python) >= 2  # the nursery and the scorer
        assert not any("sklearn" in (each / "maps").read_text() for each in python)
    assert not [name for name in names if name.startswith(("ort", "onnx"))]


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [each for child in found for each in (child, *descendants(child))]
