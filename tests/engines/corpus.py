"""Seventeen kinds of scikit-learn models, as people train them: on a frame with numbers, texts and missing values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.svm import SVC

NUMBERS = ("distance", "hour", "load")
COLUMNS = (*NUMBERS, "carrier", "origin")


def rows(count: int = 1500, seed: int = 5) -> pd.DataFrame:
    """Numbers with five missing in a hundred, two texts of which one is missing now and then."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "distance": rng.gamma(2.0, 400.0, count).round(1),
            "hour": rng.integers(5, 24, count).astype(float),
            "load": rng.random(count),
            "carrier": rng.choice(["AA", "B6", "DL", "UA", "WN"], count).astype(object),
            "origin": rng.choice(["EWR", "JFK", "LGA"], count).astype(object),
        }
    )
    frame.loc[rng.random(count) < 0.05, "load"] = np.nan
    frame.loc[rng.random(count) < 0.03, "origin"] = np.nan
    return frame


def labels(frame: pd.DataFrame) -> Any:
    """1 for about a third of the rows, told by all columns and by chance."""
    rng = np.random.default_rng(11)
    pull = (frame["hour"] - 14) / 4 + frame["load"].fillna(0.5) + (frame["carrier"] == "B6") - frame["distance"] / 900
    return (pull + rng.logistic(size=len(frame)) > 0.6).astype(int).to_numpy()


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


@dataclass(frozen=True)
class Kind:
    """A kind of model: how it is made, and the columns that it takes."""

    make: Callable[[], Any]
    columns: tuple[str, ...] = COLUMNS

    def fitted(self) -> Any:
        frame = rows()
        return self.make().fit(frame[list(self.columns)], labels(frame))


def plain(estimator: Any) -> Callable[[], Pipeline]:
    """Numbers filled and scaled, texts one column per category."""

    def make() -> Pipeline:
        filled = make_pipeline(SimpleImputer(), StandardScaler())
        coded = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        return make_pipeline(
            make_column_transformer((filled, list(NUMBERS)), (coded, ["carrier", "origin"])), estimator
        )

    return make


def numbers(estimator: Any) -> Callable[[], Pipeline]:
    """Numbers only, filled and scaled."""
    return lambda: make_pipeline(SimpleImputer(), StandardScaler(), estimator)


def target_coded() -> Pipeline:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    coded = make_column_transformer((TargetEncoder(cv=folds), ["carrier"]), ("passthrough", list(NUMBERS)))
    return make_pipeline(coded, HistGradientBoostingClassifier(max_iter=60, random_state=0))


KINDS: dict[str, Kind] = {
    "logistic regression": Kind(plain(LogisticRegression())),
    "random forest": Kind(plain(RandomForestClassifier(60, max_depth=8, random_state=0))),
    "extra trees": Kind(plain(ExtraTreesClassifier(60, max_depth=8, random_state=0))),
    "hist gradient boosting": Kind(lambda: HistGradientBoostingClassifier(max_iter=80, random_state=0), NUMBERS),
    "gradient boosting": Kind(plain(GradientBoostingClassifier(n_estimators=60, random_state=0))),
    "SVC, calibrated": Kind(plain(CalibratedClassifierCV(SVC(), ensemble=False, cv=3))),
    "k nearest neighbours": Kind(numbers(KNeighborsClassifier(15)), NUMBERS),
    "Gaussian naive Bayes": Kind(numbers(GaussianNB()), NUMBERS),
    "multilayer perceptron": Kind(plain(MLPClassifier((16,), max_iter=300, random_state=0))),
    "k means": Kind(numbers(KMeans(4, n_init=3, random_state=0)), NUMBERS),
    "PCA and logistic regression": Kind(
        lambda: make_pipeline(SimpleImputer(), StandardScaler(), PCA(2), LogisticRegression()), NUMBERS
    ),
    "isolation forest": Kind(numbers(IsolationForest(n_estimators=40, random_state=0)), NUMBERS),
    "calibrated classifier": Kind(plain(CalibratedClassifierCV(GaussianNB(), cv=3))),
    "target encoder and boosting": Kind(target_coded, ("carrier", *NUMBERS)),
    "one-hot columns and boosting": Kind(plain(HistGradientBoostingClassifier(max_iter=60, random_state=0))),
    "ridge": Kind(plain(Ridge())),
    "elastic net": Kind(plain(ElasticNet(alpha=0.01))),
}
