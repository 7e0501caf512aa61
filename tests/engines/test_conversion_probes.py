"""Rows on and beside thresholds: where they lie, behind which preparation, and how many."""

import io
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from engines import conversion_probes, onnx_model, skops_model
from engines.conversion_child import Attempt, Questions, Way
from engines.conversion_probes import MOST_THRESHOLDS, PER_THRESHOLD, probes
from engines.onnx_model import Metadata


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def two_numbers(count: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    return pd.DataFrame({"wide": rng.normal(size=count) * 1e6, "narrow": rng.random(count)})


def labels(frame: pd.DataFrame) -> Any:
    return frame["wide"] / 1e6 + frame["narrow"] > 0.5


def chance(frame: pd.DataFrame) -> Any:
    """Labels of which trees learn by splitting everywhere."""
    return np.random.default_rng(3).random(len(frame)) > 0.5


def test_probes__threshold_between_two_values__lie_on_it_and_on_its_neighbours() -> None:
    frame = pd.DataFrame({"precip": np.resize([0.22, 0.24], 100)})
    tree = DecisionTreeClassifier(max_depth=1).fit(frame, frame["precip"] > 0.23)
    threshold = float(tree.tree_.threshold[0])
    asked = probes(tree, table(frame)).column("precip").to_pylist()
    assert len(asked) == PER_THRESHOLD
    assert {threshold, np.nextafter(threshold, -1), np.nextafter(threshold, 1)} <= set(asked)
    assert max(abs(value - threshold) for value in asked) <= 2 * np.spacing(np.float32(threshold))


def test_probes__form_in_single_precision__is_found_out_by_them_and_not_without() -> None:
    frame = pd.DataFrame({"precip": np.resize([0.22, 0.24], 400), "shop": np.resize([0.0, 1.0, 1.0], 400)})
    model = HistGradientBoostingClassifier(max_iter=30).fit(frame, frame["precip"] > 0.23)
    columns, real = tuple(frame), table(frame)
    original = skops_model.loaded(model, columns)
    apart: dict[tuple[int, bool], float] = {}
    for form in Way(model, (), columns).converted([]):
        Metadata(output=form.graph.output[0].name).write(form)
        content = form.SerializeToString()
        asked_of = onnx_model.load(io.BytesIO(content), columns)
        for with_probes in (False, True):
            asked = Questions.about(real, probes(model, real) if with_probes else real.slice(0, 0))
            attempt = Attempt.of(content, asked.put_to(asked_of), asked.put_to(original), real=len(real))
            apart[form.graph.input[0].type.tensor_type.elem_type, with_probes] = attempt.max_difference
    assert apart[onnx.TensorProto.FLOAT, False] < 1e-6 < 0.1 < apart[onnx.TensorProto.FLOAT, True]
    assert max(apart[onnx.TensorProto.DOUBLE, False], apart[onnx.TensorProto.DOUBLE, True]) < 1e-7


def test_probes__of_boosting__are_bounded_and_change_one_number_each() -> None:
    frame = two_numbers()
    model = HistGradientBoostingClassifier(max_iter=200).fit(frame, chance(frame))
    asked = probes(model, table(frame)).to_pandas()
    assert len(asked) == MOST_THRESHOLDS * PER_THRESHOLD
    kept = asked.isin(set(frame.to_numpy().ravel()))
    assert (kept.sum(axis=1) >= 1).all()
    split = {threshold for _, threshold, _ in conversion_probes.thresholds(model)}
    assert {value for column in asked for value in asked[column]} & split


def test_probes__behind_a_scaler__come_down_on_both_sides_of_the_threshold() -> None:
    frame = two_numbers()
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=1)).fit(frame, labels(frame))
    tree = model[-1].tree_
    scaled = model[:-1].transform(probes(model, table(frame)).to_pandas())[:, tree.feature[0]]
    assert np.abs(scaled - tree.threshold[0]).max() < 1e-6
    assert (scaled < tree.threshold[0]).any()
    assert (scaled > tree.threshold[0]).any()


def test_probes__model_without_trees__are_none() -> None:
    frame = two_numbers()
    assert len(probes(LogisticRegression().fit(frame, labels(frame)), table(frame))) == 0


def test_probes__column_of_one_value__are_none() -> None:
    frame = two_numbers(200).assign(wide=1.0)
    model = DecisionTreeClassifier(max_depth=2).fit(frame, frame["narrow"] > 0.5)
    assert set(probes(model, table(frame)).column("wide").to_pylist()) == {1.0}
    assert len(probes(model, table(frame.assign(narrow=1.0)))) == 0
