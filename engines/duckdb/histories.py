"""Which row of an entity's history was the newest known at an instant: sorted arrays and binary search.

One plan for every shape of data. A row's entity (a small integer, its *code*) and its time are packed into one 64-bit
integer, so that sorting a history is one sort of integers and asking is one binary search. A join of SQL spends its
time moving the features along while it sorts; here they stay where they are until the rows are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Given rows that agree in entity, event time and known time with their neighbours, the same rows put so that in each
# group the one to be used stands last.
TieBreak = Callable[[Ints], Ints]

_BITS = 62
# So many steps back to an older row are tried before the rest is answered on the staircase.
_STEPS = 8


@dataclass(frozen=True)
class History:
    """Rows of a view, unsorted: codes of entities from 0, event and known time in microseconds since 1970."""

    code: Ints
    event: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.code)

    @property
    def available(self) -> Ints:
        """When a row had both happened and become known."""
        return np.maximum(self.event, self.known)

    def only(self, rows: Ints | Flags) -> History:
        """The history of some of the rows."""
        return History(self.code[rows], self.event[rows], self.known[rows])


@dataclass(frozen=True)
class Asked:
    """Questions: which entity, at which instant (microseconds). Codes may lie outside the history."""

    code: Ints
    bound: Ints

    def __len__(self) -> int:
        return len(self.code)


class Clock:
    """Packs (code, time) into one integer that sorts by code, then by time.

    Exact for every time of the histories it was made for. Other times keep their place among those.
    """

    def __init__(self, codes: int, *times: Ints) -> None:
        held = [each for each in times if len(each)]
        self._low = min((int(each.min()) for each in held), default=0)
        self._high = max((int(each.max()) for each in held), default=0)
        self._grid: Ints | None = None
        code_bits = max(codes, 1).bit_length()
        self._bits = (self._high - self._low + 2).bit_length()
        if code_bits + self._bits > _BITS:
            # Times too far apart (year 1, year 9999): their ranks say the same in fewer bits.
            self._grid = np.unique(np.concatenate(held))
            self._bits = (len(self._grid) + 1).bit_length()

    def pack(self, code: Ints, time: Ints) -> Ints:
        """The packed integers. What lies before all times of the histories becomes the start of its code."""
        if self._grid is not None:
            return (code << self._bits) | np.searchsorted(self._grid, time, side="right")
        return (code << self._bits) | (np.clip(time, self._low - 1, self._high) - (self._low - 1))

    def pack_held(self, code: Ints, time: Ints) -> Ints:
        """The same for times of the histories, which need no clipping."""
        if self._grid is not None:
            return self.pack(code, time)
        packed: Ints = code << self._bits
        packed |= time - (self._low - 1)
        return packed

    def code(self, packed: Ints) -> Ints:
        """The codes that were packed."""
        return packed >> self._bits

    def start(self, code: Ints) -> Ints:
        """A packed integer below all of the code's times."""
        return code << self._bits


def newest_known(history: History, asked: Asked, *, codes: int, break_ties: TieBreak) -> Ints:
    """For each question the row with the newest (event, known) that had happened and was known; -1 where none was.

    ``codes`` is the number of entities. Rows equal in both times are told apart by ``break_ties``.
    """
    if not len(history) or not len(asked):
        return np.full(len(asked), -1, np.int64)
    clock = Clock(codes, history.event)
    rows, packed = _sorted_rows(history, clock, break_ties)
    at = _last_at(packed, clock.pack(asked.code, asked.bound))
    start = clock.start(asked.code)
    found = _in_code(packed, at, start)
    # Late rows: the newest that had happened may not have been known yet. Then an older one answers.
    open_ = np.flatnonzero(found)[history.known[rows[at[found]]] > asked.bound[found]]
    for _ in range(_STEPS):
        if not len(open_):
            break
        at[open_] -= 1
        inside = _in_code(packed, at[open_], start[open_])
        found[open_[~inside]] = False
        open_ = open_[inside]
        open_ = open_[history.known[rows[at[open_]]] > asked.bound[open_]]
    answers = np.where(found, rows[at], -1)
    if len(open_):
        answers[open_] = _on_staircase(history, rows, Asked(asked.code[open_], asked.bound[open_]), codes)
    return answers


def last_at(packed: Ints, asked: Ints) -> Ints:
    """How many of the sorted ``packed`` are at or before each of ``asked``."""
    # asked in order walks through memory once; in disorder each search starts cold
    order = np.argsort(asked)
    counts = np.empty(len(asked), np.int64)
    counts[order] = np.searchsorted(packed, asked[order], side="right")
    return counts


def _last_at(packed: Ints, asked: Ints) -> Ints:
    return last_at(packed, asked) - 1


def _in_code(packed: Ints, at: Ints, start: Ints) -> Flags:
    """Whether a position holds a row of the code that begins at ``start``. Position -1 never does."""
    inside: Flags = (at >= 0) & (packed[at] >= start)
    return inside


def _sorted_rows(history: History, clock: Clock, break_ties: TieBreak) -> tuple[Ints, Ints]:
    """Rows by entity, event time, known time, tie; and their packed keys in that order."""
    key = clock.pack_held(history.code, history.event)
    rows = np.argsort(key)
    packed = key[rows]
    tied = _neighbours(packed[1:] == packed[:-1])
    if len(tied):
        among = rows[tied]
        among = among[np.lexsort((history.known[among], key[among]))]
        known = history.known[among]
        equal = _neighbours((key[among][1:] == key[among][:-1]) & (known[1:] == known[:-1]))
        if len(equal):
            among[equal] = break_ties(among[equal])
        rows[tied] = among
    return rows, packed


def _neighbours(equal: Flags) -> Ints:
    """Positions that equal the one before or after them, from "equals its successor" flags."""
    part = np.zeros(len(equal) + 1, np.bool_)
    part[:-1] |= equal
    part[1:] |= equal
    return np.flatnonzero(part)


def _on_staircase(history: History, rows: Ints, asked: Asked, codes: int) -> Ints:
    """The same answer for histories that arrived in disorder, whatever the disorder, with one more sort.

    Rows are walked in the order in which they became available, and each is overshadowed by the newest so far: the
    running maximum of their ranks. As ranks grow with the code, it needs no restart from one entity to the next.
    """
    concerned = np.zeros(codes, np.bool_)
    concerned[asked.code] = True
    ranked = rows[concerned[history.code[rows]]]
    part = history.only(ranked)
    clock = Clock(codes, part.available)
    key = clock.pack_held(part.code, part.available)
    order = np.argsort(key)
    packed = key[order]
    best = np.maximum.accumulate(order)
    at = _last_at(packed, clock.pack(asked.code, asked.bound))
    return np.where(_in_code(packed, at, clock.start(asked.code)), ranked[best[at]], -1)
