"""Many rows on their way to the portal: in parts of JSON lines or Parquet that it takes at once."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
PART_ROWS = 20_000
PART_BYTES = 16 * 2**20
FORMS = {".jsonl": LINES, ".ndjson": LINES, ".parquet": PARQUET}


@dataclass(frozen=True)
class Part:
    """``before``: how many lines or rows are in the parts before it."""

    content: bytes
    media_type: str
    before: int = 0


def of_rows(rows: Any, **same: Any) -> Iterator[Part]:
    """Parts of a list of mappings, a pandas frame or a pyarrow table; ``same`` are columns that every row gets.

    Frames go as Parquet where pyarrow is installed.
    """
    table = _table(rows)
    if table is None:
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
        yield from of_lines(json.dumps(_said({**row, **same}), default=_plain).encode() for row in records)
        return
    for name, value in same.items():
        table = table.append_column(name, [[value] * table.num_rows])
    for start in range(0, table.num_rows, PART_ROWS):
        yield Part(_parquet(table.slice(start, PART_ROWS)), PARQUET, start)


def of_file(file: Path, **same: Any) -> Iterator[Part]:
    """Parts of a file of JSON lines (.jsonl, .ndjson) or Parquet; ``same`` are fields that every row gets.

    Raises ValueError for another ending, and where a line is no JSON object that fields can be added to.
    """
    form = FORMS.get(file.suffix.lower())
    if form is None:
        raise ValueError(f"{file}: the ending says what it is, one of {', '.join(FORMS)}.")
    if form == PARQUET:
        yield from _of_parquet(file, same)
        return
    with file.open("rb") as lines:
        yield from of_lines(_with(line.rstrip(b"\r\n"), same) for line in lines)


def of_lines(lines: Iterable[bytes], *, part_rows: int = PART_ROWS) -> Iterator[Part]:
    """Lines put together as far as one request takes them."""
    part: list[bytes] = []
    size = before = 0
    for line in lines:
        if part and (len(part) == part_rows or size + len(line) > PART_BYTES):
            yield Part(b"\n".join(part), LINES, before)
            before += len(part)
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    if part:
        yield Part(b"\n".join(part), LINES, before)


def _with(line: bytes, same: Mapping[str, Any]) -> bytes:
    if not same or not line.strip():
        return line
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"A line is no object: {line[:80]!r}")
    return json.dumps({**same, **row}).encode()


def _of_parquet(file: Path, same: Mapping[str, Any]) -> Iterator[Part]:
    """The file as it is; in parts, or with fields of every row, as far as pyarrow is installed."""
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as problem:
        if same:
            raise ValueError(f"{file}: to add {', '.join(same)} to its rows takes pyarrow.") from problem
        yield Part(file.read_bytes(), PARQUET)
        return
    whole = pq.ParquetFile(file)
    if whole.metadata.num_rows <= PART_ROWS and not same:
        yield Part(file.read_bytes(), PARQUET)
        return
    yield from of_rows(whole.read(), **{name: value for name, value in same.items() if name not in whole.schema.names})


def _table(rows: Any) -> Any:
    """A pyarrow table of a frame; None for other rows, or without pyarrow."""
    if hasattr(rows, "to_batches"):
        return rows
    if not (hasattr(rows, "to_dict") and hasattr(rows, "columns")):
        return None
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        return None
    return pa.Table.from_pandas(rows, preserve_index=False)


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    pq.write_table(table, content := io.BytesIO())
    return content.getvalue()


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON can say it: times in ISO, nothing for numbers that are none."""
    said: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            said[name] = None if value != value else value.isoformat()  # pandas' NaT is not itself
        elif isinstance(value, float) and not math.isfinite(value):
            said[name] = None
        else:
            said[name] = value
    return said


def _plain(value: Any) -> Any:
    """What numpy calls a number."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")
