"""A probe is worth something when it tells a store that is wrong from one that is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import probes, workloads
from benchmarks.correctness import table
from benchmarks.probes import Finding

Row = dict[str, Any]
COLUMNS = sum(len(probes.columns_of(view)) for view in workloads.VIEWS)


class Remembered:
    """A store in plain Python; ``flaw`` says which rule it forgets."""

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw

    def joined(self, history: pa.Table, frame: pa.Table, *, ttl: timedelta) -> pa.Table:
        events = defaultdict(list)
        for event in history.to_pylist():
            events[event["entity_id"]].append(event)
        answer = [
            {**asked, "value": self._value(events[asked["entity_id"]], asked, ttl)} for asked in frame.to_pylist()
        ]
        if self.flaw == "drops what is unknown":
            answer = [row for row in answer if row["value"] is not None]
        if self.flaw == "drops duplicates":
            answer = list({row["entity_id"]: row for row in answer}.values())
        return pa.Table.from_pylist(answer)

    def served(self, history: pa.Table, *, backfill: pa.Table | None, ttl: timedelta) -> dict[int, float | None]:
        served: dict[int, Row] = {row["entity_id"]: row for row in history.to_pylist()}
        for row in backfill.to_pylist() if backfill is not None else ():
            newer = row["event_timestamp"] >= served[row["entity_id"]]["event_timestamp"]
            if newer or self.flaw == "writes whatever comes":
                served[row["entity_id"]] = row
        alive = self.flaw == "serves for ever" or ttl > timedelta(days=365)
        return {entity: row["value"] if alive else None for entity, row in served.items()}

    def both_ways(self, workload: str, at: datetime) -> tuple[pa.Table, pa.Table]:
        """Every entity's features as joined and as served; the flaw puts one cell of each column out of date."""
        entities = workloads.WORKLOADS[workload].entities
        names = [name for view in workloads.VIEWS for name in probes.columns_of(view)]
        right = [float(entity) for entity in range(entities)]
        served = [-1.0, *right[1:]] if self.flaw == "serves what was before" else right
        return pa.table(dict.fromkeys(names, right)), pa.table(dict.fromkeys(names, served))

    def lost_applies(self, count: int) -> Finding:
        return Finding(int(self.flaw == "loses an apply"), count)

    def orders(self, seeds: Sequence[int]) -> set[tuple[str, ...]]:
        return {("a", "b"), ("b", "a")} if self.flaw == "shuffles" else {("a", "b")}

    def versions_of_ttls(self, *ttls: timedelta) -> list[str]:
        return ["v0" if self.flaw == "ignores the ttl" else str(ttl) for ttl in ttls]

    def _value(self, events: Sequence[Row], asked: Row, ttl: timedelta) -> float | None:
        at = asked["event_timestamp"]
        known = [
            event
            for event in events
            if at - ttl <= event["event_timestamp"] <= at and (event["created"] <= at or self.flaw == "looks ahead")
        ]
        best = min if self.flaw == "takes the first correction" else max
        return best(known, key=lambda event: event["created"])["value"] if known else None


@pytest.mark.parametrize("probe", probes.ALL, ids=lambda probe: probe.__name__)
def test_probe__store_without_a_flaw__finds_nothing_wrong(probe: Any) -> None:
    found = probe(Remembered())

    assert found.wrong == 0
    assert found.of > 0


@pytest.mark.parametrize(
    ("probe", "flaw", "wrong"),
    [
        (probes.lost_rows, "drops what is unknown", 3),
        (probes.lost_duplicates, "drops duplicates", 1),
        (probes.wrong_corrections, "takes the first correction", 2000),
        (probes.leaked_values, "looks ahead", 100),
        (probes.expired_values, "serves for ever", 100),
        (probes.clobbered_values, "writes whatever comes", 100),
        (probes.skewed_cells, "serves what was before", COLUMNS),
        (probes.lost_applies, "loses an apply", 1),
        (probes.unstable_orders, "shuffles", 1),
        (probes.silent_changes, "ignores the ttl", 1),
    ],
)
def test_probe__store_with_a_flaw__counts_it(probe: Any, flaw: str, wrong: int) -> None:
    assert probe(Remembered(flaw)).wrong == wrong


def test_differing__null_and_nan__are_both_no_value() -> None:
    left = pa.chunked_array([pa.array([1.0, None, None, 1.0])])
    right = pa.chunked_array([pa.array([1.0, float("nan"), 2.0, 3.0])])

    assert probes.differing(left, right).tolist() == [False, False, True, True]


def test_table__stores_that_agree__one_count() -> None:
    right = {probe.__name__: {"SQLite": Finding(0, 4), "PostgreSQL": Finding(0, 4)} for probe in probes.ALL}
    feast = {"lost_rows": {"dask": Finding(2, 4), "duckdb": Finding(0, 4)}}

    line = table(feast, right).splitlines()[1]

    assert line.split("  ")[0] == "rows of the frame lost"
    assert "dask 2 of 4, duckdb 0 of 4" in line
    assert line.endswith("  0 of 4")
