"""Score in this process: what the inference gateway does, one row at a time, where a child and Arrow would cost more
than the model.

Only forms that have passed their gates come here: they were loaded and asked in children (``engines.scoring``) first.
An artifact is checked as it is there (operators, allow-listed types) and its bytes against their SHA-256. The scores
are those of the children, to the bit. An external model is asked where it lives.

::

    model = open_model(path, digest=digest, load_class="onnx", columns=("x1", "x2"))
    scores, errors = model.scores({"x1": [0.5], "x2": [None]}, 1)
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engines.loaded_model import LoadedModel, Rows, Scores, said, score_rows
from engines.skops_types import Unscorable

Values = Sequence[Any] | npt.NDArray[Any]
"""One value per row: a list of None, bool, int, float, str and datetime, or a one-dimensional array."""

EXACT = 2**53
"""Integers beyond it have no float64 of their own."""


class InProcessModel(Protocol):
    """A model that is ready. May be asked by several threads at once."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        """One float64 score per row, NaN where the model failed, and what it said there, by row position."""
        ...


def open_model(
    path: Path,
    *,
    load_class: str,
    columns: Sequence[str],
    digest: str = "",
    texts: Collection[str] = (),
    hosts: Sequence[str] = (),
    timeout: timedelta = timedelta(seconds=10),
) -> InProcessModel:
    """Load an artifact. ``digest`` is the SHA-256 that its bytes must have (empty: not checked).

    ``texts`` are the columns that hold text: of one that has only nulls in a request nothing else says so. ``hosts``
    and ``timeout`` are for external models. Not to be called by two threads at once: the native parsers of boosters
    limit the memory of the whole process. Raises Unscorable, OSError and MemoryError.
    """
    content = path.read_bytes()
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise Unscorable("Its artifact is damaged: its bytes are not those that were registered.")
    names = tuple(columns)
    if load_class == "onnx":
        return _Tensors(content, names)
    if load_class == "skops":
        # pandas and scikit-learn: a gateway that serves only ONNX does without
        from engines import nameless, skops_model

        estimator = skops_model.estimator_in(io.BytesIO(content))
        loaded = skops_model.loaded(estimator, names)
        barely = None if texts else nameless.asked_barely(estimator, names, skops_model.way_to_ask)
        return _Frames(loaded, frozenset(texts), barely)
    if load_class == "booster":
        from engines import booster_model

        return _Tables(booster_model.load(io.BytesIO(content), names), frozenset(texts))
    if load_class == "external":
        return _Elsewhere(path, names, frozenset(texts), hosts, timeout)
    raise Unscorable(f"Artifacts of the load class {load_class!r} are not scored.")


# ---------------------------------------------------------------------- ONNX


class _Tensors:
    """An ONNX model: columns become its tensors without a detour."""

    def __init__(self, content: bytes, columns: tuple[str, ...]) -> None:
        from engines import onnx_model, onnx_rules

        onnx_rules.parsed(content)
        self.columns = columns
        self._opened = onnx_model.Opened.of(onnx_model.session_of(content), columns)
        self._rows_of = onnx_model.TensorRows
        kinds, matrix = self._opened.inputs.kinds, self._opened.inputs.matrix
        self._takes = [(name, kinds[matrix or name] == onnx_model.TEXT) for name in self._opened.inputs.columns]
        self._loaded = LoadedModel(columns, prepare=lambda table: table, ask=self._opened.ask)
        self._matrix, self._names, self._second = matrix, self._opened.inputs.columns, onnx_model.second
        refused = self._opened.metadata.refuses_null
        self._refuse_null = [place for place, name in enumerate(self._names) if name in refused]
        floats = {onnx_model.NUMBERS.get(kind) for kind in kinds.values()}
        is_plain = len(floats) == 1 and floats <= {np.float32, np.float64}
        self._float: type[np.floating[Any]] | None = floats.pop() if is_plain else None

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        if rows == 1 and self._float is not None:
            score = self._one(columns, self._float)
            if score is not None and np.isfinite(score):
                return np.array([score]), {}
        try:
            prepared = self._prepared(columns, rows)
        except ValueError as error:  # a column of a kind that it does not take
            return np.full(rows, np.nan), dict.fromkeys(range(rows), said(error))
        try:
            answer: Scores = np.asarray(self._opened.ask(prepared), dtype=np.float64)
        except Exception:  # noqa: BLE001  # the model is not our code: row by row it says which ones it refuses
            return score_rows(self._loaded, prepared)
        if answer.shape == (rows,) and np.isfinite(answer).all():
            return answer, {}
        return score_rows(self._loaded, prepared)

    def _one(self, columns: Mapping[str, Values], kind: type[np.floating[Any]]) -> float | None:
        """The score of one row of plain numbers, in a third of the time; None where the general way must say more."""
        row = [columns[name][0] for name in self._names]
        kinds = set(map(type, row))
        if not kinds <= _NUMBERS or (int in kinds and any(type(each) is int and abs(each) > EXACT for each in row)):
            return None
        numbers = np.array(row, dtype=np.float64)
        if self._refuse_null and np.isnan(numbers[self._refuse_null]).any():
            return None
        typed = numbers.astype(kind, copy=False)
        feed = (
            {self._matrix: typed[np.newaxis]}
            if self._matrix
            else dict(zip(self._names, typed[:, None, None], strict=True))
        )
        try:
            return float(self._second(self._opened.session.run([self._opened.output], feed)[0], 1)[0])
        except Exception:  # noqa: BLE001  # the model is not our code: the general way tells what it said
            return None

    def _prepared(self, columns: Mapping[str, Values], rows: int) -> Any:
        metadata = self._opened.metadata
        arrays: dict[str, npt.NDArray[Any]] = {}
        missing: dict[str, npt.NDArray[np.bool_]] = {}
        for name, is_text in self._takes:
            values = columns[name]
            arrays[name] = _texts(values, name, metadata.null_text) if is_text else _floats(values, name)
            if name in metadata.refuses_null:
                missing[name] = np.asarray([value is None for value in values]) if is_text else np.isnan(arrays[name])
        return self._rows_of(arrays, missing, rows)


_NUMBERS = frozenset({float, int, bool, type(None)})


def _floats(values: Values, name: str) -> npt.NDArray[np.float64]:
    """float64, NaN for None. Raises ValueError for what is no number."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "fiub":
            _refuse_inexact(values.dtype.kind in "iu" and values.size and int(np.abs(values).max()) > EXACT, name)
            return values.astype(np.float64, copy=False)
        values = values.tolist()
    kinds = set(map(type, values))
    if not kinds <= _NUMBERS:
        strange = sorted(each.__name__ for each in kinds - _NUMBERS)
        raise ValueError(f"{name} holds {strange[0]}, and the model takes a number")
    _refuse_inexact(int in kinds and any(type(each) is int and abs(each) > EXACT for each in values), name)
    return np.array(values, dtype=np.float64)


def _refuse_inexact(inexact: Any, name: str) -> None:
    if inexact:
        raise ValueError(f"{name} holds a whole number beyond 2**53, which no float64 is")


def _texts(values: Values, name: str, null_text: str) -> npt.NDArray[np.object_]:
    texts = values.tolist() if isinstance(values, np.ndarray) else values
    strange = {type(each) for each in texts} - {str, type(None)}
    if strange:
        raise ValueError(f"{name} holds {strange.pop().__name__}, and the model takes text")
    return np.asarray([null_text if each is None else each for each in texts], dtype=np.object_)


# ---------------------------------------------------------------------- what takes data frames or tables


class _Frames:
    """A scikit-learn estimator, asked as everywhere (``engines.skops_model``).

    ``barely`` answers one row of numbers without a data frame, where that is the same to the bit (``nameless``).
    """

    def __init__(
        self,
        loaded: LoadedModel,
        texts: frozenset[str],
        barely: Callable[[npt.NDArray[np.float64]], float] | None = None,
    ) -> None:
        self.columns, self._loaded, self._texts, self._barely = loaded.columns, loaded, texts, barely

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        if rows == 1 and self._barely is not None:
            score = self._of_one(columns, self._barely)
            if score is not None:
                return np.array([score]), {}
        return self._of_all(columns, rows)

    def _of_one(
        self, columns: Mapping[str, Values], barely: Callable[[npt.NDArray[np.float64]], float]
    ) -> float | None:
        """The score of one row of plain numbers; None for everything that is not as usual."""
        row = []
        for name in self.columns:
            value = columns[name][0]
            if isinstance(value, np.generic):
                value = value.item()
            kind = type(value)
            if kind not in _NUMBERS or (kind is int and abs(value) > EXACT):
                return None
            row.append(math.nan if value is None else value)
        try:
            score = barely(np.array([row], dtype=np.float64))
        except Exception:  # noqa: BLE001  # the model is not our code: the long way says what it refuses
            return None
        return score if math.isfinite(score) else None

    def _of_all(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        import pandas as pd

        from engines.skops_model import FrameRows

        try:
            found = {name: _frame_column(columns[name], name, name in self._texts) for name in self.columns}
        except ValueError as error:
            return np.full(rows, np.nan), dict.fromkeys(range(rows), said(error))
        return score_rows(self._loaded, FrameRows(pd.DataFrame(found, index=range(rows))))


def _frame_column(values: Values, name: str, is_text: bool) -> Any:
    """As ``skops_model.frame`` has it: numbers as float64, text as objects with NaN, times by pandas."""
    listed = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind not in "fiub" else values
    kinds = {type(None)} if isinstance(listed, np.ndarray) else set(map(type, listed))
    if kinds <= _NUMBERS and not (is_text and kinds == {type(None)}):
        return _floats(listed, name)
    if kinds <= {str, type(None)}:
        found = np.empty(len(listed), dtype=np.object_)
        found[:] = [np.nan if each is None else each for each in listed]
        return found
    from engines import skops_model

    return skops_model.frame(_table({name: listed}, (name,), frozenset()), (name,))[name]


class _Tables:
    """A model that is asked with Arrow tables."""

    def __init__(self, loaded: LoadedModel, texts: frozenset[str]) -> None:
        self.columns, self._loaded, self._texts = loaded.columns, loaded, texts

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        try:
            prepared: Rows = self._loaded.prepare(_table(columns, self.columns, self._texts))
        except Exception as error:  # noqa: BLE001  # as in ``loaded_model.score_table``: its preparation may raise anything
            return np.full(rows, np.nan), dict.fromkeys(range(rows), said(error))
        return score_rows(self._loaded, prepared)


class _Elsewhere:
    """A model that lives at another server."""

    def __init__(
        self, path: Path, columns: tuple[str, ...], texts: frozenset[str], hosts: Sequence[str], timeout: timedelta
    ) -> None:
        from engines import external

        self.columns, self._texts = columns, texts
        self._endpoint = external.Endpoint(path, columns=columns, allowed_hosts=hosts, timeout=timeout)

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Scores, dict[int, str]]:
        try:
            return self._endpoint.predict(_table(columns, self.columns, self._texts))
        except (Unscorable, ValueError) as error:
            return np.full(rows, np.nan), dict.fromkeys(range(rows), said(error))


def _table(columns: Mapping[str, Values], names: Sequence[str], texts: frozenset[str]) -> Any:
    """The columns as Arrow has them. Raises ValueError (pyarrow.ArrowInvalid) for values of several kinds in one."""
    import pyarrow as pa

    found = {name: pa.array(columns[name]) for name in names}
    unsaid = {name for name in texts & found.keys() if pa.types.is_null(found[name].type)}
    return pa.table({name: each.cast(pa.string()) if name in unsaid else each for name, each in found.items()})
