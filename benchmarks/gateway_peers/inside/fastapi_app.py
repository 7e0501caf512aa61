"""The reference: a model behind FastAPI as its tutorials have it, started by ``uvicorn fastapi_app:app``.

``MODEL`` is the pipeline as joblib wrote it, ``COLUMNS`` how many numbers it takes. ``/predict`` gives it the numbers
as they are; ``/predict_frame`` names them first, as a model needs that was fitted on a data frame (``NAMED_MODEL``).
"""

import os
from typing import Any

import joblib
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import create_model

model = joblib.load(os.environ["MODEL"])
named = joblib.load(os.environ["NAMED_MODEL"])
NAMES = [f"number{at}" for at in range(int(os.environ["COLUMNS"]))]
FIELDS: dict[str, Any] = dict.fromkeys(NAMES, (float, ...))
Row: Any = create_model("Row", **FIELDS)
app = FastAPI()


@app.post("/predict")  # type: ignore[untyped-decorator]  # FastAPI is not in our environment
def predict(row: Row) -> dict[str, float]:
    numbers = np.array([[getattr(row, name) for name in NAMES]])
    return {"score": float(model.predict_proba(numbers)[0, 1])}


@app.post("/predict_frame")  # type: ignore[untyped-decorator]  # as above
def predict_frame(row: Row) -> dict[str, float]:
    return {"score": float(named.predict_proba(pd.DataFrame([row.model_dump()]))[0, 1])}
