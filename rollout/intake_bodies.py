"""Rows that other systems send, as JSON lines or Parquet, on their way into a table. Pure.

Every value is checked before any is taken; what is wrong is named by its place: ``lines.3.score`` (lines are counted
from 1, as editors do) or ``rows.2.score`` (rows of Parquet from 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.errors import InvalidInput

LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
MOST_BYTES = 32 * 2**20
MOST_ROWS = 50_000
MOST_COLUMNS = 1_000
MOST_CELLS = 5_000_000
MOST_UNPACKED = 256 * 2**20
LONGEST_TEXT = 2_000
NAMED_ERRORS = 20
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_INDEX = "__index_level_"  # what pandas adds of its own


class Kind(StrEnum):
    """What a declared field holds, in words for the person who sent something else."""

    TEXT = "A text"
    NUMBER = "A finite number"
    WHOLE = "A whole number"
    TIME = "A time such as 2013-04-01T12:00:00Z"


class Wrong:
    """What is wrong, by place, up to as many as anybody reads."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def __call__(self, place: str, problem: str) -> None:
        if len(self.errors) < NAMED_ERRORS:
            self.errors.setdefault(place, problem)

    def stop(self) -> None:
        """Raise InvalidInput if anything was."""
        if self.errors:
            raise InvalidInput(self.errors)


@dataclass(frozen=True)
class Sent:
    """Rows by field: the declared ones, None where a row has none, and ``extra`` columns as Arrow arrays.

    ``place`` names a field of a row in a refusal.
    """

    count: int
    fields: Mapping[str, list[Any]]
    extra: Mapping[str, pa.Array] = field(default_factory=dict)
    form: str = "lines"
    numbers: Sequence[int] = ()

    def place(self, row: int, name: str = "") -> str:
        number = self.numbers[row] if self.numbers else row
        return f"{self.form}.{number}.{name}" if name else f"{self.form}.{number}"

    def row(self, row: int) -> dict[str, Any]:
        """The declared fields of a row that say something."""
        return {name: values[row] for name, values in self.fields.items() if values[row] is not None}


def read(body: bytes, media_type: str, kinds: Mapping[str, Kind], *, extra: bool) -> Sent:
    """The rows of a body. ``extra``: whether columns beside ``kinds`` are taken (numbers, texts, truths) or refused.

    Raises InvalidInput naming place and field.
    """
    return (_read_parquet if media_type == PARQUET else _read_lines)(body, kinds, extra)


def _check_cells(rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise InvalidInput({"body": f"{columns:,} different fields; at most {MOST_COLUMNS:,} are accepted."})
    if rows * columns > MOST_CELLS:
        raise InvalidInput(
            {"body": f"{rows:,} rows of {columns:,} fields: send them in parts ({MOST_CELLS:,} values)."}
        )


# ---------------------------------------------------------------------- JSON lines


def _read_lines(body: bytes, kinds: Mapping[str, Kind], extra: bool) -> Sent:
    numbers, rows = _objects(body)
    wrong = Wrong()
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_cells(len(rows), len(names))
    others = [name for name in names if name not in kinds]
    sent = Sent(len(rows), {}, form="lines", numbers=numbers)
    fields = {name: _field([row.get(name) for row in rows], name, kind, sent, wrong) for name, kind in kinds.items()}
    if others and not extra:
        for name in others:
            row = next(place for place, each in enumerate(rows) if name in each)
            wrong(sent.place(row, name), f"There is no such field. There are: {', '.join(kinds)}.")
    taken = others if extra else []
    columns = {name: _column([row.get(name) for row in rows], name, sent, wrong) for name in taken}
    wrong.stop()
    there = {name: column for name, column in columns.items() if column.null_count < len(column)}
    return Sent(len(rows), fields, there, form="lines", numbers=numbers)


def _objects(body: bytes) -> tuple[list[int], list[dict[str, Any]]]:
    """The objects with the numbers of their lines; empty lines are passed over."""
    wrong = Wrong()
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        if len(rows) == MOST_ROWS:
            raise InvalidInput({"body": f"More than {MOST_ROWS:,} rows: send them in parts."})
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as problem:
            wrong(f"lines.{number}", f"This is no JSON: {problem}.")
            continue
        if type(row) is not dict:
            wrong(f"lines.{number}", "An object is needed: a value for each field.")
            continue
        numbers.append(number)
        rows.append(row)
    wrong.stop()
    if not rows:
        raise InvalidInput({"body": "There is no row in it."})
    return numbers, rows


def _column(values: list[Any], name: str, sent: Sent, wrong: Wrong) -> pa.Array:
    """A column beside the declared ones: all numbers, all texts or all truths."""
    there = [(row, value) for row, value in enumerate(values) if value is not None]
    if not name or len(name) > 200 or "\0" in name:
        wrong(sent.place(there[0][0] if there else 0, name), "The name of a field has 1 to 200 characters.")
        return pa.nulls(len(values))
    kind = _plain_kind(there[0][1]) if there else None
    for row, value in there:
        if _plain_kind(value) != kind or kind is None:
            needed = f"{kind}, as in the rows before" if kind else "A number, a text or a truth"
            wrong(sent.place(row, name), f"{needed}, is needed.")
            return pa.nulls(len(values))
        if kind == "a text" and (problem := _text_problem(value)):
            wrong(sent.place(row, name), problem)
            return pa.nulls(len(values))
    if kind == "a number":
        whole = all(type(value) is int and -(2**63) <= value < 2**63 for _, value in there)
        return pa.array(values if whole else [None if value is None else float(value) for value in values])
    return pa.array(values)


def _plain_kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return "a truth"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if isinstance(value, str) else None


def _field(values: Sequence[Any], name: str, kind: Kind, sent: Sent, wrong: Wrong) -> list[Any]:
    """A declared field of every row; None where there is none or it was refused."""
    fields: list[Any] = [None] * len(values)
    for row, value in enumerate(values):
        if value is None:
            continue
        fields[row], problem = _taken(value, kind)
        if problem:
            wrong(sent.place(row, name), problem)
    return fields


def _taken(value: Any, kind: Kind) -> tuple[Any, str]:
    """The value as ``kind``, or what is wrong with it."""
    needed = f"{kind} is needed."
    match kind:
        case Kind.TEXT:
            problem = _text_problem(value) if isinstance(value, str) else needed
            return (None, problem) if problem else (value, "")
        case Kind.WHOLE:
            whole = type(value) is int or (isinstance(value, float) and value.is_integer())
            return (int(value), "") if whole and abs(value) < 2**31 else (None, needed)
        case Kind.NUMBER:
            fits = isinstance(value, int | float) and type(value) is not bool and abs(value) < 1e300
            return (float(value), "") if fits else (None, needed)
        case Kind.TIME:
            return _moment(value, needed)


def _moment(value: Any, needed: str) -> tuple[datetime | None, str]:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None, needed
    if not isinstance(value, datetime):
        return None, needed
    try:
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None, needed
    return (moment, "") if moment >= EARLIEST else (None, f"Not before {EARLIEST.year}: {moment.isoformat()}.")


def _text_problem(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        return f"A text of {len(value):,} characters; at most {LONGEST_TEXT:,} are accepted."
    return "A text holds the character NUL." if "\0" in value else ""


# ---------------------------------------------------------------------- Parquet


def _read_parquet(body: bytes, kinds: Mapping[str, Kind], extra: bool) -> Sent:
    table = _table(body)
    wrong = Wrong()
    sent = Sent(table.num_rows, {}, form="rows")
    fields: dict[str, list[Any]] = {name: [None] * table.num_rows for name in kinds}
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in kinds:
            fields[name] = _field(_listed(column, name, wrong), name, kinds[name], sent, wrong)
        elif not extra:
            wrong(name, f"There is no such column. There are: {', '.join(kinds)}.")
        elif pa.types.is_timestamp(column.type):
            wrong(name, "A column of times can not be taken: numbers, texts and truths can.")
        elif column.null_count < len(column):
            columns[name] = column
    wrong.stop()
    return Sent(table.num_rows, fields, columns, form="rows")


def _table(body: bytes) -> pa.Table:
    """The file's columns of plain types, dictionaries decoded. What it unpacks to is bounded before and after."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        _check_size(file)
        texts = [each.name for each in file.schema_arrow if _is_text(each.type)]
        # A short file may say one long text a million times: as a dictionary it is read once.
        whole = pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts).read(use_threads=False)
        whole.validate(full=True)  # places beyond a dictionary's end, bytes that are no text
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        raise InvalidInput({"body": f"This is no Parquet file that can be read: {str(problem)[:300]}"}) from problem
    names = [name for name in whole.column_names if not name.startswith(_INDEX)]
    if (unpacked := sum(_bytes_of_texts(whole[name]) for name in names)) > MOST_UNPACKED:
        raise InvalidInput({"body": f"Its texts have {unpacked:,} bytes; at most {MOST_UNPACKED:,} are accepted."})
    wrong = Wrong()
    columns = {name: _decoded(whole[name], name, wrong) for name in names}
    wrong.stop()
    return pa.table(columns)


def _check_size(file: pq.ParquetFile) -> None:
    about = file.metadata
    names = file.schema_arrow.names
    unpacked = sum(about.row_group(each).total_byte_size for each in range(about.num_row_groups))
    if about.num_rows > MOST_ROWS:
        raise InvalidInput({"body": f"{about.num_rows:,} rows; at most {MOST_ROWS:,} at once: send them in parts."})
    if not about.num_rows:
        raise InvalidInput({"body": "There is no row in it."})
    _check_cells(about.num_rows, about.num_columns)
    if unpacked > MOST_UNPACKED:
        raise InvalidInput({"body": f"It unpacks to {unpacked:,} bytes; at most {MOST_UNPACKED:,} are accepted."})
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput({"body": f"Columns of one name: {', '.join(sorted(twice))}."})


def _decoded(column: pa.ChunkedArray, name: str, wrong: Wrong) -> pa.ChunkedArray:
    kind = column.type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    plain = pa.types.is_boolean(inner) or pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not (plain or _is_text(inner) or pa.types.is_timestamp(inner) or pa.types.is_null(inner)):
        wrong(name, f"A column of type {kind} can not be taken: numbers, texts, truths and times can.")
        return column
    if pa.types.is_dictionary(kind):
        column = column.cast(inner)
    return column.cast(pa.string()) if _is_text(inner) else column


def _bytes_of_texts(column: pa.ChunkedArray) -> int:
    """What a dictionary of texts would take, decoded."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return 0
    lengths = [pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() for chunk in column.chunks]
    return sum(each or 0 for each in lengths)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _listed(column: pa.Array, name: str, wrong: Wrong) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        try:
            column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
            listed: list[Any] = column.to_pylist()
        except (pa.ArrowException, OverflowError, ValueError) as problem:
            wrong(name, f"Times that are none: {str(problem)[:200]}")
            return []
        return listed
    return list(column.to_pylist())


def _said(value: Any) -> Any:
    """A number that is none is nothing, as pandas means it."""
    return None if isinstance(value, float) and math.isnan(value) else value
