"""A source larger than memory: 100 million rows joined with a frame of a million, within 4 GiB of resident memory.

The source is written in pieces below a temporary folder (about 1.5 GB there) and deleted afterwards. The join runs in a
process of its own. A sample of the answers is checked against a query over the same files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, report
from benchmarks.processes import Cost, Meter
from engines.duckdb_engine import DuckDBEngine
from engines.offline import SourceTable, ViewSpec

FILES = 20
ENTITIES = 1_000_000
FRAME_ROWS = 1_000_000
DAYS = 360
START = datetime(2025, 1, 1, tzinfo=UTC)
CHECKED = 1_000
GIB = 1 << 30
_TIME = pa.timestamp("us", "UTC")
_START_US = int(START.timestamp()) * 1_000_000
_DAY_US = 86_400_000_000


def write_source(folder: Path, rows: int) -> None:
    """A log of ``rows`` events in ``FILES`` files, one after the other in time."""
    folder.mkdir()
    span = DAYS * _DAY_US // FILES
    for number in range(FILES):
        random = np.random.default_rng(number)
        part = rows // FILES
        time = np.sort(random.integers(_START_US + number * span, _START_US + (number + 1) * span, part))
        table = pa.table(
            {
                "entity_id": pa.array(random.integers(0, ENTITIES, part)),
                "event_timestamp": pa.array(time).cast(_TIME),
                "amount": pa.array(random.integers(0, 100_000, part) / 100),
            }
        )
        pq.write_table(table, folder / f"part-{number:02d}.parquet", compression="zstd")


def frame() -> pa.Table:
    """Any entity, at any second of the year."""
    random = np.random.default_rng(100)
    second = random.integers(0, DAYS * 86_400, FRAME_ROWS)
    times = pa.array(_START_US + second * 1_000_000).cast(_TIME)
    return pa.table({"entity_id": pa.array(random.integers(0, ENTITIES, FRAME_ROWS)), "asked": times})


def join(folder: str, result: str) -> None:
    """What the measured process does."""
    source = SourceTable("log", folder, "event_timestamp")
    view = ViewSpec(
        name="newest",
        version=1,
        join_keys=("entity_id",),
        features=("amount",),
        expression="SELECT entity_id, event_timestamp, amount FROM log",
        event_timestamp="event_timestamp",
        known_at="event_timestamp",
        ttl=None,
        cadence=None,
        sources=(source,),
    )
    engine = DuckDBEngine(roots=[str(Path(folder).parent)], memory_limit="1GB", piece_bytes=3 * GIB // 2)
    asked = frame()
    with Meter() as meter:
        answer = engine.point_in_time(
            asked,
            [view],
            timestamp="asked",
            as_of=START + timedelta(days=DAYS),
            progress=lambda done, total: print(f"piece {done} of {total}", file=sys.stderr),
        )
    pq.write_table(answer, result)
    print(json.dumps(vars(meter.cost)))


def wrong(folder: Path, answer: pa.Table) -> int:
    """How many of the first answers a query over the files gives otherwise."""
    connection = duckdb.connect(config={"memory_limit": "1GB"})
    connection.register("sample", answer.slice(0, CHECKED).append_column("i", pa.array(np.arange(CHECKED))))
    connection.execute("CREATE TEMP TABLE asked AS FROM sample")
    found = connection.execute(
        "SELECT i, arg_max(r.amount, r.event_timestamp) FROM asked s "
        f"JOIN read_parquet('{folder}/*.parquet') r ON s.entity_id = r.entity_id AND r.event_timestamp <= s.asked "
        "GROUP BY i"
    ).fetchall()
    expected = dict(found)
    given = answer.column("newest__amount").slice(0, CHECKED).to_pylist()
    return sum(amount != expected.get(index) for index, amount in enumerate(given))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--join", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        join(*options.join)
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder, result = Path(place) / "log", Path(place) / "answer.parquet"
        write_source(folder, options.rows)
        size = sum(each.stat().st_size for each in folder.iterdir())
        command = [sys.executable, "-m", "benchmarks.pit_large", "--join", str(folder), str(result)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cost = Cost(**json.loads(output))
        answer = pq.read_table(result)
        errors = wrong(folder, answer)
    print(f"{options.rows} rows, {size / 1e9:.2f} GB of Parquet: CPU {cost.cpu:.0f} s, wall {cost.wall:.0f} s")
    return report(
        Figure("pit_large_peak_rss", cost.peak / 1024, "GiB", at_most=4.0),
        Figure("pit_large_rows_lost", FRAME_ROWS - answer.num_rows, "rows", at_most=0),
        Figure("pit_large_wrong_of_a_thousand", errors, "rows", at_most=0),
    )


if __name__ == "__main__":
    sys.exit(main())
