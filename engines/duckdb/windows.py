"""Trailing windows at any instants, from prefix sums: the cost does not grow with the number of events in a window.

An event counts at ``b`` when it happened in ``(b - over, b]`` and was known at ``b``. So it enters at the moment it is
available (happened and known), and leaves ``over`` after it happened. A window is therefore the total of what was
available by ``b``, less the total of what happened by ``b - over``: two binary searches in two running totals. Events
that became known only when their window had already passed never count, and are left out of both.

Smallest, greatest and distinct values are no differences of totals. They are taken from the stretch of events between
the two searches, in which the few that were not known yet are told by counting, and only those stretches are gone
through one event at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines.duckdb.fixed_point import BILLION, Fixed, fits, fixed
from engines.duckdb.histories import Asked, Clock, Flags, History, Ints, last_at, newest_known
from engines.duckdb.ordered import Ordered, filled, is_valid, ordered
from engines.offline import Aggregation

# At most so many (question, event) pairs are looked at in one go; about a hundred bytes each.
_PAIRS = 2_000_000
_WORD = 64
# Up to so many words of bits, distinct values are united; beyond, pairs are sorted.
_WORDS = 8
_LARGEST = 2**63


class SumTooLargeError(ValueError):
    """A sum does not fit into 64 bits."""


@dataclass(frozen=True)
class Answers:
    """One array per aggregation, in their order; where there was nothing in the longest window they are null.

    ``present``: the longest window held an event. ``seen``: any event had been known by then, however old.
    """

    features: tuple[pa.Array, ...]
    present: Flags
    seen: Flags


def aggregated(
    history: History,
    columns: Mapping[str, pa.ChunkedArray],
    asked: Asked,
    aggregations: Sequence[Aggregation],
    *,
    codes: int,
) -> Answers:
    """The aggregations at each question. ``columns`` are aligned with ``history``; ``codes`` counts the entities.

    Raises SumTooLargeError.
    """
    if not len(history):
        return _nothing(columns, asked, aggregations)
    longest = max(_span(each.over) for each in aggregations)
    windows = _Windows(history, asked, codes)
    present = windows.count(None, longest) > 0
    held = {name: _Values(windows, column) for name, column in columns.items()}
    features = tuple(_feature(windows, held, each, present) for each in aggregations)
    return Answers(features, present, windows.seen)


def _nothing(columns: Mapping[str, pa.ChunkedArray], asked: Asked, aggregations: Sequence[Aggregation]) -> Answers:
    types = [each.result_type(columns[each.column].type if each.column else None) for each in aggregations]
    none = np.zeros(len(asked), np.bool_)
    return Answers(tuple(pa.nulls(len(asked), type_) for type_ in types), none, none)


def _feature(windows: _Windows, held: Mapping[str, _Values], each: Aggregation, present: Flags) -> pa.Array:
    over = _span(each.over)
    if each.column is None:
        return pa.array(windows.count(None, over), mask=~present)
    return held[each.column].feature(each.function, over, present)


@dataclass(frozen=True)
class Totals:
    """Of the first 0, 1, 2 … events in the order of becoming available, and of happening.

    They may wrap around; differences of them do not notice.
    """

    arrived: Ints
    happened: Ints


class _Windows:
    """Where the events of each question begin and end."""

    def __init__(self, history: History, asked: Asked, codes: int) -> None:
        available = history.available
        self._clock = Clock(codes, history.event, available)
        key = self._clock.pack_held(history.code, history.event)
        self.order = np.argsort(key)
        self._packed = key[self.order]
        self._unsorted = history
        self.available = available[self.order]
        self._latest = int((available - history.event).max())
        self.asked = asked
        self.codes = codes
        self._starts: dict[int, Ints] = {}
        self._fresh: dict[int, Flags | None] = {}

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def _code(self) -> Ints:
        return self._clock.code(self._packed)

    @cached_property
    def event(self) -> Ints:
        """When the events happened."""
        return self._unsorted.event[self.order]

    @cached_property
    def history(self) -> History:
        """All events in order."""
        return History(self._code, self.event, self._unsorted.known[self.order])

    @cached_property
    def _key_of_arrival(self) -> Ints:
        return self._clock.pack_held(self._code, self.available)

    @cached_property
    def arrival(self) -> Ints:
        """Positions (by event) in the order of becoming available."""
        return np.argsort(self._key_of_arrival)

    @cached_property
    def _packed_arrival(self) -> Ints:
        return self._key_of_arrival[self.arrival]

    @cached_property
    def known(self) -> Ints:
        """How many events, of this and all smaller codes, were available at each question."""
        return last_at(self._packed_arrival, self._clock.pack(self.asked.code, self.asked.bound))

    @cached_property
    def seen(self) -> Flags:
        """Whether any event of the entity was available at each question."""
        before = last_at(self._packed_arrival, self._clock.start(self.asked.code))
        flags: Flags = self.known > before
        return flags

    @cached_property
    def end(self) -> Ints:
        """The position after the last event that had happened."""
        return last_at(self._packed, self._clock.pack(self.asked.code, self.asked.bound))

    def start(self, over: int) -> Ints:
        """The position of the first event of the window."""
        if over not in self._starts:
            self._starts[over] = last_at(self._packed, self._clock.pack(self.asked.code, self.asked.bound - over))
        return self._starts[over]

    def fresh(self, over: int) -> Flags | None:
        """Which events became known while their window was open; None if all did."""
        if self._latest < over:
            return None
        if over not in self._fresh:
            flags: Flags = self.available - self.event < over
            self._fresh[over] = None if flags.all() else flags
        return self._fresh[over]

    def count(self, among: Flags | None, over: int) -> Ints:
        """How many events (of ``among``, by position) the window holds."""
        if among is None and self.fresh(over) is None:
            return self.known - self.start(over)
        terms = np.ones(len(self), np.int64) if among is None else among.astype(np.int64)
        return self.total(self.totals(terms, over), over)

    def totals(self, terms: Ints, over: int) -> Totals:
        """Running totals of ``terms`` (by position), those left out that never count in such a window."""
        fresh = self.fresh(over)
        counted = terms if fresh is None else np.where(fresh, terms, 0)
        return Totals(_running(counted[self.arrival]), _running(counted))

    def total(self, totals: Totals, over: int) -> Ints:
        """The sum of the terms in the window of each question."""
        return totals.arrived[self.known] - totals.happened[self.start(over)]

    def stretches(self, over: int, wanted: Flags) -> tuple[Ints, Ints]:
        """The wanted questions whose stretch of events was all known, and those where it was not."""
        whole = self.count(None, over) == self.end - self.start(over)
        return np.flatnonzero(wanted & whole), np.flatnonzero(wanted & ~whole)

    def pairs(self, over: int, questions: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """In pieces: some of the questions; then pairs of which of those, and where an event is that was known then."""
        start, end = self.start(over)[questions], self.end[questions]
        lengths = end - start
        piece = np.cumsum(lengths) // _PAIRS
        for number in np.unique(piece):
            part = piece == number
            some, first, length = questions[part], start[part], lengths[part]
            question = np.repeat(np.arange(len(some)), length)
            offset = np.arange(len(question)) - np.repeat(np.cumsum(length) - length, length)
            event = np.repeat(first, length) + offset
            known = self.available[event] <= self.asked.bound[some][question]
            yield some, question[known], event[known]


class _Values:
    """One aggregated column, its values in the order of the events."""

    def __init__(self, windows: _Windows, column: pa.ChunkedArray) -> None:
        self._windows = windows
        self._column = column.combine_chunks()  # not in order: numbers are put in order faster than Arrow's columns
        self._counts: dict[int, Ints] = {}
        self._sums: dict[int, tuple[npt.NDArray[np.generic], Ints]] = {}
        self._totals: dict[object, Totals] = {}

    @cached_property
    def _ordered(self) -> Ordered:
        column, order = ordered(self._column), self._windows.order
        return Ordered(column.ranks[order], column.valid[order], column.decode)

    @cached_property
    def _valid(self) -> Flags | None:
        return None if self._column.null_count == 0 else is_valid(self._column)[self._windows.order]

    def feature(self, function: str, over: int, present: Flags) -> pa.Array:
        """The aggregation at each question."""
        if function == "count":
            return pa.array(self._count(over), mask=~present)
        if function == "distinct":
            return pa.array(self._distinct(over), mask=~present)
        if function == "sum":
            total, _ = self._sum(over)
            return pa.array(total, mask=~present)
        if function in ("mean", "share"):
            total, count = self._sum(over)
            return pa.array(total / np.maximum(count, 1), mask=count == 0)
        return self._last(over) if function == "last" else self._extreme(over, smallest=function == "min")

    # ------------------------------------------------------------------ totals

    def _count(self, over: int) -> Ints:
        """How many values the window of each question holds."""
        if over not in self._counts:
            self._counts[over] = self._total("values", self._valid, over)
        return self._counts[over]

    def _sum(self, over: int) -> tuple[npt.NDArray[np.generic], Ints]:
        """The sum at each question, and of how many values."""
        if over not in self._sums:
            fractional = pa.types.is_floating(self._column.type)
            self._sums[over] = self._fixed_sum(over) if fractional else self._whole_sum(over)
        return self._sums[over]

    def _whole_sum(self, over: int) -> tuple[Ints, Ints]:
        terms, count = self._whole, self._count(over)
        self._check(terms, count, over)
        return self._total("whole", terms, over), count

    def _fixed_sum(self, over: int) -> tuple[npt.NDArray[np.generic], Ints]:
        fit, terms = self._fixed
        count = self._count(over) if fit is self._valid else self._total("fit", fit, over)
        if self._fits_one(count):
            # small enough for one running total instead of two
            billionths = self._total("billionths", self._billionths, over)
            return Fixed(np.zeros_like(billionths), billionths).to_doubles(), count
        self._check(terms.whole, count, over)
        whole, billionths = self._total("whole", terms.whole, over), self._total("rest", terms.billionths, over)
        return Fixed(whole, billionths).to_doubles(), count

    def _fits_one(self, count: Ints) -> bool:
        """Whether no window's total of billionths can exceed 64 bits."""
        if not len(count):
            return True
        return (self._largest_whole + 1) * BILLION * max(int(count.max()), 1) < _LARGEST

    @cached_property
    def _largest_whole(self) -> int:
        whole = self._fixed[1].whole
        return max(-int(whole.min()), int(whole.max()))

    @cached_property
    def _billionths(self) -> Ints:
        """The numbers in billionths, where those fit."""
        _, terms = self._fixed
        return terms.whole * BILLION + terms.billionths

    @cached_property
    def _whole(self) -> Ints:
        ranks = self._ordered.ranks
        return ranks if self._valid is None else np.where(self._valid, ranks, 0)

    @cached_property
    def _fixed(self) -> tuple[Flags | None, Fixed]:
        """Which numbers take part in sums (None: all), and the numbers, zero where they do not."""
        numbers = filled(self._column, np.nan)[self._windows.order]
        part = fits(numbers)
        if part.all():
            return None, fixed(numbers)
        terms = fixed(np.where(part, numbers, 0.0))
        # all but the nulls: then the count of values is the count of what is summed
        return (self._valid if int(part.sum()) == len(part) - self._column.null_count else part), terms

    def _total(self, name: str, terms: Ints | Flags | None, over: int) -> Ints:
        """The sum of the terms, or how many flags are set. The running totals are kept under the name."""
        if terms is None:
            return self._windows.count(None, over)
        # the same for all windows unless some events came too late for this one
        key = name if self._windows.fresh(over) is None else (name, over)
        if key not in self._totals:
            self._totals[key] = self._windows.totals(terms.astype(np.int64, copy=False), over)
        return self._windows.total(self._totals[key], over)

    def _check(self, terms: Ints, count: Ints, over: int) -> None:
        """Running totals may wrap around, their differences then still are right; a sum itself may not."""
        if not len(terms) or not len(count):
            return
        largest = max(-int(terms.min()), int(terms.max()))
        if largest * int(count.max()) < _LARGEST:
            return
        fresh = self._windows.fresh(over)
        wide = (terms if fresh is None else np.where(fresh, terms, 0)).astype(np.longdouble)
        zero = np.zeros(1, np.longdouble)
        arrived = np.concatenate([zero, np.cumsum(wide[self._windows.arrival])])
        happened = np.concatenate([zero, np.cumsum(wide)])
        totals = arrived[self._windows.known] - happened[self._windows.start(over)]
        if np.abs(totals).max() >= _LARGEST * (1 - 1e-9):
            raise SumTooLargeError("a sum over the window does not fit into 64 bits")

    # ------------------------------------------------------------------ single values

    def _last(self, over: int) -> pa.Array:
        rows = self._newest
        bound = self._windows.asked.bound
        inside = (rows >= 0) & (self._windows.event[rows] > bound - over)
        return self._decoded(self._ordered.ranks[rows], inside)

    @cached_property
    def _newest(self) -> Ints:
        """The newest event with a value, at each question; -1 where none."""
        valued = np.flatnonzero(self._ordered.valid)
        if not len(valued):
            return np.full(len(self._windows.asked), -1, np.int64)
        history, ranks = self._windows.history.only(valued), self._ordered.ranks[valued]

        def smallest_last(rows: Ints) -> Ints:
            # the complement turns the order round and can not overflow
            keys = (~ranks[rows], history.known[rows], history.event[rows], history.code[rows])
            return rows[np.lexsort(keys)]

        found = newest_known(history, self._windows.asked, codes=self._windows.codes, break_ties=smallest_last)
        return np.where(found >= 0, valued[found], -1)

    def _extreme(self, over: int, *, smallest: bool) -> pa.Array:
        held = self._count(over) > 0
        limits = np.iinfo(np.int64)
        never = limits.max if smallest else limits.min
        choose = np.minimum if smallest else np.maximum
        ranks = np.where(self._ordered.valid, self._ordered.ranks, never)
        answers = np.full(len(held), never, np.int64)
        whole, broken = self._windows.stretches(over, held)
        answers[whole] = self._reduced(choose, ranks, over, whole, np.int64(never))
        for some, question, event in self._windows.pairs(over, broken):
            best = np.full(len(some), never, np.int64)
            choose.at(best, question, ranks[event])
            answers[some] = best
        return self._decoded(answers, held)

    def _distinct(self, over: int) -> Ints:
        held = self._count(over) > 0
        counts = np.zeros(len(held), np.int64)
        values, number = np.unique(self._ordered.ranks, return_inverse=True)
        whole, broken = self._windows.stretches(over, held)
        if len(values) > _WORD * _WORDS:
            whole, broken = whole[:0], np.flatnonzero(held)
        for word in range(-(-len(values) // _WORD)):
            inside = self._ordered.valid & (number // _WORD == word)
            bits = np.where(inside, np.uint64(1) << (number % _WORD).astype(np.uint64), np.uint64(0))
            united = self._reduced(np.bitwise_or, bits, over, whole, np.uint64(0))
            counts[whole] += np.bitwise_count(united)
        for some, question, event in self._windows.pairs(over, broken):
            valued = self._ordered.valid[event]
            pair = np.unique(question[valued] * len(values) + number[event[valued]])
            counts[some] = np.bincount(pair // max(len(values), 1), minlength=len(some))
        return counts

    def _reduced(
        self, choose: np.ufunc, values: npt.NDArray[np.generic], over: int, questions: Ints, nothing: np.generic
    ) -> npt.NDArray[np.generic]:
        """``choose`` over the stretch of each question; none may be empty."""
        start, end = self._windows.start(over)[questions], self._windows.end[questions]
        # In order of their starts, what lies between one stretch's end and the next one's start is short or nothing.
        order = np.argsort(start)
        edges = np.column_stack([start[order], end[order]]).ravel()
        answers = np.empty(len(questions), values.dtype)
        if len(questions):
            answers[order] = choose.reduceat(np.append(values, nothing), edges)[::2]
        return answers

    def _decoded(self, ranks: Ints, found: Flags) -> pa.Array:
        """The values of these ranks, null where not found."""
        values = self._ordered.decode(ranks[found])
        place = np.cumsum(found) - 1
        return values.take(pa.array(place, mask=~found))


def _both(one: Flags | None, other: Flags | None) -> Flags | None:
    """Flags that are set in both; None stands for all."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _running(terms: Ints) -> Ints:
    totals = np.zeros(len(terms) + 1, np.int64)
    np.cumsum(terms, out=totals[1:])
    return totals


def _span(over: timedelta) -> int:
    return over // timedelta(microseconds=1)
