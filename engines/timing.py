"""Several models timed so that they can be compared: the same rows in turn, call by call, in a changing order.

A busy machine slows whatever runs at that moment. Timed one after the other, two equal models differ by as much as the
machine changed meanwhile; timed in turn, its moods meet all of them. A second copy of one of them (an A/A control) then
says how far apart two equal models still look.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines.skops_types import Unscorable

WARM_UP_CALLS = 3
WARM_UP_SHARE = 0.1
"""How much of the budget may pass before the first call that counts."""
BATCH_SHARE = 0.2
"""How much of the budget is kept for batch calls."""

Floats = npt.NDArray[np.float64]


class Clocked(Protocol):
    """What can be timed: a ``scoring.Scorer``."""

    def clock(self, table: pa.Table) -> float | None:
        """Milliseconds for the rows of one call, None where the model failed at one of them."""
        ...


class Stopped(Unscorable):
    """One of the models could not be asked any longer; ``name`` says which."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


@dataclass(frozen=True)
class Timed:
    """Milliseconds per call, in the order of the calls, NaN where the model failed. Of all models that were timed
    together call i had the same rows at nearly the same moment."""

    single_ms: Floats
    batch_ms: Floats


def timed(
    scorers: Mapping[str, Clocked],
    table: pa.Table,
    *,
    calls: int,
    batch_rows: int,
    budget: timedelta,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Timed]:
    """Time all ``scorers`` on single rows of ``table``, then on batches of ``batch_rows`` of them (used again from the
    first where they run out).

    At most ``calls`` calls of either sort, each model as many as the others: when the time is used up, all stop after
    the round that has begun, so that ``budget`` is exceeded by one call of each at most. The first round of either sort
    is always run. Raises Stopped when a model can not be asked any longer, ValueError without rows.
    """
    if not len(table) or not scorers:
        raise ValueError("There is nothing to time: no rows, or no model.")
    began, seconds = clock(), budget.total_seconds()
    rounds = _Rounds(scorers, clock)
    for share, count, size in ((WARM_UP_SHARE, WARM_UP_CALLS, 1), (WARM_UP_SHARE, 1, batch_rows)):
        rounds.run(_windows(table, size), most=count, until=began + share * seconds)  # not counted
    until_single = began + (1 - BATCH_SHARE) * seconds
    single = rounds.run(_windows(table, 1), most=calls, until=until_single)
    batch = rounds.run(_windows(table, batch_rows), most=calls, until=began + seconds)
    return {name: Timed(single[name], batch[name]) for name in scorers}


class _Rounds:
    """Rounds in which each model is asked once. The order runs through all permutations: none is always asked first,
    and none always after the same other (which leaves the processor's caches in the same state for it)."""

    def __init__(self, scorers: Mapping[str, Clocked], clock: Callable[[], float]) -> None:
        self._scorers = scorers
        self._clock = clock

    def run(self, windows: Iterator[pa.Table], *, most: int, until: float) -> dict[str, Floats]:
        """Up to ``most`` rounds, none begun after ``until`` but the first."""
        taken: dict[str, list[float]] = {name: [] for name in self._scorers}
        orders = itertools.cycle(itertools.permutations(self._scorers))
        for done, (order, rows) in enumerate(zip(orders, windows, strict=False)):
            if done >= most or (done and self._clock() >= until):
                break
            for name in order:
                taken[name].append(self._once(name, rows))
        return {name: np.asarray(times, dtype=np.float64) for name, times in taken.items()}

    def _once(self, name: str, rows: pa.Table) -> float:
        try:
            milliseconds = self._scorers[name].clock(rows)
        except Unscorable as problem:
            raise Stopped(name, str(problem)) from problem
        return np.nan if milliseconds is None else milliseconds


def _windows(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """``size`` rows after the other, for ever."""
    for start in itertools.count(step=size):
        yield table.take(np.arange(start, start + size) % len(table))
