"""A model that was loaded from an artifact, asked for scores; the same for every load class.

Runs only in the processes of ``engines.scoring_child``. A loader (``skops_model``, ``onnx_model``, ``booster_model``)
says how rows are prepared and how the model is asked; what is a score, and what a row that fails costs, is said here.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Scores = npt.NDArray[np.float64]
MAX_MESSAGE = 300
WARM_UP_ROWS = 3
PROBES = 32
"""Rows that a model which fails at the whole table is asked one by one before it is given up."""


class Rows(Protocol):
    """Rows as a model takes them."""

    def __len__(self) -> int: ...

    def part(self, start: int, end: int) -> Self:
        """The rows ``[start, end)``."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A model and how it is asked. ``prepare`` turns a table with its columns into its rows; ``ask`` answers one
    number per row. Both may raise anything."""

    columns: tuple[str, ...]
    prepare: Callable[[pa.Table], Any]
    ask: Callable[[Any], Any]

    def scores(self, rows: Rows) -> Scores:
        """One finite score per row. Raises whatever the model raises, and ValueError for an answer that is no score."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's warnings are not for the person who is served
            answer = np.asarray(self.ask(rows), dtype=np.float64)
        if answer.shape != (len(rows),):
            raise ValueError(f"the model answered an array of shape {answer.shape} for {len(rows)} rows")
        if not np.isfinite(answer).all():
            raise ValueError("the model's answer is not a finite number")
        return answer


def score_table(model: LoadedModel, table: pa.Table) -> tuple[Scores, dict[int, str]]:
    """Scores of all rows at once; where that raises, of ever smaller parts, so that a bad row costs only itself.

    The positions of failed rows come with what the model said, and their scores are NaN. A model that fails at each of
    ``PROBES`` rows from all over the table is not asked about the others: thousands of refusals tell no more.
    """
    try:
        rows: Rows = model.prepare(table)
    except Exception as error:  # noqa: BLE001  # a column of a kind that it does not take
        return np.full(len(table), np.nan), dict.fromkeys(range(len(table)), said(error))
    return score_rows(model, rows)


def score_rows(model: LoadedModel, rows: Rows) -> tuple[Scores, dict[int, str]]:
    """``score_table`` of rows that are prepared already."""
    scores = np.full(len(rows), np.nan)
    errors: dict[int, str] = {}
    parts = [(0, len(rows))] if len(rows) else []
    probed = False
    while parts:
        start, end = parts.pop()
        refusal = _score_part(model, rows, scores, start, end)
        if refusal is None:
            continue
        if end - start == 1:
            errors[start] = refusal
        elif not probed and (refusals := _probe(model, rows, scores)) is not None:
            return np.full(len(rows), np.nan), {row: refusals.get(row, refusal) for row in range(len(rows))}
        else:
            middle = (start + end) // 2
            parts += [(middle, end), (start, middle)]
        probed = True
    return scores, errors


def _score_part(model: LoadedModel, rows: Rows, scores: Scores, start: int, end: int) -> str | None:
    """Fill in the scores of one part; what the model said when it refused."""
    try:
        scores[start:end] = model.scores(rows.part(start, end))
    except Exception as error:  # noqa: BLE001  # the model is not our code: whatever it raises is its answer
        return said(error)
    return None


def _probe(model: LoadedModel, rows: Rows, scores: Scores) -> dict[int, str] | None:
    """What the model says to single rows spread over the table; None when it can score at least one of them."""
    refusals: dict[int, str] = {}
    for row in np.unique(np.linspace(0, len(rows) - 1, PROBES).astype(int)).tolist():
        refusal = _score_part(model, rows, scores, row, row + 1)
        if refusal is None:
            return None
        refusals[row] = refusal
    return refusals


def time_rows(model: LoadedModel, table: pa.Table, *, seconds: float) -> Scores:
    """Milliseconds per row, asked one at a time from the received row to its score, until the time is used up.

    A few rows are asked first and not counted. Rows that raise are left out: they are errors, not fast answers.
    """
    for row in range(min(WARM_UP_ROWS, len(table))):
        score_table(model, table.slice(row, 1))
    times: list[float] = []
    ends = time.perf_counter() + seconds
    for row in range(len(table)):
        if time.perf_counter() >= ends:
            break
        milliseconds = clock(model, table.slice(row, 1))
        if milliseconds is not None:
            times.append(milliseconds)
    return np.asarray(times, dtype=np.float64)


def clock(model: LoadedModel, table: pa.Table) -> float | None:
    """Milliseconds from the received rows to their scores; None when one raises: an error is no fast answer."""
    began = time.perf_counter()
    _, errors = score_table(model, table)
    return None if errors else (time.perf_counter() - began) * 1000


def said(error: Exception) -> str:
    """What an exception says, in one line of bearable length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:MAX_MESSAGE]
