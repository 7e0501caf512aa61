"""Load a skops artifact: the only module of Gatehouse that builds a scikit-learn object from a file.

How an estimator is called, in training and here alike: a pandas data frame of its columns in order, numbers and
booleans as float64, text as objects, times as UTC datetimes, null as NaN (NaT). A classifier answers the probability of
its second class, a regressor its prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io

from engines import skops_types
from engines.loaded_model import LoadedModel, said
from engines.skops_types import Unscorable


@dataclass(frozen=True)
class FrameRows:
    """Rows as a data frame."""

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def part(self, start: int, end: int) -> FrameRows:
        return FrameRows(self.frame.iloc[start:end])


def load(artifact: BinaryIO, columns: tuple[str, ...]) -> LoadedModel:
    """The model in a skops artifact. Raises Unscorable."""
    return loaded(estimator_in(artifact), columns)


def estimator_in(artifact: BinaryIO) -> Any:
    """The object in a skops artifact, built of allowed types only. Raises Unscorable."""
    skops_types.check(artifact)
    artifact.seek(0)
    try:
        return skops.io.load(artifact, trusted=skops_types.TRUSTED)
    except Exception as error:  # whatever a crafted file makes the libraries raise, it can not be loaded
        raise Unscorable(f"It can not be loaded: {said(error)}.") from error


def loaded(estimator: Any, columns: tuple[str, ...]) -> LoadedModel:
    """How an estimator is asked. Raises Unscorable when it gives no score."""
    way = way_to_ask(estimator)
    return LoadedModel(
        columns, prepare=lambda table: FrameRows(frame(table, columns)), ask=lambda rows: way(rows.frame)
    )


def way_to_ask(estimator: Any) -> Callable[[pd.DataFrame], Any]:
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        if not hasattr(estimator, "predict_proba"):
            raise Unscorable("It is a classifier without predict_proba: there is no probability to score with.")
        if len(classes) != 2:
            raise Unscorable(f"It tells {len(classes)} classes apart; a score needs exactly two.")
        return lambda rows: estimator.predict_proba(rows)[:, 1]
    if not hasattr(estimator, "predict"):
        raise Unscorable(f"It holds a {type(estimator).__name__}, which does not predict.")
    return lambda rows: estimator.predict(rows)


def frame(table: pa.Table, columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows as every estimator is called (module docstring)."""
    return pd.DataFrame({name: _frame_column(table.column(name)) for name in columns}, index=range(len(table)))


def _frame_column(column: pa.ChunkedArray) -> Any:
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column, type_ = column.cast(type_.value_type), type_.value_type
    is_number = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal)
    if any(is_kind(type_) for is_kind in is_number):
        column = column.cast(pa.float64())
    elif not pa.types.is_floating(type_):
        values = column.to_pandas(use_threads=False)
        return values if pa.types.is_temporal(type_) else values.astype(object).where(values.notna(), np.nan)
    return column.to_numpy().astype(np.float64, copy=False)
