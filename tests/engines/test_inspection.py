"""What a file is, found out by a process that can harm nobody."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from benchmarks.bombs import BOMBS, zipped
from engines.inspection import Finding, inspect

ROWS = np.random.default_rng(0).normal(size=(40, 2))


def inspected(folder: Path, content: bytes, *allowed_hosts: str) -> Finding:
    path = folder / "artifact"
    path.write_bytes(content)
    return inspect(path, allowed_hosts=allowed_hosts)


def skops_bytes() -> bytes:
    content: bytes = skops.io.dumps(LogisticRegression().fit(ROWS, ROWS[:, 0] > 0))
    return content


def onnx_model(*, op: str = "Relu", domain: str = "", **changes: Any) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy")
    graph = helper.make_graph([node], "g", [x], [y], **changes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


# ---------------------------------------------------------------------- what is loaded how


def test_inspect__skops__is_skops(tmp_path: Path) -> None:
    assert inspected(tmp_path, skops_bytes()).load_class == "skops"


def test_inspect__onnx__tells_inputs_and_outputs(tmp_path: Path) -> None:
    finding = inspected(tmp_path, onnx_model().SerializeToString())
    assert finding.load_class == "onnx"
    assert finding.facts["inputs"] == [{"name": "x", "type": "FLOAT", "shape": [None, 2]}]
    assert finding.facts["outputs"] == [{"name": "y", "type": "FLOAT", "shape": [None, 2]}]


def test_inspect__boosters_own_texts__are_boosters(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    labels = (ROWS[:, 0] > 0).astype(float)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(ROWS, labels), 2)
    found = inspected(tmp_path, bytes(booster.save_raw("json")))
    assert (found.load_class, found.facts) == ("booster", {"library": "xgboost", "features": 2})
    trees = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(ROWS, labels), 2)
    found = inspected(tmp_path, trees.model_to_string().encode())
    assert (found.load_class, found.facts["features"]) == ("booster", 2)
    assert "UBJ" in inspected(tmp_path, bytes(booster.save_raw("ubj"))).reason


def test_inspect__document_of_an_endpoint__is_external_where_its_host_is_allowed(tmp_path: Path) -> None:
    document = b'{"url": "https://scorer.example.com/v2/models/m"}'
    assert inspected(tmp_path, document, "scorer.example.com").load_class == "external"
    assert inspected(tmp_path, document).load_class == "quarantined"
    twice = b'{"url": "https://scorer.example.com/v2/models/m", "url": "https://evil.example.com/v2/models/m"}'
    assert "twice" in inspected(tmp_path, twice, "scorer.example.com").reason


# ---------------------------------------------------------------------- what is quarantined


def _pickled_by_joblib(compress: int) -> bytes:
    stream = io.BytesIO()
    joblib.dump(LogisticRegression(), stream, compress=compress)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((pickle.dumps({"a": re.compile}, protocol), "pickle") for protocol in range(6)),
        (b"cos\nsystem\n(S'true'\ntR.", "pickle"),
        (b"\x80\x04\x95\x10cloudpickle.cloudpickle", "cloudpickle"),
        (_pickled_by_joblib(0), "pickle"),
        (_pickled_by_joblib(3), "joblib"),
        (zipped({"archive/data.pkl": b"x"}), "PyTorch"),
        (zipped({"a.txt": b"x"}), "no schema"),
        (b"PK\x03\x04 and so on", "not a skops file"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"no model at all", "Nobody here knows"),
        (b"\x08\x07\x3a\xff", "begins like ONNX"),
        (b'{"a": 1}', "neither a booster"),
        (b"tree\nversion=v4\n", "names no features"),
    ],
)
def test_inspect__anything_else__is_quarantined_by_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    finding = inspected(tmp_path, content)
    assert (finding.load_class, reason in finding.reason) == ("quarantined", True), finding


def _link() -> bytes:
    link = zipfile.ZipInfo("0.npy")
    link.external_attr = 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("schema.json", b"{}")
        archive.writestr(link, b"/etc/passwd")
    return stream.getvalue()


def test_inspect__link_in_an_archive__is_quarantined(tmp_path: Path) -> None:
    assert "symbolic link" in inspected(tmp_path, _link()).reason


def test_inspect__onnx_with_foreign_operators__is_quarantined(tmp_path: Path) -> None:
    assert "com.evil" in inspected(tmp_path, onnx_model(op="Run", domain="com.evil").SerializeToString()).reason
    model = onnx_model()
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    assert "com.evil" in inspected(tmp_path, model.SerializeToString()).reason


def test_inspect__onnx_with_weights_elsewhere__is_quarantined_also_in_a_subgraph(tmp_path: Path) -> None:
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../../etc/passwd")
    direct = onnx_model(initializer=[outside])
    nested = onnx_model()
    branch = helper.make_graph([], "b", [], [], initializer=[outside])
    nested.graph.node[0].attribute.append(helper.make_attribute("then_branch", branch))
    for model in (direct, nested):
        assert "other files" in inspected(tmp_path, model.SerializeToString()).reason


# ---------------------------------------------------------------------- bombs


@pytest.mark.parametrize("name", BOMBS)
def test_inspect__bomb__is_quarantined(tmp_path: Path, name: str) -> None:
    assert inspected(tmp_path, BOMBS[name]()).load_class == "quarantined"
