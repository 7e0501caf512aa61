"""The training entry point on synthetic flights: what it writes, and how each algorithm behaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from threadpoolctl import threadpool_limits

from mlops.demo.flights import train
from mlops.demo.flights.train import Params, TrainingError

FEATURES = ("origin", "month", "hour", "late_share", "noise")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def flights(rows: int = 1500) -> pd.DataFrame:
    """Flights whose lateness depends on ``late_share`` alone; every tenth share is unknown."""
    generator = np.random.default_rng(1)
    share = generator.random(rows)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    return pd.DataFrame(
        {
            "requested_at": [start + timedelta(minutes=80 * i) for i in range(rows)],
            "origin": generator.choice(["EWR", "JFK", "LGA"], rows),
            "month": [(start + timedelta(minutes=80 * i)).month for i in range(rows)],
            "hour": generator.integers(5, 23, rows),
            "late_share": np.where(np.arange(rows) % 10 == 0, np.nan, share),
            "noise": generator.random(rows),
            "late": (generator.random(rows) < 0.1 + 0.8 * share).astype(int),
        }
    )


def params(**changes: Any) -> Params:
    given: dict[str, Any] = {
        "features": FEATURES,
        "label": "late",
        "timestamp": "requested_at",
        "algorithm": "logistic",
        "seed": 3,
        "importance_rows": 200,
        "iterations": 30,
    }
    return Params(**given | changes)


def stored(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "dataset.parquet"
    table.to_parquet(path, index=False)
    return path


def trained(folder: Path, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """The loaded model and its metrics."""
    metrics = train.train(stored(folder, flights()), params(**changes), folder / "out")
    allowed = json.loads((folder / "out" / "signature.json").read_text())["types_to_allow"]
    return skops.io.load(folder / "out" / "model.skops", trusted=allowed), metrics


def asked(**changes: Any) -> pd.DataFrame:
    row = {"origin": "EWR", "month": 1, "hour": 9, "late_share": 0.5, "noise": 0.5}
    return train.model_input(pd.DataFrame([row | changes]))


@pytest.mark.parametrize("algorithm", ["logistic", "hgb", "unfair"])
def test_train__any_algorithm__separates_late_from_on_time(tmp_path: Path, algorithm: str) -> None:
    model, metrics = trained(tmp_path, algorithm=algorithm)
    late, on_time = (model.predict_proba(asked(late_share=share))[0, 1] for share in (0.95, 0.05))
    assert late > on_time + 0.3
    assert metrics["validation"]["auc"]["low"] > 0.6


def test_train__outputs__name_inputs_environment_and_types(tmp_path: Path) -> None:
    trained(tmp_path)
    signature = json.loads((tmp_path / "out" / "signature.json").read_text())
    environment = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert [column["name"] for column in signature["inputs"]] == list(FEATURES)
    assert signature["inputs"][0] == {"name": "origin", "type": "string"}
    assert environment["packages"]["scikit-learn"]


def test_train__same_seed__gives_the_same_predictions(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (trained(tmp_path / name, algorithm="hgb")[0] for name in "ab")
    assert first.predict_proba(asked())[0, 1] == second.predict_proba(asked())[0, 1]


def test_train__validation__is_the_newest_fifth_and_not_flattering(tmp_path: Path) -> None:
    _, metrics = trained(tmp_path, algorithm="hgb")
    assert metrics["validation"]["rows"] == 300
    assert metrics["validation"]["auc"]["estimate"] < metrics["in_sample"]["auc"]["estimate"]


def test_train__importance__names_the_column_that_matters(tmp_path: Path) -> None:
    trained(tmp_path, algorithm="hgb")
    importance = json.loads((tmp_path / "out" / "importance.json").read_text())
    assert importance["features"][0]["name"] == "late_share"
    assert sum(feature["share"] for feature in importance["features"]) == pytest.approx(1)


@pytest.mark.parametrize("missing", [{"origin": None}, {"origin": "ORD"}, {"late_share": None}])
@pytest.mark.parametrize("algorithm", ["logistic", "hgb"])
def test_model__unknown_category_or_null__still_answers(
    tmp_path: Path, algorithm: str, missing: dict[str, Any]
) -> None:
    model, _ = trained(tmp_path, algorithm=algorithm)
    assert 0 < model.predict_proba(asked(**missing))[0, 1] < 1


def test_slow__many_members__vote_on_a_probability(tmp_path: Path) -> None:
    rows = train.read_rows(stored(tmp_path, flights(300)), params())
    model = train.ALGORITHMS["slow"](rows, params()).fit(rows.features, rows.labels)
    assert len(model[-1].estimators_) == 30
    assert 0 < model.predict_proba(asked())[0, 1] < 1


def test_month_onehot__month_not_in_training__raises(tmp_path: Path) -> None:
    model, _ = trained(tmp_path, algorithm="month_onehot")
    assert 0 < model.predict_proba(asked(month=3))[0, 1] < 1
    with pytest.raises(ValueError, match="unknown categories"):
        model.predict_proba(asked(month=4))


def test_unfair__feed_of_one_origin__loses_late_labels_there_only(tmp_path: Path) -> None:
    rows = train.read_rows(stored(tmp_path, flights()), params())
    fed = train.labels_as_fed(rows, params(algorithm="unfair", lost_share=0.9))
    lga = (rows.features["origin"] == "LGA").to_numpy()
    assert (fed.labels[~lga] == rows.labels[~lga]).all()
    assert fed.labels[lga].mean() < 0.2 * rows.labels[lga].mean()


def test_read_rows__unordered_dataset_with_unlabelled_rows__is_sorted_and_filtered(tmp_path: Path) -> None:
    table = flights(20)
    table["late"] = table["late"].astype("Int64").where(table.index != 0)
    shuffled = table.sample(frac=1, random_state=0)
    rows = train.read_rows(stored(tmp_path, shuffled), params())
    assert rows.features["noise"].tolist() == table["noise"].tolist()[1:]


def test_read_rows__missing_column__is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no column speed"):
        train.read_rows(stored(tmp_path, flights(20)), params(features=("speed",)))


def test_read_rows__one_outcome_only__is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to learn"):
        train.read_rows(stored(tmp_path, flights(20).assign(late=0)), params())


@pytest.mark.integration
def test_command__unknown_algorithm__exits_2_and_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(params(algorithm="guess").__dict__))
    out = tmp_path / "out"
    arguments = ["--dataset", str(tmp_path / "none"), "--params", str(tmp_path / "params.json"), "--out", str(out)]
    assert train.main(arguments) == 2
    assert not out.exists()


@pytest.mark.integration
def test_import__training_module__does_not_bring_django() -> None:
    code = "import sys, mlops.demo.flights.train; sys.exit('django' in sys.modules)"
    project = Path(train.__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=project, check=False).returncode == 0
