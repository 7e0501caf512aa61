"""The search among sorted histories, on disorder that drawn cases hardly ever reach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engines.duckdb.histories import Asked, Clock, History, Ints, newest_known

CODES = 4


def any_of_them(rows: Ints) -> Ints:
    """A tie break for those who only look at the times."""
    return rows


def slowly(history: History, asked: Asked) -> list[tuple[int, int] | None]:
    """The (event, known) of the newest row for each question, by looking at all of them."""
    answers = []
    for code, bound in zip(asked.code, asked.bound, strict=True):
        usable = (history.code == code) & (history.event <= bound) & (history.known <= bound)
        pairs = zip(history.event[usable].tolist(), history.known[usable].tolist(), strict=True)
        answers.append(max(pairs, default=None))
    return answers


def prompt(random: np.random.Generator, event: Ints) -> Ints:
    return event + random.integers(0, 3, len(event))


def very_late(random: np.random.Generator, event: Ints) -> Ints:
    return event + random.integers(0, 500, len(event))


def in_reverse(random: np.random.Generator, event: Ints) -> Ints:
    """A backfill from the newest to the oldest."""
    return 1000 - event


def all_at_once(random: np.random.Generator, event: Ints) -> Ints:
    return np.full(len(event), 400)


def in_advance(random: np.random.Generator, event: Ints) -> Ints:
    return event - random.integers(0, 300, len(event))


@pytest.mark.parametrize("arriving", [prompt, very_late, in_reverse, all_at_once, in_advance])
@pytest.mark.parametrize("scale", [1, 10**15], ids=["packed", "ranked"])
def test_newest_known__any_order_of_arrival__equals_the_slow_answer(
    arriving: Callable[[np.random.Generator, Ints], Ints], scale: int
) -> None:
    """``ranked``: times so far apart that they do not fit beside the code."""
    random = np.random.default_rng(1)
    event = random.integers(0, 500, 400)
    history = History(random.integers(0, CODES, 400), (event - 250) * scale, (arriving(random, event) - 250) * scale)
    asked = Asked(random.integers(0, CODES, 1500), random.integers(-300, 900, 1500) * scale)

    rows = newest_known(history, asked, codes=CODES, break_ties=any_of_them)

    found = [None if row < 0 else (int(history.event[row]), int(history.known[row])) for row in rows]
    assert found == slowly(history, asked)


def test_newest_known__no_history__answers_nothing() -> None:
    nothing = np.empty(0, np.int64)
    history = History(nothing, nothing, nothing)
    asked = Asked(np.array([0, 1]), np.array([5, 5]))
    assert newest_known(history, asked, codes=2, break_ties=any_of_them).tolist() == [-1, -1]


def test_clock__times_before_and_after_all_others__keep_their_code() -> None:
    times = np.array([10, 20])
    clock = Clock(3, times)
    codes = np.array([1, 1, 1, 2])
    packed = clock.pack(codes, np.array([-(10**17), 15, 10**17, -(10**17)]))
    assert (np.diff(packed) > 0).all()
    assert packed[0] == clock.start(codes)[0]
