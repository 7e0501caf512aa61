"""The point-in-time join against a bare DuckDB query and against Feast, pandas in and pandas out.

Ours is exact "as known then": a value written after the asked time is not used. The bare queries are what somebody
would write by hand for the same answer; of the two ways to write it the cheaper one counts. ``plain`` is the query that
ignores when rows were written, as Feast does by default, and is shown for comparison only.

Each method runs in a process of its own, after a small join that loads what is loaded on first use. CPU seconds are
those of the process; repetitions of the methods take turns, medians count. ``--without-feast`` leaves Feast out,
``--reuse-peer`` takes its figures from an earlier run on this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import workloads
from benchmarks.feast_peer import comparison
from benchmarks.figures import Figure, report
from benchmarks.probes import differing
from benchmarks.processes import Cost, Meter
from engines.duckdb_engine import DuckDBEngine
from engines.offline import SourceTable, ViewSpec

REPEATS = 5
TTL_US = workloads.TTL // pd.Timedelta(microseconds=1)
Join = Callable[[pd.DataFrame, workloads.Paths], pd.DataFrame]


# ---------------------------------------------------------------------- the methods


def ours(frame: pd.DataFrame, paths: workloads.Paths) -> pd.DataFrame:
    """The feature store's offline engine."""
    views = [view_spec(view, path) for view, path in paths.views.items()]
    engine = DuckDBEngine(roots=[str(paths.views["a"].parent)])
    entities = pa.Table.from_pandas(frame, preserve_index=False)
    joined = engine.point_in_time(entities, views, timestamp="event_timestamp", as_of=workloads.AS_OF)
    answer: pd.DataFrame = joined.to_pandas()
    engine.close()
    return answer


def bare_asof(frame: pd.DataFrame, paths: workloads.Paths) -> pd.DataFrame:
    """By hand: ASOF on (event, created) in one integer; where the row was not written yet, a range join."""
    connection = _asked(frame)
    answer = frame.copy(deep=False)
    for view, path in paths.views.items():
        features = workloads.feature_names(view)
        alive = ", ".join(f"CASE WHEN s.t - r.e <= {TTL_US} THEN r.{name} END AS {name}" for name in features)
        plain = ", ".join(f"r.{name}" for name in features)
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE r AS SELECT entity_id, epoch_us(event_timestamp) e, epoch_us(created) c, "
            f"(e::HUGEINT << 63) + c AS k, {', '.join(features)} FROM read_parquet('{path}')"
        )
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE best AS "
            f"SELECT s.i, s.entity_id, s.t, coalesce(r.c <= s.t, true) AS known, {alive} "
            "FROM s ASOF LEFT JOIN r ON s.entity_id = r.entity_id AND (s.t::HUGEINT << 63) + s.t >= r.k"
        )
        found = connection.execute(
            "SELECT * EXCLUDE (entity_id, t, known) FROM best WHERE known UNION ALL BY NAME "
            f"SELECT s.i, {plain} FROM (FROM best WHERE NOT known) s LEFT JOIN ("
            "  SELECT s.i, r.* FROM best s JOIN r ON s.entity_id = r.entity_id "
            f"  AND r.e <= s.t AND r.c <= s.t AND s.t - r.e <= {TTL_US} WHERE NOT s.known "
            "  QUALIFY row_number() OVER (PARTITION BY s.i ORDER BY r.k DESC) = 1"
            ") r ON s.i = r.i ORDER BY i"
        ).df()
        _add(answer, found, view)
    return answer


def bare_range(frame: pd.DataFrame, paths: workloads.Paths) -> pd.DataFrame:
    """By hand: every pair within the TTL, the newest of which is kept."""
    connection = _asked(frame)
    answer = frame.copy(deep=False)
    for view, path in paths.views.items():
        features = ", ".join(workloads.feature_names(view))
        found = connection.execute(
            f"SELECT {features} FROM s LEFT JOIN (SELECT s.i, {features} FROM s JOIN read_parquet('{path}') r "
            "ON s.entity_id = r.entity_id AND r.event_timestamp <= s.event_timestamp "
            "AND r.created <= s.event_timestamp AND r.event_timestamp >= s.event_timestamp - INTERVAL 30 DAY "
            "QUALIFY row_number() OVER (PARTITION BY s.i ORDER BY r.event_timestamp DESC, created DESC) = 1"
            ") r ON s.i = r.i ORDER BY s.i"
        ).df()
        _add(answer, found, view)
    return answer


def plain(frame: pd.DataFrame, paths: workloads.Paths) -> pd.DataFrame:
    """By hand, and leaking: one ASOF that does not ask when a row was written."""
    connection = _asked(frame)
    answer = frame.copy(deep=False)
    for view, path in paths.views.items():
        alive = ", ".join(
            f"CASE WHEN s.t - epoch_us(r.event_timestamp) <= {TTL_US} THEN r.{name} END AS {name}"
            for name in workloads.feature_names(view)
        )
        found = connection.execute(
            "WITH r AS (SELECT *, (epoch_us(event_timestamp)::HUGEINT << 63) + epoch_us(created) AS k "
            f"FROM read_parquet('{path}')) SELECT {alive} FROM s ASOF LEFT JOIN r ON s.entity_id = r.entity_id "
            "AND (s.t::HUGEINT << 63) + 9223372036854775807 >= r.k ORDER BY i"
        ).df()
        _add(answer, found, view)
    return answer


METHODS: dict[str, Join] = {each.__name__: each for each in (ours, bare_asof, bare_range, plain)}


def view_spec(view: str, path: Path) -> ViewSpec:
    """A view of a workload: its rows as they are."""
    features = workloads.feature_names(view)
    return ViewSpec(
        name=view,
        version=1,
        join_keys=("entity_id",),
        features=features,
        expression=f"SELECT entity_id, event_timestamp, created, {', '.join(features)} FROM history",
        event_timestamp="event_timestamp",
        known_at="created",
        ttl=workloads.TTL,
        cadence=None,
        sources=(SourceTable("history", str(path), "event_timestamp", "created"),),
    )


def _asked(frame: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.register("frame", frame.assign(i=range(len(frame))))
    connection.execute(
        "CREATE TEMP TABLE s AS SELECT entity_id, event_timestamp, epoch_us(event_timestamp) t, i FROM frame"
    )
    return connection


def _add(answer: pd.DataFrame, found: pd.DataFrame, view: str) -> None:
    for name in workloads.feature_names(view):
        answer[f"{view}__{name}"] = found[name]


# ---------------------------------------------------------------------- measuring


def measured(method: str, workload: str, which: str, result: Path) -> Cost:
    """The cost of one join in a process of its own, its answer in ``result``."""
    command = [sys.executable, "-m", "benchmarks.pit_join", "--measure", method, workload, which, str(result)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Cost(**json.loads(output))


def measure(method: str, workload: str, which: str, result: str) -> None:
    """What the process does."""
    join, data = METHODS[method], comparison.data()
    small = workloads.write("tiny", data)
    join(pd.read_parquet(small.frames["full"]), small)
    paths = workloads.write(workload, data)
    frame = pd.read_parquet(paths.frames[which])
    with Meter() as meter:
        answer = join(frame, paths)
    answer.to_parquet(result)
    print(json.dumps(vars(meter.cost)))


def costs(workload: str, which: str, methods: tuple[str, ...], repeats: int, folder: Path) -> dict[str, Cost]:
    """The median cost of each method; its answer is ``<folder>/<method>.parquet``."""
    runs: dict[str, list[Cost]] = {method: [] for method in methods}
    for _ in range(repeats):
        for method in methods:
            runs[method].append(measured(method, workload, which, folder / f"{method}.parquet"))
    found = {}
    for method, each in runs.items():
        found[method] = Cost(*(median(getattr(cost, field) for cost in each) for field in Cost.__dataclass_fields__))
        print(f"{workload} {which} {method}: {_shown(found[method])}")
    return found


def cells_apart(one: Path, other: Path) -> int:
    """How many feature values two answers differ in."""
    left, right = pq.read_table(one), pq.read_table(other)
    names = [f"{view}__{feature}" for view in workloads.VIEWS for feature in workloads.feature_names(view)]
    return sum(int(differing(left.column(name), right.column(name)).sum()) for name in names)


def bare_figures(workload: str, which: str, repeats: int, folder: Path, *, at_most: float) -> tuple[Cost, list[Figure]]:
    """Ours against the cheaper of the bare queries."""
    dense = workloads.WORKLOADS[workload].rows > 1000 * workloads.WORKLOADS[workload].entities
    # on dense histories the range join needs minutes and gigabytes, so it can not be the cheaper one
    bare = ("bare_asof",) if dense else ("bare_asof", "bare_range")
    found = costs(workload, which, ("ours", *bare, "plain"), repeats, folder)
    cheapest = min(bare, key=lambda method: found[method].cpu)
    name = f"pit_join_{workload}_{which}"
    apart = cells_apart(folder / "ours.parquet", folder / f"{cheapest}.parquet")
    return found["ours"], [
        Figure(f"{name}_cpu_to_{cheapest}", found["ours"].cpu / found[cheapest].cpu, "x", at_most=at_most),
        Figure(f"{name}_cells_unlike_{cheapest}", apart, "cells", at_most=0),
    ]


def feast_figures(own: dict[str, Cost], folder: Path, *, reuse: bool) -> Iterator[Figure]:
    """Ours against Feast. The goals in the issue are times faster; here their inverse."""
    default = comparison.historical("M", "duckdb", reuse=reuse)
    yield Figure("pit_join_M_cpu_to_feast_duckdb", _cpu(own["M full"], default, "M full duckdb"), "x", at_most=1 / 1.8)
    dask = comparison.historical("M", "dask", reuse=reuse)
    yield Figure("pit_join_M_cpu_to_feast_dask", _cpu(own["M full"], dask, "M full dask"), "x", at_most=1 / 15)
    recent = comparison.historical("M", "duckdb", frame="recent", reuse=reuse)
    yield Figure("pit_join_recent_cpu_to_feast_duckdb", _cpu(own["M recent"], recent, "M recent"), "x", at_most=1.0)
    dense = comparison.historical("d4000", "duckdb", reuse=reuse)
    dense_own = own["d4000 full"]
    yield Figure("pit_join_d4000_cpu_to_feast_duckdb", _cpu(dense_own, dense, "d4000 duckdb"), "x", at_most=1 / 15)
    yield Figure("pit_join_d4000_peak_to_feast_duckdb", dense_own.peak / dense.cost.peak, "x", at_most=1 / 3)
    known = comparison.historical("d4000", "duckdb", as_known=True, reuse=reuse)
    yield Figure("pit_join_d4000_cpu_to_feast_as_known", _cpu(dense_own, known, "d4000 as known"), "x", at_most=1 / 8)
    apart = comparison.disagreement(known, pq.read_table(folder / "d4000 full" / "ours.parquet"))
    yield Figure("pit_join_d4000_rows_unlike_feast_as_known", apart.lost + apart.different, "rows", at_most=0)


def _cpu(own: Cost, theirs: comparison.Historical, name: str) -> float:
    print(f"feast {name}: {_shown(theirs.cost)}, {theirs.rows} rows")
    return own.cpu / theirs.cost.cpu


def _shown(cost: Cost) -> str:
    return f"CPU {cost.cpu:.2f} s, wall {cost.wall:.2f} s, peak {cost.peak:.0f} MiB (+{cost.extra:.0f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--without-feast", action="store_true")
    parser.add_argument("--reuse-peer", action="store_true")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return 0
    own: dict[str, Cost] = {}
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        # a join of a quarter of a second, half of which is opening files: the bare query has no engine to set up
        goals = ("M", "full", 1.15), ("d4000", "full", 1.15), ("M", "recent", 1.5)
        for workload, which, at_most in goals:
            place = Path(folder) / f"{workload} {which}"
            place.mkdir()
            cost, found = bare_figures(workload, which, options.repeats, place, at_most=at_most)
            own[f"{workload} {which}"] = cost
            figures += found
        if not options.without_feast:
            figures += feast_figures(own, Path(folder), reuse=options.reuse_peer)
    return report(*figures)


if __name__ == "__main__":
    sys.exit(main())
