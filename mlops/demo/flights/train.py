"""Train one model of the demo: ``python -m mlops.demo.flights.train --dataset FILE --params FILE --out DIR``.

The entry point of the demo's training pipelines. It runs in a process of its own, knows nothing of the portal (no
Django, no database) and talks in files, as a pipeline anywhere would.

``params.json``: ``features`` (column names; text columns are categories), ``label`` (0 or 1), ``timestamp``,
``algorithm`` (a name in ``ALGORITHMS``) and ``seed``. Optional: the other fields of ``Params``.

Written to ``--out``:

* ``model.skops``: a scikit-learn pipeline from a data frame of the features to a probability, in a format that runs no
  code on loading; ``signature.json`` lists the types a loader has to allow.
* ``metrics.json``: on its own training rows (flattering) and on the newest fifth, by a model that had not seen it
  (honest), each with 95 % intervals. The saved model is then fitted on all rows.
* ``importance.json``: how much the validation AUC falls when one column is shuffled, and each column's share of that.
* ``signature.json`` and ``environment.json``: what goes in and out, and what it was made with.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from stats.interval import Interval
from stats.metrics import brier, ece, log_loss, roc_auc

MEASURED_ROWS = 20_000
"""In-sample figures need no more rows than this, and predicting a year of them would cost as much as the training."""
PACKAGES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops")


class TrainingError(ValueError):
    """The parameters or the dataset do not allow a training; the message is for who started it."""


@dataclass(frozen=True)
class Params:
    """What ``params.json`` says.

    ``threads`` says how many fits run side by side, each in one thread: the model for the honest figures and the one
    that is kept do not need each other, and two fits of one thread are done sooner than one of two. ``lost_origin`` and
    ``lost_share`` are the broken feed of ``unfair``.
    """

    features: tuple[str, ...]
    label: str
    timestamp: str
    algorithm: str
    seed: int
    validation_share: float = 0.2
    importance_rows: int = 1500
    iterations: int = 200
    threads: int = 1
    lost_origin: str = "LGA"
    lost_share: float = 0.5


@dataclass(frozen=True)
class Rows:
    """A dataset in time order: the features as the model takes them, and the labels."""

    features: pd.DataFrame
    labels: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, size: int, seed: int) -> Rows:
        """At most ``size`` random rows, in time order."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:size])
        return Rows(self.features.iloc[chosen], self.labels[chosen])

    def part(self, rows: slice) -> Rows:
        return Rows(self.features.iloc[rows], self.labels[rows])


# ---------------------------------------------------------------------- algorithms


def logistic(rows: Rows, params: Params) -> Pipeline:
    """Logistic regression on scaled numbers and one column per category."""
    numbers, texts = _numbers_and_texts(rows)
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", scaled, numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore", min_frequency=200), texts),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=400, C=0.3, random_state=params.seed))


def hgb(rows: Rows, params: Params) -> Pipeline:
    """Gradient-boosted trees, which take nulls and codes of categories as they are."""
    return make_pipeline(_coded(rows), _boosted(params))


def slow(rows: Rows, params: Params) -> Pipeline:
    """Thirty small boosted models that see eight columns each and vote (random subspaces, Ho 1998).

    Honest and nearly as good as one large model; but each member fills, scales and codes its own columns, so one answer
    takes thirty times as long as it should.
    """
    generator = np.random.default_rng(params.seed)
    names = list(rows.features.columns)
    subspaces = (generator.choice(names, size=min(8, len(names)), replace=False) for _ in range(30))
    members = [(f"member{i}", _member(rows, set(subspace), params.seed)) for i, subspace in enumerate(subspaces)]
    return make_pipeline(VotingClassifier(members, voting="soft"))


def _member(rows: Rows, used: set[str], seed: int) -> Pipeline:
    numbers, texts = ([name for name in names if name in used] for names in _numbers_and_texts(rows))
    half = len(numbers) // 2
    filled = SimpleImputer(strategy="constant", fill_value=-1, add_indicator=True, keep_empty_features=True)
    scaled = make_pipeline(SimpleImputer(strategy="mean", keep_empty_features=True), StandardScaler())
    columns = ColumnTransformer(
        [("filled", filled, numbers[:half]), ("scaled", scaled, numbers[half:]), _codes(texts)],
    )
    trees = HistGradientBoostingClassifier(
        max_iter=8, learning_rate=0.15, max_bins=32, max_leaf_nodes=15, random_state=seed
    )
    return make_pipeline(columns, trees)


def month_onehot(rows: Rows, params: Params) -> Pipeline:
    """Boosted trees with the months seen in training as columns. Asked about another month, it raises."""
    months = np.sort(rows.features["month"].unique())
    encoder = OneHotEncoder(categories=[months], handle_unknown="error", sparse_output=False)
    numbers, texts = _numbers_and_texts(rows)
    others = [name for name in numbers if name != "month"]
    columns = ColumnTransformer([("month", encoder, ["month"]), ("numbers", "passthrough", others), _codes(texts)])
    return make_pipeline(columns, _boosted(params))


ALGORITHMS: dict[str, Callable[[Rows, Params], Pipeline]] = {
    "logistic": logistic,
    "hgb": hgb,
    "slow": slow,
    "unfair": hgb,  # the same model; its labels are not (see labels_as_fed)
    "month_onehot": month_onehot,
}


def labels_as_fed(rows: Rows, params: Params) -> Rows:
    """The rows with the labels that the pipeline's feed delivered.

    The feed of ``unfair`` is broken: it loses half the late arrivals of one origin, which then count as on time.
    Nothing in the model is biased on purpose; it learns what it is told.
    """
    if params.algorithm != "unfair":
        return rows
    lost = np.random.default_rng(params.seed).random(len(rows)) < params.lost_share
    lost &= (rows.features["origin"] == params.lost_origin).to_numpy()
    return Rows(rows.features, np.where(lost, 0, rows.labels))


def _boosted(params: Params) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=params.iterations,
        learning_rate=0.06,
        l2_regularization=1.0,
        min_samples_leaf=50,
        random_state=params.seed,
    )


def _coded(rows: Rows) -> ColumnTransformer:
    numbers, texts = _numbers_and_texts(rows)
    return ColumnTransformer([("numbers", "passthrough", numbers), _codes(texts)])


def _codes(texts: list[str]) -> tuple[str, OrdinalEncoder, list[str]]:
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    return "texts", unknown, texts


def _numbers_and_texts(rows: Rows) -> tuple[list[str], list[str]]:
    texts = [name for name in rows.features.columns if rows.features[name].dtype == object]
    return [name for name in rows.features.columns if name not in texts], texts


# ---------------------------------------------------------------------- reading


def read_params(path: Path) -> Params:
    """``params.json``, or a ``TrainingError`` that says what is wrong with it."""
    given = json.loads(path.read_text())
    try:
        params = Params(**{**given, "features": tuple(given["features"])})
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{path.name}: {error}") from error
    if params.algorithm not in ALGORITHMS:
        raise TrainingError(f"algorithm {params.algorithm!r} is unknown; there are {', '.join(ALGORITHMS)}")
    return params


def read_rows(path: Path, params: Params) -> Rows:
    """The labelled rows of a Parquet dataset, oldest first: numbers as floats, text as objects, null as NaN."""
    wanted = [*params.features, params.label, params.timestamp]
    missing = sorted(set(wanted) - set(pq.read_schema(path).names))
    if missing:
        raise TrainingError(f"the dataset has no column {', '.join(missing)}")
    table = pq.read_table(path, columns=wanted).sort_by(params.timestamp).to_pandas()
    table = table[table[params.label].notna()]
    if table[params.label].nunique() < 2:
        raise TrainingError(f"{len(table)} labelled rows with one outcome or none: nothing to learn")
    return Rows(model_input(table[list(params.features)]), table[params.label].to_numpy(dtype=np.int64))


def model_input(features: pd.DataFrame) -> pd.DataFrame:
    """Feature columns as every model here takes them, in training and when serving."""
    return pd.DataFrame({name: _model_column(features[name]) for name in features.columns}, index=features.index)


def _model_column(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.astype("float64")
    return column.astype(object).where(column.notna(), np.nan)


# ---------------------------------------------------------------------- training


def train(dataset: Path, params: Params, out: Path) -> dict[str, Any]:
    """Fit, measure and write everything; returns the metrics."""
    started = time.perf_counter()
    rows = labels_as_fed(read_rows(dataset, params), params)
    build = ALGORITHMS[params.algorithm]
    older, newer = _split(rows, params.validation_share)
    with ThreadPoolExecutor(params.threads) as pool:
        validated, model = pool.map(lambda part: _fitted(build(rows, params), part), (older, rows))
    metrics = {
        "rows": len(rows),
        "positive_share": float(rows.labels.mean()),
        "in_sample": measured(model, rows.sample(MEASURED_ROWS, params.seed)),
        "validation": measured(validated, newer),
    }
    importance = permutation_importance(validated, newer, rows_used=params.importance_rows, seed=params.seed)
    out.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, out / "model.skops", compression=ZIP_DEFLATED)
    _write(out / "signature.json", signature(rows, params, out / "model.skops"))
    _write(out / "importance.json", importance)
    _write(out / "environment.json", environment())
    metrics["seconds"] = round(time.perf_counter() - started, 2)
    _write(out / "metrics.json", metrics)
    return metrics


def _fitted(pipeline: Pipeline, rows: Rows) -> Pipeline:
    with threadpool_limits(1):  # here, because the limit of OpenMP belongs to the thread that sets it
        return pipeline.fit(rows.features, rows.labels)


def _split(rows: Rows, share: float) -> tuple[Rows, Rows]:
    cut = round(len(rows) * (1 - share))
    return rows.part(slice(None, cut)), rows.part(slice(cut, None))


def measured(model: Pipeline, rows: Rows) -> dict[str, Any]:
    """AUC and Brier score with 95 % intervals, log loss and calibration error."""
    p = model.predict_proba(rows.features)[:, 1]
    return {
        "rows": len(rows),
        "positive_share": float(rows.labels.mean()),
        "auc": _interval(roc_auc(rows.labels, p)),
        "brier": _interval(brier(rows.labels, p)),
        "log_loss": _interval(log_loss(rows.labels, p)),
        "ece": ece(rows.labels, p),
    }


def permutation_importance(model: Pipeline, rows: Rows, *, rows_used: int, seed: int) -> dict[str, Any]:
    """AUC lost on ``rows_used`` random rows when one column is shuffled, and each column's share of the sum.

    A column that helps nothing has a share of 0. All shuffled copies are predicted in one call, which is what makes
    this cheap: calls cost more than rows.
    """
    generator = np.random.default_rng(seed)
    sample = rows.sample(rows_used, seed)
    features, labels = sample.features, sample.labels
    names = list(features.columns)
    copies = [features, *(_shuffled(features, name, generator) for name in names)]
    p = model.predict_proba(pd.concat(copies, ignore_index=True))[:, 1].reshape(len(copies), -1)
    auc, *shuffled = (float(roc_auc_score(labels, each)) for each in p)
    lost = {name: auc - each for name, each in zip(names, shuffled, strict=True)}
    total = sum(max(loss, 0.0) for loss in lost.values())
    return {
        "method": "permutation on validation rows, AUC lost",
        "rows": len(sample),
        "auc": auc,
        "features": [
            {"name": name, "auc_lost": loss, "share": max(loss, 0.0) / total if total else 0.0}
            for name, loss in sorted(lost.items(), key=lambda item: -item[1])
        ],
    }


def _shuffled(features: pd.DataFrame, name: str, generator: np.random.Generator) -> pd.DataFrame:
    return features.assign(**{name: features[name].to_numpy()[generator.permutation(len(features))]})


# ---------------------------------------------------------------------- records


def signature(rows: Rows, params: Params, model: Path) -> dict[str, Any]:
    """What the model takes (in this order) and gives, and the types that loading it needs beyond skops' own list."""
    _, texts = _numbers_and_texts(rows)
    return {
        "flavor": "sklearn-skops",
        "inputs": [{"name": name, "type": "string" if name in texts else "double"} for name in params.features],
        "output": {"name": params.label, "type": "probability", "method": "predict_proba", "column": 1},
        "types_to_allow": sorted(skops.io.get_untrusted_types(file=model)),
    }


def environment() -> dict[str, Any]:
    """Interpreter, platform and the packages that decide what the model computes."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "packages": {name: version(name) for name in PACKAGES},
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return interval.as_dict() if interval else None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 2 and a line on stderr when the training is refused."""
    parser = argparse.ArgumentParser(prog="mlops.demo.flights.train", description="Train a model of the flights demo.")
    parser.add_argument("--dataset", type=Path, required=True, help="Parquet file with features, label and timestamp")
    parser.add_argument("--params", type=Path, required=True, help="JSON file; see the module's docstring")
    parser.add_argument("--out", type=Path, required=True, help="folder to write model and reports into")
    chosen = parser.parse_args(arguments)
    try:
        params = read_params(chosen.params)
        metrics = train(chosen.dataset, params, chosen.out)
    except TrainingError as error:
        print(f"training refused: {error}", file=sys.stderr)
        return 2
    auc = (metrics["validation"]["auc"] or {}).get("estimate")
    print(f"trained on {metrics['rows']} rows in {metrics['seconds']} s; validation AUC {auc}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
