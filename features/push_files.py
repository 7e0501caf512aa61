"""Pushed rows as Parquet below their source's folder: few files, each replaced as a whole.

A push appends to the source's last *segment* until that has ``SEGMENT_ROWS``; then a new one is begun. Appending writes
the segment anew beside the old one and takes its name in one step, so a reader finds all of a push or nothing, no push
leaves a small file behind, and there is nothing to merge later (merging many files can not be one step, and a reader in
between would count rows twice).

How many rows of a segment are real the receipts say, never the file: what a process that was killed left behind is cut
off by the next push.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from features import files
from features.meaning import TYPES
from features.models import DataSource

FIRST = 0
SEGMENT_ROWS = 20_000


@contextmanager
def appended(folder: str, segment: int, *, committed: int, rows: pa.Table) -> Iterator[None]:
    """The segment holds its first ``committed`` rows and ``rows``; what was there before when the block fails.

    Raises OSError or pyarrow.ArrowInvalid where the segment can not be read or has lost rows.
    """
    place = name(folder, segment)
    before = files.read(place).slice(0, committed) if committed else None
    if before is not None and before.num_rows < committed:
        raise OSError(f"{place} has {before.num_rows} of {committed} rows: somebody changed it")
    files.replace(place, rows if before is None else pa.concat_tables([before, rows.cast(before.schema)]))
    try:
        yield
    except BaseException:
        files.replace(place, rows.slice(0, 0) if before is None else before)
        raise


def prepare(source: DataSource) -> None:
    """Let there be a first segment without rows, so that views of the source can be computed before the first push."""
    files.replace(name(source.uri, FIRST), schema_of(source).empty_table())


def schema_of(source: DataSource) -> pa.Schema:
    """The columns of a source's segments: what is pushed, by name (stored JSON has no order), and the arrival."""
    pushed = [(column, TYPES[dtype]) for column, dtype in sorted(source.push_schema.items())]
    return pa.schema([*pushed, (source.created_timestamp, TYPES["timestamp"])])


def name(folder: str, segment: int) -> str:
    """Where a segment lies below the data root."""
    return f"{folder}/pushed-{segment:08d}.parquet"
