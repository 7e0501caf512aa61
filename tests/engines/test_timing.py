"""Who is timed after whom, and when it ends. The clock is a counter here; real processes are timed in test_scoring."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engines.skops_types import Unscorable
from engines.timing import WARM_UP_CALLS, Clocked, Stopped, timed

ROWS = pa.table({"x": np.arange(10)})


class World:
    """A clock that only its models move."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked: list[tuple[str, list[int]]] = []

    def model(self, name: str, seconds: float, *, fails_at: Sequence[int] = (), dies_after: int = 10**9) -> Clocked:
        world = self

        class Model:
            def clock(self, table: pa.Table) -> float | None:
                rows = table.column("x").to_pylist()
                world.asked.append((name, rows))
                if sum(each == name for each, _ in world.asked) > dies_after:
                    raise Unscorable("It died.")
                world.seconds += seconds
                return None if set(rows) & set(fails_at) else 1000 * seconds

        return Model()

    def timed(self, models: dict[str, Clocked], **settings: Any) -> Any:
        values = {"calls": 60, "batch_rows": 4, "budget": timedelta(seconds=1000), **settings}
        return timed(models, ROWS, clock=lambda: self.seconds, **values)


@pytest.fixture
def world() -> World:
    return World()


def three(world: World, **seconds: float) -> dict[str, Clocked]:
    return {name: world.model(name, seconds.get(name, 0.001)) for name in ("candidate", "champion", "control")}


def test_timed__enough_time__as_many_calls_as_asked_with_each_models_own_time(world: World) -> None:
    times = world.timed(three(world, champion=0.002))

    assert times["candidate"].single_ms.tolist() == [1.0] * 60
    assert times["champion"].single_ms.tolist() == [2.0] * 60
    assert len(times["control"].batch_ms) == 60


def test_timed__each_round__asks_all_models_the_same_row(world: World) -> None:
    world.timed(three(world), calls=12)

    rounds = [world.asked[start : start + 3] for start in range(0, len(world.asked), 3)]
    assert all({name for name, _ in each} == {"candidate", "champion", "control"} for each in rounds)
    assert all(len({tuple(rows) for _, rows in each}) == 1 for each in rounds)


def test_timed__warm_up__is_not_counted(world: World) -> None:
    world.timed(three(world), calls=5)

    assert Counter(name for name, _ in world.asked)["champion"] == WARM_UP_CALLS + 1 + 5 + 5


def test_timed__order__none_is_more_often_first_or_after_the_same_other(world: World) -> None:
    world.timed(three(world), calls=60)

    single = [name for name, rows in world.asked if len(rows) == 1][3 * WARM_UP_CALLS :]
    rounds = [single[start : start + 3] for start in range(0, len(single), 3)]
    assert set(Counter(each[0] for each in rounds).values()) == {20}
    assert set(Counter(pair for each in rounds for pair in pairwise(each)).values()) == {20}


def test_timed__batches__go_round_the_rows(world: World) -> None:
    world.timed({"candidate": world.model("candidate", 0.001)}, calls=3)

    assert [rows for _, rows in world.asked[-3:]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


def test_timed__slow_model__stops_all_at_once_within_the_budget(world: World) -> None:
    times = world.timed(three(world, champion=1.0), calls=60, budget=timedelta(seconds=20))

    assert len({len(each.single_ms) for each in times.values()}) == 1
    assert 10 < len(times["candidate"].single_ms) < 20
    assert len(times["candidate"].batch_ms) >= 2
    assert world.seconds <= 20 + 1.1


def test_timed__one_call_takes_longer_than_the_budget__there_is_one_of_each(world: World) -> None:
    times = world.timed({"candidate": world.model("candidate", 50.0)}, budget=timedelta(seconds=1))

    assert (times["candidate"].single_ms.tolist(), len(times["candidate"].batch_ms)) == ([50_000.0], 1)


def test_timed__row_that_fails__is_no_number_and_keeps_its_place(world: World) -> None:
    models = {"candidate": world.model("candidate", 0.001, fails_at=[3]), "champion": world.model("champion", 0.001)}
    times = world.timed(models, calls=10)

    assert np.flatnonzero(np.isnan(times["candidate"].single_ms)).tolist() == [3]
    assert np.isfinite(times["champion"].single_ms).all()


def test_timed__model_that_dies__is_named(world: World) -> None:
    models = {"candidate": world.model("candidate", 0.001), "champion": world.model("champion", 0.001, dies_after=7)}
    with pytest.raises(Stopped, match="died") as stopped:
        world.timed(models)
    assert stopped.value.name == "champion"


def test_timed__no_rows_or_no_model__is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="nothing to time"):
        timed({"a": world.model("a", 1)}, ROWS.slice(0, 0), calls=1, batch_rows=2, budget=timedelta(seconds=1))
    with pytest.raises(ValueError, match="nothing to time"):
        world.timed({})
