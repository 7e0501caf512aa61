"""The whole flights feature build: every feature of the demo for every flight of the year, as known one hour before.

Medians of three runs; the first also loads the sources.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pyarrow as pa

from benchmarks.figures import Figure, report
from engines.duckdb_engine import DuckDBEngine
from mlops.demo.flights import data, views

AS_OF = datetime(2014, 2, 1, tzinfo=UTC)
REPEATS = 3


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data.write_sources(Path(folder))
        frame = pa.Table.from_pandas(data.requests(data.read_flights()), preserve_index=False)
        engine = DuckDBEngine()
        specs = views.feature_views(folder)
        walls, cpus = [], []
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            built = engine.point_in_time(frame, specs, timestamp="requested_at", as_of=AS_OF)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        engine.close()
    print(f"{built.num_rows} rows, {built.num_columns - frame.num_columns} features")
    return report(
        Figure("flights_build_wall", median(walls), "s", at_most=10.0),
        Figure("flights_build_cpu", median(cpus), "s", at_most=10.0),
    )


if __name__ == "__main__":
    sys.exit(main())
