"""Scores from model artifacts that are never loaded here: each lives in a process of its own (``scoring_child``).

::

    with Scorer(path, load_class="skops", columns=columns) as scorer:
        scored = scorer.predict(table)

A scorer stays warm and may be used by several threads, one call at a time. What goes wrong with the artifact is
``Unscorable``: it can not be loaded, it takes too long, it takes down its process. A model of the load class
``external`` has no process: it is an endpoint elsewhere (``engines.external``), asked by the same methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines import external, nursery
from engines.nursery import THREADS, Child
from engines.skops_types import Unscorable
from engines.timing import Stopped, Timed, timed

__all__ = ["THREADS", "Scored", "Scorer", "Stopped", "Timed", "Unscorable", "shut_down", "timed", "warm_up"]

MEMORY_LIMIT = 4 * 2**30
START_TIMEOUT = timedelta(seconds=60)
CALL_TIMEOUT = timedelta(seconds=120)
SHELVES = {"skops": nursery.FRAMES, "booster": nursery.FRAMES, "onnx": nursery.TENSORS}
"""The libraries that a load class is scored with."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One float64 score per row, NaN where the model failed; ``errors`` has what it said, by row position."""

    scores: Floats
    errors: dict[int, str]


class _Backend(Protocol):
    """Where a model is asked; the columns of the tables are the model's, in order."""

    @property
    def is_alive(self) -> bool: ...
    def predict(self, table: pa.Table) -> tuple[Floats, dict[int, str]]: ...
    def time_rows(self, table: pa.Table, *, seconds: float) -> Floats: ...
    def clock(self, table: pa.Table) -> float | None: ...
    def close(self) -> None: ...


class Scorer:
    """One model, warm.

    ``columns`` are the model's inputs in order. ``memory_limit`` is in bytes on top of the libraries. ``hosts`` are
    those that an external model may live on (``external.Hosts``). The constructor returns when the model is loaded (an
    external one: when its document is in order) and raises ``Unscorable`` when it can not be.
    """

    def __init__(
        self,
        path: Path,
        *,
        load_class: str,
        columns: Sequence[str],
        memory_limit: int = MEMORY_LIMIT,
        start_timeout: timedelta = START_TIMEOUT,
        call_timeout: timedelta = CALL_TIMEOUT,
        hosts: Sequence[str] = (),
    ) -> None:
        self.columns = tuple(columns)
        self._backend: _Backend
        if load_class == "external":
            self._backend = external.Endpoint(path, columns=self.columns, allowed_hosts=hosts, timeout=call_timeout)
        elif load_class in SHELVES:
            self._backend = _Process(path, load_class, self.columns, memory_limit, start_timeout, call_timeout)
        else:
            known = ", ".join([*SHELVES, "external"])
            raise Unscorable(f"Artifacts of the load class {load_class!r} are not scored; {known} are.")

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked; a scorer that failed to answer in time or died can not."""
        return self._backend.is_alive

    def predict(self, table: pa.Table) -> Scored:
        """Scores of all rows. A row at which the model raises costs only itself."""
        return Scored(*self._backend.predict(self._own(table)))

    def time_rows(self, table: pa.Table, *, budget: timedelta) -> Floats:
        """Milliseconds for each row asked alone, in order, as many rows as fit into ``budget``; failed rows left out.

        Measured inside the scorer, from the Arrow row to the score; of an external model, with the network.
        """
        return self._backend.time_rows(self._own(table), seconds=budget.total_seconds())

    def clock(self, table: pa.Table) -> float | None:
        """Milliseconds for all rows asked at once, None where the model failed at one of them. See ``timed``.

        Measured inside the scorer, from the Arrow rows to the scores; of an external model, with the network.
        """
        return self._backend.clock(self._own(table))

    def close(self) -> None:
        """End it."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self, table: pa.Table) -> pa.Table:
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise ValueError(f"The rows lack the model's input columns {', '.join(missing)}.")
        return table.select(list(self.columns))


class _Process:
    """A model in a process of its own."""

    def __init__(
        self,
        path: Path,
        load_class: str,
        columns: tuple[str, ...],
        memory_limit: int,
        start_timeout: timedelta,
        call_timeout: timedelta,
    ) -> None:
        self._seconds = call_timeout.total_seconds()
        order = {"role": "score", "load_class": load_class, "columns": columns, "memory_limit": memory_limit}
        self._child = Child(path, shelf=SHELVES[load_class], order=order)
        header, _ = self._child.receive(0, seconds=start_timeout.total_seconds(), verb="loaded")
        if not header.get("ready"):
            self.close()
            raise Unscorable(str(header.get("unscorable", "It did not say why it can not be loaded.")))

    @property
    def is_alive(self) -> bool:
        return self._child.is_alive

    def predict(self, table: pa.Table) -> tuple[Floats, dict[int, str]]:
        header, body = self._child.ask({"op": "predict"}, table, answer_bytes=8 * len(table), seconds=self._seconds)
        if len(body) != 8 * len(table):
            self.close()
            raise Unscorable("The scorer answered another number of rows than it was asked.")
        errors = {int(row): str(text) for row, text in header.get("errors", {}).items()}
        return np.frombuffer(body, dtype=np.float64), errors

    def time_rows(self, table: pa.Table, *, seconds: float) -> Floats:
        header = {"op": "time", "seconds": seconds}
        _, body = self._child.ask(header, table, answer_bytes=8 * len(table), seconds=self._seconds)
        return np.frombuffer(body, dtype=np.float64)

    def clock(self, table: pa.Table) -> float | None:
        header, _ = self._child.ask({"op": "clock"}, table, answer_bytes=0, seconds=self._seconds)
        milliseconds = header.get("milliseconds")
        if isinstance(milliseconds, float) and math.isfinite(milliseconds) and milliseconds > 0:
            return milliseconds
        return None

    def close(self) -> None:
        self._child.close()


def warm_up(load_class: str = "skops") -> None:
    """Start importing a load class' libraries now, so that the first scorer need not wait for them."""
    if load_class in SHELVES:
        nursery.warm_up(SHELVES[load_class])


def shut_down() -> None:
    """End the nurseries of this process and all its scorers (at exit, and in tests)."""
    nursery.shut_down()
