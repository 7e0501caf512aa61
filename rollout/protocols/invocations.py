"""MLflow's scoring protocol: ``/invocations`` as ``mlflow models serve`` 3.x answers it. Pure.

One of ``dataframe_split``, ``dataframe_records``, ``instances``, ``inputs``, with optional ``params``; or CSV; or
Parquet. The reply is ``{"predictions": [score, …]}``, one for each row. ``params`` takes ``entity``, ``request_id`` and
``at``, and ``outputs``: other names than score (``v2.OUTPUTS``) make each prediction a record of them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rollout.gateway.asked import Answered, Asked, BadRequest, Described, Refusal, TooLarge, Values
from rollout.protocols import about, tensors, v2
from rollout.protocols.calls import (
    JSON,
    MAX_BYTES,
    MAX_COLUMNS,
    MAX_NAME,
    MAX_ROWS,
    Call,
    House,
    Reply,
    body_of,
    document,
    json_reply,
)

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
CSV = "text/csv"
PARQUET = ("application/vnd.apache.parquet", "application/x-parquet", "application/parquet")
MAX_CELLS = 2_000_000
ERROR_CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "REQUEST_LIMIT_EXCEEDED",
    415: "BAD_REQUEST",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""MLflow's names (``mlflow.protos.databricks_pb2.ErrorCode``) by status."""

Columns = dict[str, Values]


class UnknownContentType(BadRequest):
    status = 415


def refused(refusal: Refusal) -> Reply:
    """The protocol's error; ``field`` is ours."""
    content = {
        "error_code": ERROR_CODES.get(refusal.status, "INTERNAL_ERROR"),
        "message": refusal.placed_message,
    }
    return json_reply(content | {"field": refusal.field} if refusal.field else content, refusal.status)


def invoke(call: Call, described: Described, house: House) -> Reply:
    """Raises Refusal."""
    asked = read(call, described)
    return write(asked, house.answer(described.endpoint, asked))


def read(call: Call, described: Described) -> Asked:
    """What is asked. Raises BadRequest, and nothing else whatever the bytes."""
    body = body_of(call)
    kind = call.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind == JSON:
        content = document(body)
        params = content.get("params") or {}
        if type(params) is not dict:
            raise BadRequest("It must be an object.", "params")
        columns = _from_json(content, described)
    elif kind == CSV:
        params, columns = {}, _from_csv(body, described)
    elif kind in PARQUET:
        params, columns = {}, _from_parquet(body)
    else:
        raise UnknownContentType(f"{kind[:60]!r} is not taken; {JSON}, {CSV} and {PARQUET[0]} are.", "Content-Type")
    rows = len(next(iter(columns.values()), ()))
    if not rows:
        raise BadRequest("There is no row in it.")
    return about.asked(columns, rows, params, _outputs(params.get("outputs")), described)


def write(asked: Asked, answered: Answered) -> Reply:
    wanted = asked.outputs
    if wanted == ("score",):
        return json_reply({"predictions": v2.column("score", answered)})
    columns = [v2.column(name, answered) for name in wanted]
    return json_reply({"predictions": [dict(zip(wanted, row, strict=True)) for row in zip(*columns, strict=True)]})


def _outputs(wanted: Any) -> tuple[str, ...]:
    if wanted is None:
        return ("score",)
    if type(wanted) is not list or not wanted or any(type(each) is not str for each in wanted):
        raise BadRequest("It must be a list of names.", "params.outputs")
    if not v2.OUTPUTS.keys() >= set(wanted):
        raise BadRequest(f"It must be a list out of {', '.join(v2.OUTPUTS)}.", "params.outputs")
    return tuple(dict.fromkeys(wanted))


# ---------------------------------------------------------------------- JSON


def _from_json(content: dict[str, Any], described: Described) -> Columns:
    forms = [form for form in FORMS if form in content]
    if len(forms) != 1:
        raise BadRequest(f"Exactly one of {', '.join(FORMS)} must be there.", forms[1] if forms else "")
    form = forms[0]
    sent = content[form]
    if form == "dataframe_split":
        return _split(sent, form)
    if type(sent) is dict and form == "inputs":
        return _by_column(sent, form)
    if type(sent) is not list or not sent:
        raise BadRequest("It must be a list of rows.", form)
    if len(sent) > MAX_ROWS:
        raise TooLarge(f"{len(sent)} rows; {MAX_ROWS} are taken at once.", form)
    if type(sent[0]) is dict:
        return _records(sent, form)
    if form == "dataframe_records":
        raise BadRequest("It must be a list of objects.", form)
    return _matrix(sent, form, described)


def _split(sent: Any, form: str) -> Columns:
    if type(sent) is not dict or type(sent.get("data")) is not list or type(sent.get("columns")) is not list:
        raise BadRequest("It must be an object with the lists columns and data.", form)
    names, data = sent["columns"], sent["data"]
    _check_names(names, f"{form}.columns")
    return _rows(names, data, f"{form}.data")


def _matrix(sent: list[Any], form: str, described: Described) -> Columns:
    """Rows without names: the model's inputs in order."""
    names = [each.name for each in described.inputs]
    if len(names) == 1 and type(sent[0]) is not list:
        sent = [[each] for each in sent]
    return _rows(names, sent, form)


def _rows(names: list[str], data: list[Any], place: str) -> Columns:
    _check_size(len(data), len(names), place)
    for number, row in enumerate(data):
        if type(row) is not list or len(row) != len(names):
            wanted = f"It must be a list of {len(names)} values: {', '.join(names)[:500]}."
            raise BadRequest(wanted, f"{place}[{number}]")
    return {name: _checked([row[at] for row in data], name, place) for at, name in enumerate(names)}


def _records(sent: list[Any], form: str) -> Columns:
    """Rows as objects. What a row leaves out is missing there."""
    for number, row in enumerate(sent):
        if type(row) is not dict:
            raise BadRequest("It must be an object.", f"{form}[{number}]")
    names = list(dict.fromkeys(name for row in sent for name in row))
    _check_names(names, form)
    _check_size(len(sent), len(names), form)
    return {name: _checked([row.get(name) for row in sent], name, form) for name in names}


def _by_column(sent: dict[str, Any], form: str) -> Columns:
    """Lists by name; each value may be a list of one, as a tensor [n, 1] would be."""
    _check_names(list(sent), form)
    columns: Columns = {}
    rows: int | None = None
    for name, values in sent.items():
        if type(values) is not list:
            raise BadRequest("It must be a list with a value for each row.", f"{form}.{name}")
        _check_size(len(values), len(sent), form)
        if rows not in (None, len(values)):
            raise BadRequest(f"{len(values)} values; the first column has {rows}.", f"{form}.{name}")
        rows = len(values)
        plain = [each[0] if type(each) is list and len(each) == 1 else each for each in values]
        columns[name] = _checked(plain, name, form)
    return columns


def _check_names(names: list[Any], place: str) -> None:
    if not 0 < len(names) <= MAX_COLUMNS:
        raise BadRequest(f"There must be 1 to {MAX_COLUMNS} columns.", place)
    for name in names:
        if type(name) is not str or not 0 < len(name) <= MAX_NAME:
            raise BadRequest(f"A column's name must be text of 1 to {MAX_NAME} characters.", place)
    if len(set(names)) < len(names):
        raise BadRequest("A column is named twice.", place)


def _check_size(rows: int, columns: int, place: str) -> None:
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise TooLarge(f"{rows} rows of {columns}; {MAX_ROWS} rows and {MAX_CELLS} values are taken at once.", place)


_SCALARS = frozenset([type(None), bool, int, float, str])


def _checked(values: list[Any], name: str, place: str) -> list[Any]:
    for number, value in enumerate(values):
        if type(value) not in _SCALARS:
            raise BadRequest(f"{name} is no number, text, true, false or null.", f"{place}[{number}].{name}")
    return values


# ---------------------------------------------------------------------- CSV and Parquet


def _from_csv(body: bytes, described: Described) -> Columns:
    """A header and a line per row. Empty is missing; a number where it looks like one and the model wants no text."""
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        lines = [line for line in islice(reader, MAX_ROWS + 2) if line]
    except UnicodeDecodeError as error:
        raise BadRequest("It is no UTF-8.") from error
    except csv.Error as error:
        raise BadRequest(f"It is no CSV: {error}.") from error
    if not lines:
        raise BadRequest("There is no header in it.")
    names, data = lines[0], lines[1:]
    _check_names(names, "header")
    _check_size(len(data), len(names), "rows")
    for number, line in enumerate(data):
        if len(line) != len(names):
            raise BadRequest(f"{len(line)} values; the header has {len(names)}.", f"rows[{number}]")
    texts = {each.name for each in described.inputs if tensors.datatype_of(each.kind) == tensors.BYTES}
    return {
        name: [(line[at] or None) if name in texts else _plain(line[at]) for line in data]
        for at, name in enumerate(names)
    }


def _plain(text: str) -> Any:
    """A cell of no stated kind. ``007`` stays text: it is somebody's key."""
    if text in ("", "NaN", "nan"):
        return None
    try:
        if text.isascii() and len(text) < 20 and str(int(text)) == text:
            return int(text)
    except ValueError:
        pass
    if text[:1] == "0" and text[1:2].isdigit():
        return text
    try:
        number = float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.lower(), text)
    return number if abs(number) < float("inf") else text


def _from_parquet(body: bytes) -> Columns:
    """Columns of numbers, truth values and text. Text stays a dictionary while read: one long text is held once."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        schema = file.schema_arrow
        if any(pa.types.is_nested(each.type) for each in schema):
            raise BadRequest("A column is a list, a struct or a map; one value per row is taken.")
        _check_names(schema.names, "columns")
        _check_size(file.metadata.num_rows, len(schema), "rows")
        unpacked = sum(file.metadata.row_group(each).total_byte_size for each in range(file.num_row_groups))
        if not 0 <= unpacked <= 4 * MAX_BYTES:
            raise TooLarge(f"It unpacks to {unpacked} bytes; {4 * MAX_BYTES} are taken at once.")
        texts = [each.name for each in schema if _is_text(each.type)]
        table = pq.read_table(pa.BufferReader(body), read_dictionary=texts, use_threads=False)
        table.validate(full=True)  # a damaged file may point beyond its dictionaries
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadRequest(f"It is no Parquet that can be read: {str(error)[:200]}.") from error
    _check_size(len(table), len(schema), "rows")
    return {field.name: _values(table[field.name], field) for field in table.schema}


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _values(column: pa.ChunkedArray, field: pa.Field) -> Values:
    type_ = field.type
    found: list[Any] = []
    if pa.types.is_dictionary(type_) and _is_text(type_.value_type):
        for chunk in column.chunks:
            texts = _utf8(chunk.dictionary, field.name)
            found.extend(None if at is None else texts[at] for at in chunk.indices.to_pylist())
        return found
    if _is_text(type_):
        return _utf8(column, field.name)
    kinds = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    if any(is_kind(type_) for is_kind in kinds):
        found = column.to_pylist()
        return found
    if pa.types.is_decimal(type_):
        return [None if each is None else float(each) for each in column.to_pylist()]
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        times = column.cast(pa.timestamp("us", "UTC")).to_pylist()
        return [None if each is None else each.isoformat() for each in times]
    raise BadRequest(f"It holds {type_}; numbers, truth values, text and times with a zone are taken.", field.name)


def _utf8(texts: pa.Array | pa.ChunkedArray, name: str) -> list[str | None]:
    try:
        found: list[str | None] = texts.to_pylist()
    except UnicodeDecodeError as error:
        raise BadRequest("It is no UTF-8.", name) from error
    return found
