"""What may be in an artifact: a corpus of honest models passes, crafted files do not, and nothing is built to tell."""

import importlib
import io
import json
import operator
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from engines import skops_types
from engines.skops_types import Unscorable, check

CORPUS: list[Callable[[], Any]] = [
    LogisticRegression,
    Ridge,
    GaussianNB,
    SVC,
    KNeighborsClassifier,
    DecisionTreeClassifier,
    partial(RandomForestClassifier, n_estimators=3),
    partial(GradientBoostingClassifier, n_estimators=3),
    partial(HistGradientBoostingClassifier, max_iter=3),
    partial(HistGradientBoostingRegressor, max_iter=3),
    partial(MLPClassifier, max_iter=3),
    partial(BaggingClassifier, HistGradientBoostingClassifier(max_iter=2), n_estimators=2),
    partial(CalibratedClassifierCV, DecisionTreeClassifier(), method="isotonic", cv=2),
    partial(StackingClassifier, [("tree", DecisionTreeClassifier()), ("line", LogisticRegression())]),
]


def frame() -> tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=80), "b": rng.normal(size=80), "c": rng.choice(list("xyz"), 80)})
    return rows, (rows["a"] > 0).to_numpy().astype(np.int64)


def dumped(content: Any) -> bytes:
    stream = io.BytesIO()
    skops.io.dump(content, stream)
    return stream.getvalue()


def checked(content: bytes) -> None:
    check(io.BytesIO(content))


def archive(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def schema(**node: Any) -> bytes:
    return archive({"schema.json": json.dumps({"protocol": skops_types.PROTOCOL, **node}).encode()})


@pytest.mark.parametrize("make", CORPUS)
def test_check__honest_model__passes_and_loads_with_our_list(make: Callable[[], Any]) -> None:
    rows, labels = frame()
    encoders = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
        (OneHotEncoder(sparse_output=False), ["c"]),
        (OrdinalEncoder(), ["c"]),
        (TargetEncoder(cv=2), ["c"]),
        (FunctionTransformer(np.abs), ["a"]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations do not converge
        content = dumped(make_pipeline(encoders, make()).fit(rows, labels))
    checked(content)
    assert skops.io.loads(content, trusted=skops_types.TRUSTED)


def test_types__every_name__exists() -> None:
    for name in skops_types.TRUSTED:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)


def test_check__pickle_under_another_name__is_refused_without_running(tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match="not a skops file"):
        checked(pickle.dumps(Trap(str(tmp_path / "trace"))))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "node",
    [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "system", "__module__": "posix", "__loader__": "ObjectNode"},
        {"__class__": "eval", "__module__": "builtins", "__loader__": "TypeNode"},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ConstructorFromReduceNode"},
        {"__class__": "attrgetter", "__module__": "operator", "__loader__": "OperatorFuncNode"},
        {"__class__": "method", "__module__": "sklearn.pipeline", "__loader__": "MethodNode"},
        {"__class__": "load", "__module__": "joblib", "__loader__": "FunctionNode"},
        {"__class__": None, "__module__": None, "__loader__": "CachedNode"},
        {"__class__": "Pipeline", "__module__": "sklearn.pipeline", "__loader__": ["ObjectNode"]},
    ],
)
def test_check__type_outside_our_list__is_refused_however_deep(node: dict[str, Any]) -> None:
    outer = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [[{"deep": node}]]}
    with pytest.raises(Unscorable, match="not on our list"):
        checked(schema(**outer))


def test_check__real_dump_of_an_unlisted_function__is_refused() -> None:
    with pytest.raises(Unscorable, match="operator"):
        checked(dumped(operator.methodcaller("system")))


@pytest.mark.parametrize("protocol", [0, 1, 3, True, "2", None])
def test_check__another_protocol__is_refused(protocol: Any) -> None:
    content = schema(**{"__class__": "int", "__module__": "builtins", "__loader__": "TypeNode", "protocol": protocol})
    with pytest.raises(Unscorable, match="protocol"):
        checked(content)


def test_check__cut_short_anywhere__is_refused() -> None:
    rows, labels = frame()
    content = dumped(LogisticRegression().fit(rows[["a", "b"]], labels))
    for end in range(0, len(content), max(1, len(content) // 40)):
        with pytest.raises(Unscorable):
            checked(content[:end])


def test_check__flipped_byte_in_a_member__is_refused() -> None:
    content = bytearray(archive({"schema.json": b"{}", "1.npy": b"A" * 100}))
    content[content.index(b"AAAA")] ^= 1
    with pytest.raises(Unscorable):
        checked(bytes(content))


def bomb(*, declared: int) -> bytes:
    """Four megabytes of zeros, deflated, whose size the archive states as ``declared``."""
    honest = archive({"schema.json": b"{}", "0.npy": bytes(2**22)}, compression=zipfile.ZIP_DEFLATED)
    assert len(honest) < 10_000
    return honest.replace((2**22).to_bytes(4, "little"), declared.to_bytes(4, "little"))


def test_check__bomb_by_declared_size__is_refused_before_unpacking() -> None:
    with pytest.raises(Unscorable, match="unpacks to"):
        checked(bomb(declared=2**31))


def test_check__bomb_that_lies_about_its_size__is_refused() -> None:
    with pytest.raises(Unscorable, match="not a skops file"):
        checked(bomb(declared=100))


def test_check__too_many_members__is_refused() -> None:
    with pytest.raises(Unscorable, match="members"):
        checked(archive({f"{i}.npy": b"" for i in range(skops_types.MAX_MEMBERS + 1)}))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 200_000, b"\xff", b'{"a": 1}'])
def test_check__schema_that_describes_nothing__is_refused(text: bytes) -> None:
    with pytest.raises(Unscorable):
        checked(archive({"schema.json": text}))


def test_check__no_schema__is_refused() -> None:
    with pytest.raises(Unscorable, match="a pickle"):
        checked(archive({"model.pkl": b"x"}))


def test_check__two_members_of_one_name__is_refused() -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of exactly this
        file.writestr("schema.json", b"{}")
        file.writestr("schema.json", b"{}")
    with pytest.raises(Unscorable, match="two members"):
        checked(stream.getvalue())
