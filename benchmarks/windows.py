"""Trailing windows of 7, 30 and 90 days at the asked instants against a range join written by hand in DuckDB.

100,000 instants over histories of 4,000 events an entity; count, sum and mean of one column in each window, of what was
known at the instant. Arrow in and out; each method in a process of its own, after a small run of the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import workloads
from benchmarks.feast_peer import comparison
from benchmarks.figures import Figure, report
from benchmarks.processes import Meter
from engines.duckdb_engine import DuckDBEngine
from engines.offline import Aggregation, SourceTable, ViewSpec

WORKLOAD = "d4000"
REPEATS = 3
DAYS = (7, 30, 90)
FUNCTIONS = ("count", "sum", "mean")
COLUMN = "a1"
DAY_US = 86_400_000_000


def prefix_sums(frame: pa.Table, history: Path) -> pa.Table:
    """The feature store's offline engine."""
    aggregations = tuple(
        Aggregation(f"{function}_{days}", function, COLUMN, timedelta(days=days))
        for days in DAYS
        for function in FUNCTIONS
    )
    view = ViewSpec(
        name="w",
        version=1,
        join_keys=("entity_id",),
        features=tuple(each.name for each in aggregations),
        expression=f"SELECT entity_id, event_timestamp, created, {COLUMN} FROM history",
        event_timestamp="event_timestamp",
        known_at="created",
        ttl=None,
        cadence=timedelta(seconds=1),
        sources=(SourceTable("history", str(history), "event_timestamp", "created"),),
        aggregations=aggregations,
    )
    engine = DuckDBEngine(roots=[str(history.parent)])
    joined = engine.point_in_time(frame, [view], timestamp="event_timestamp", as_of=workloads.AS_OF)
    engine.close()
    return joined.rename_columns([name.removeprefix("w__") for name in joined.column_names])


def range_join(frame: pa.Table, history: Path) -> pa.Table:
    """One join of every instant with all events of its longest window, counted three times."""
    connection = duckdb.connect()
    connection.register("frame", frame.append_column("i", pa.array(np.arange(len(frame)))))
    connection.execute("CREATE TEMP TABLE s AS SELECT entity_id, epoch_us(event_timestamp) AS t, i FROM frame")
    expressions = {"count": f"count({COLUMN})", "sum": f"sum({COLUMN})", "mean": f"avg({COLUMN})"}
    features = ", ".join(
        f"{expressions[function]} FILTER (r.e > s.t - {days * DAY_US}) AS {function}_{days}"
        for days in DAYS
        for function in FUNCTIONS
    )
    return connection.sql(
        f"SELECT * EXCLUDE (i, j) FROM s LEFT JOIN (SELECT s.i AS j, {features} FROM s JOIN ("
        f"  SELECT entity_id, epoch_us(event_timestamp) AS e, epoch_us(created) AS c, {COLUMN} "
        f"  FROM read_parquet('{history}')) r ON s.entity_id = r.entity_id "
        f"AND r.e <= s.t AND r.e > s.t - {DAYS[-1] * DAY_US} AND r.c <= s.t GROUP BY s.i) ON i = j ORDER BY i"
    ).to_arrow_table()


METHODS: dict[str, Callable[[pa.Table, Path], pa.Table]] = {"prefix_sums": prefix_sums, "range_join": range_join}


def measured(method: str, result: Path) -> float:
    """CPU seconds of a method in a process of its own, its answer in ``result``."""
    command = [sys.executable, "-m", "benchmarks.windows", "--measure", method, str(result)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure(method: str, result: str) -> None:
    """What the process does."""
    for name in ("tiny", WORKLOAD):
        paths = workloads.write(name, comparison.data())
        frame = pq.read_table(paths.frames["full"])
        with Meter() as meter:
            answer = METHODS[method](frame, paths.views["a"])
    pq.write_table(answer, result)
    print(json.dumps(meter.cost.cpu))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return 0
    cpu: dict[str, list[float]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        places = {method: Path(folder) / f"{method}.parquet" for method in METHODS}
        for _ in range(options.repeats):
            for method, place in places.items():
                cpu[method].append(measured(method, place))
        own, theirs = (pq.read_table(places[method]) for method in METHODS)
    medians = {method: median(each) for method, each in cpu.items()}
    print(", ".join(f"{method}: CPU {seconds:.2f} s" for method, seconds in medians.items()))
    counts = sum(_unequal(own, theirs, f"count_{days}", absent=0) for days in DAYS)
    error = max(_error(own, theirs, f"{function}_{days}") for function in ("sum", "mean") for days in DAYS)
    return report(
        Figure("windows_cpu_to_range_join", medians["prefix_sums"] / medians["range_join"], "x", at_most=1 / 8),
        Figure("windows_counts_unequal", counts, "cells", at_most=0),
        # the range join adds doubles in whatever order, ours rounds each to nine decimals
        Figure("windows_largest_difference", error, "", at_most=1e-6),
    )


def _unequal(own: pa.Table, theirs: pa.Table, name: str, *, absent: int) -> int:
    return int((_filled(own, name, absent) != _filled(theirs, name, absent)).sum())


def _error(own: pa.Table, theirs: pa.Table, name: str) -> float:
    """The largest difference; a null is a zero."""
    return float(np.abs(_filled(own, name, 0) - _filled(theirs, name, 0)).max())


def _filled(table: pa.Table, name: str, absent: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    numbers = table.column(name).to_pandas().to_numpy(dtype=np.float64)
    filled: np.ndarray[tuple[int], np.dtype[np.float64]] = np.nan_to_num(numbers, nan=absent)
    return filled


if __name__ == "__main__":
    sys.exit(main())
