"""The model as a BentoML service: ``bentoml serve bentoml_service:Scores``. ``MODEL`` as in ``fastapi_app``."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Scores:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML is not in our environment
    def predict(self, rows: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self.model.predict_proba(rows)[:, 1]
        return scores
