"""Boosters from their libraries' own text, in real scorer processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from engines import sandbox, scoring
from engines.scoring import Scorer, Unscorable

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")

COLUMNS = ("size", "age")


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


def rows(count: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"size": rng.normal(size=count), "age": rng.normal(size=count)})
    frame.loc[::17, "age"] = np.nan
    return frame


def late(frame: pd.DataFrame) -> Any:
    return (frame["size"] + frame["age"].fillna(0) > 0).astype(int)


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def of_xgboost(folder: Path, **parameters: Any) -> tuple[Any, Path]:
    frame = rows()
    data = xgboost.DMatrix(frame, label=late(frame))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1, **parameters}, data, 20)
    booster.save_model(folder / "model.json")
    return booster, folder / "model.json"


def of_lightgbm(folder: Path, frame: pd.DataFrame | None = None, **parameters: Any) -> tuple[Any, Path]:
    given = rows() if frame is None else frame
    settings = {"objective": "binary", "num_threads": 1, "verbosity": -1, **parameters}
    booster = lightgbm.train(settings, lightgbm.Dataset(given, late(rows())), 20)
    booster.save_model(folder / "model.txt")
    return booster, folder / "model.txt"


def scorer(path: Path, **changes: Any) -> Scorer:
    return Scorer(path, **{"load_class": "booster", "columns": COLUMNS, **changes})


def test_predict__xgboost__is_what_the_booster_says(tmp_path: Path) -> None:
    booster, path = of_xgboost(tmp_path)
    with scorer(path) as warm:
        scored = warm.predict(table(rows()))
        times = warm.time_rows(table(rows(20)), budget=timedelta(seconds=10))
    np.testing.assert_allclose(scored.scores, booster.predict(xgboost.DMatrix(rows())), atol=1e-7)
    assert len(times) == 20


def test_predict__xgboost_regression__is_its_prediction(tmp_path: Path) -> None:
    booster, path = of_xgboost(tmp_path, objective="reg:squarederror")
    with scorer(path) as warm:
        scores = warm.predict(table(rows())).scores
    np.testing.assert_allclose(scores, booster.predict(xgboost.DMatrix(rows())), atol=1e-7)


def test_predict__lightgbm__is_what_the_booster_says(tmp_path: Path) -> None:
    booster, path = of_lightgbm(tmp_path)
    with scorer(path) as warm:
        scored = warm.predict(table(rows()))
    np.testing.assert_allclose(scored.scores, booster.predict(rows()), atol=1e-12)


def test_predict__lightgbm_with_categories__takes_text_with_the_levels_of_its_training(tmp_path: Path) -> None:
    shops = np.array(["a", "b", "c"])[np.arange(400) % 3]
    frame = rows().assign(age=pd.Categorical(shops))
    booster, path = of_lightgbm(tmp_path, frame)
    with scorer(path) as warm:
        scored = warm.predict(table(rows().assign(age=shops))).scores
        few = warm.predict(table(rows(1).assign(age="c"))).scores
    np.testing.assert_allclose(scored, booster.predict(frame), atol=1e-12)
    np.testing.assert_allclose(few, booster.predict(rows(1).assign(age=pd.Categorical(["c"], ["a", "b", "c"]))))


def test_predict__text_for_xgboost__is_an_error_that_names_the_column(tmp_path: Path) -> None:
    with scorer(of_xgboost(tmp_path)[1]) as warm:
        scored = warm.predict(table(rows(3).assign(age=["a", "b", "c"])))
    assert "age is no number" in scored.errors[0]


def test_scorer__several_classes__are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match="multi:softprob"):
        scorer(of_xgboost(tmp_path, objective="multi:softprob", num_class=3)[1])


def test_scorer__columns_in_another_order__are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match="in this order"):
        scorer(of_xgboost(tmp_path)[1], columns=("age", "size"))
    with pytest.raises(Unscorable, match="in this order"):
        scorer(of_lightgbm(tmp_path)[1], columns=("age", "size"))


def test_scorer__another_number_of_columns__is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match="takes 2 columns"):
        scorer(of_lightgbm(tmp_path)[1], columns=("age", "size", "shop"))


@pytest.mark.parametrize(
    "content", [b"tree\nversion=v4\nnum_class=1\n", b"{}", b'{"learner": 5}', b"UBJ", b"\x80\x05."]
)
def test_scorer__no_booster__is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(Unscorable):
        scorer(tmp_path / "model")


def test_scorer__json_that_claims_to_be_huge__is_stopped(tmp_path: Path) -> None:
    _, path = of_xgboost(tmp_path)
    model = json.loads(path.read_text())
    model["learner"]["gradient_booster"]["model"]["gbtree_model_param"]["num_trees"] = "2000000000"
    path.write_text(json.dumps(model))
    with pytest.raises(Unscorable):
        scorer(path)


def test_scorer__next_one_after_a_crash__works(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"tree\n" + b"\xff" * 1000)
    with pytest.raises(Unscorable):
        scorer(tmp_path / "broken")
    with scorer(of_lightgbm(tmp_path)[1]) as warm:
        assert not warm.predict(table(rows())).errors


@pytest.mark.parametrize(("library", "start"), [("xgboost", b"{}"), ("lightgbm", b"tree\n")])
def test_load__library_not_installed__names_the_extra(library: str, start: bytes) -> None:
    code = f"""
import io, sys
sys.modules[{library!r}] = None
from engines import booster_model
try:
    booster_model.load(io.BytesIO({start!r}), ("x",))
except booster_model.Unscorable as refusal:
    print(refusal)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=sandbox.ROOT, capture_output=True, text=True, check=True
    )
    assert library in finished.stdout
    assert "pip install '.[boosters]'" in finished.stdout
