"""Load a booster from its library's own text: XGBoost's JSON, LightGBM's model text.

Columns arrive in the order of the signature: numbers as floats, null as NaN. LightGBM gets text as categories with the
levels that its text has on record; XGBoost gets numbers only. A binary objective answers the probability of the
second class, any other objective its prediction. The libraries are the optional extra ``boosters``; their native
parsers run in the child only, with little memory until the model is loaded.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from engines import memory
from engines.loaded_model import LoadedModel, said
from engines.skops_model import FrameRows, frame
from engines.skops_types import Unscorable

LIGHTGBM_START = b"tree\n"
XGBOOST_START = b"{"
MISSING = "Boosters are scored by {}, which is not installed here: pip install '.[boosters]'."
_NOT_BINARY = ("multi", "rank", "survival", "lambdarank", "cross_entropy_lambda")


def load(artifact: BinaryIO, columns: tuple[str, ...]) -> LoadedModel:
    """The model in a booster's text. Raises Unscorable, and MemoryError."""
    content = artifact.read()
    if content.startswith(LIGHTGBM_START):
        return _lightgbm(content, columns)
    if content.lstrip()[:1] == XGBOOST_START:
        return _xgboost(content, columns)
    raise Unscorable("This is neither XGBoost's JSON nor LightGBM's model text.")


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unscorable(MISSING.format(name)) from error


# ---------------------------------------------------------------------- XGBoost


def _xgboost(content: bytes, columns: tuple[str, ...]) -> LoadedModel:
    xgboost = _library("xgboost")
    booster = xgboost.Booster({"nthread": 1})
    with memory.tight(len(content)):
        try:
            booster.load_model(bytearray(content))
            config = json.loads(booster.save_config())
        except MemoryError:
            raise
        except Exception as error:  # whatever a crafted file makes the library raise, it can not be loaded
            raise Unscorable(f"It can not be loaded: {said(error)}.") from error
    _refuse_objective(str(config["learner"]["objective"]["name"]))
    if "c" in (booster.feature_types or []):
        raise Unscorable("It has categories, whose codes XGBoost's JSON does not say; code them as numbers.")
    _refuse_names(booster.feature_names, booster.num_features(), columns)
    booster.set_param({"nthread": 1})

    def ask(rows: FrameRows) -> Any:
        matrix = xgboost.DMatrix(rows.frame.to_numpy(np.float32), feature_names=booster.feature_names, nthread=1)
        return booster.predict(matrix)

    return LoadedModel(columns, prepare=lambda table: FrameRows(_numbers(table, columns)), ask=ask)


def _numbers(table: pa.Table, columns: tuple[str, ...]) -> Any:
    rows = frame(table, columns)
    texts = [name for name in columns if rows[name].dtype != np.float64 and rows[name].dtype != np.float32]
    if texts:
        raise ValueError(f"{texts[0]} is no number, and XGBoost takes numbers only")
    return rows


# ---------------------------------------------------------------------- LightGBM


def _lightgbm(content: bytes, columns: tuple[str, ...]) -> LoadedModel:
    lightgbm = _library("lightgbm")
    with memory.tight(len(content)):
        try:
            text = content.decode()
            booster = lightgbm.Booster(model_str=text)
            names = booster.feature_name()
        except MemoryError:
            raise
        except Exception as error:  # whatever a crafted file makes the library raise, it can not be loaded
            raise Unscorable(f"It can not be loaded: {said(error)}.") from error
    objective = next((line.split("=", 1)[1] for line in text.splitlines() if line.startswith("objective=")), "")
    _refuse_objective(objective.split(" ")[0])
    _refuse_names(None if names == [f"Column_{i}" for i in range(len(names))] else names, len(names), columns)

    def ask(rows: FrameRows) -> Any:
        return booster.predict(rows.frame, num_threads=1)

    return LoadedModel(columns, prepare=lambda table: FrameRows(_categories(table, columns)), ask=ask)


def _categories(table: pa.Table, columns: tuple[str, ...]) -> Any:
    rows = frame(table, columns)
    texts = [name for name in columns if rows[name].dtype == object]
    return rows.astype(dict.fromkeys(texts, "category")) if texts else rows


# ---------------------------------------------------------------------- both


def _refuse_objective(objective: str) -> None:
    if objective.startswith(_NOT_BINARY) or objective in ("binary:logitraw", "binary:hinge"):
        raise Unscorable(f"Its objective {objective} gives neither the probability of a class nor a prediction.")


def _refuse_names(names: Sequence[str] | None, count: int, columns: tuple[str, ...]) -> None:
    """The inputs go in by position: they must be what the signature says, in this order."""
    if count != len(columns):
        raise Unscorable(f"It takes {count} columns; its signature names {len(columns)}.")
    written = [name.replace(" ", "_") for name in columns]  # LightGBM writes no spaces
    if names is not None and list(names) not in (list(columns), written):
        raise Unscorable(f"It takes {', '.join(names)[:200]}: not the columns of its signature, in this order.")
