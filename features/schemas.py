"""Schemas of a model's features: derived from the feature views, tightened by what is promised, checked by pandera.

A feature view says which columns there are and of which type; ranges and levels come from whoever promises them (the
training data, the model's owners). A table is then checked as a whole, and every defect is counted, not only the first
one found.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from features.meaning import TYPES

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

    from features.models import FeatureService

EXAMPLES = 3
"""How many of the values that break a rule are kept to show."""

Level = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """What one column has to be. None: nothing is said of it.

    ``low`` and ``high`` bound numbers (inclusive), ``levels`` lists what a value may be. Nulls break neither.
    """

    type: pa.DataType | None = None
    low: float | None = None
    high: float | None = None
    levels: tuple[Level, ...] | None = None


@dataclass(frozen=True)
class Broken:
    """The rows of one column that break one rule, and the first few different values that did."""

    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Defects:
    """What a table has that its schema does not allow.

    ``missing`` are columns, ``types`` those of another type, as (there, declared). A column of another type is not
    looked at further. ``duplicates`` counts the rows whose key occurred before.
    """

    missing: tuple[str, ...]
    types: Mapping[str, tuple[str, str]]
    outside: Mapping[str, Broken]
    unseen: Mapping[str, Broken]
    duplicates: int


def declared_types(service: FeatureService) -> dict[str, pa.DataType]:
    """The type of every column that the feature store gives (stored and computed on demand), by its views' definitions.

    What comes with the request has none there.
    """
    stored = {each.column: TYPES[each.view_version.types[each.feature]] for each in service.pinned()}
    computed = {
        column: TYPES[feature["dtype"]]
        for transform in service.pinned_transforms()
        for column, feature in zip(transform.columns, transform.features, strict=True)
    }
    return {**stored, **computed}


def kind(type_: pa.DataType) -> str:
    """What a column holds to a person: number, text, flag, time, or the type's own name."""
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "flag"
    return "time" if pa.types.is_timestamp(type_) or pa.types.is_date(type_) else str(type_)


def known_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with one form of "no value": NaN becomes null, and levels are told out."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def library() -> Any:
    """pandera, imported when first needed: half a second, that only a check of data has to spend."""
    with _quiet_spark():
        import pandera.errors
        import pandera.pandas
    return pandera.pandas


@contextmanager
def _quiet_spark() -> Iterator[None]:
    """Where Spark is installed pandera imports that, too, which warns of pandas 3; nothing here is a table of Spark."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark|pandera")
        yield


def schema(columns: Mapping[str, Column], *, key: str | None = None) -> pandera.DataFrameSchema:
    """The pandera schema of a table with these columns, in which ``key`` tells the rows apart."""
    of = library()
    wanted = {**columns, **({key: columns.get(key, Column())} if key is not None else {})}
    fields = {
        name: of.Column(
            _dtype(column.type),
            checks=_checks(column),
            nullable=True,
            unique=name == key,
            report_duplicates="exclude_first",
            name=name,
        )
        for name, column in wanted.items()
    }
    whole: pandera.DataFrameSchema = of.DataFrameSchema(fields)
    return whole


def defects(table: pa.Table, columns: Mapping[str, Column], *, key: str | None = None) -> Defects:
    """Everything in ``table`` that its schema does not allow, counted over all rows.

    Numbers of any width count as numbers: whether a count came as an integer or a double is nobody's defect.
    """
    import pandas as pd

    errors = library().errors
    looked_at = [name for name in dict.fromkeys([*columns, *([key] if key else [])]) if name in table.column_names]
    ready = pa.table({name: _as_declared(table.column(name), columns.get(name)) for name in looked_at})
    # what has another type is told as that and nothing else; a range of texts means nothing
    types = {
        name: (str(ready.schema.field(name).type), str(column.type))
        for name, column in columns.items()
        if name in looked_at and column.type is not None and ready.schema.field(name).type != column.type
    }
    wanted = dict(columns)
    for name in columns.keys() & set(looked_at):
        there = ready.schema.field(name).type
        wanted[name] = Column(columns[name].type) if name in types else _fitting(columns[name], there)
    frame = ready.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        with _quiet_spark():
            schema(wanted, key=key if key in looked_at else None).validate(frame, lazy=True)
    except errors.SchemaErrors as found:
        return _told(found.schema_errors, types)
    return Defects((), types, {}, {}, 0)


def _told(errors: Sequence[Any], types: Mapping[str, tuple[str, str]]) -> Defects:
    reasons = library().errors.SchemaErrorReason

    missing: list[str] = []
    outside: dict[str, Broken] = {}
    unseen: dict[str, Broken] = {}
    duplicates = 0
    for error in errors:
        if error.reason_code is reasons.COLUMN_NOT_IN_DATAFRAME:
            missing.append(str(error.failure_cases))
        elif error.reason_code is reasons.SERIES_CONTAINS_DUPLICATES:
            duplicates += len(error.failure_cases)
        elif error.reason_code is reasons.DATAFRAME_CHECK:
            rows = int((~error.check_output.fillna(True).astype(bool)).sum())
            broken = Broken(rows, _examples(error.failure_cases["failure_case"]))
            (unseen if error.check.name == "isin" else outside)[error.schema.name] = broken
        elif error.reason_code is not reasons.WRONG_DATATYPE:
            raise ValueError(f"The schema could not be checked: {error}")
    return Defects(tuple(missing), types, outside, unseen, duplicates)


def _examples(values: pd.Series[Any]) -> tuple[str, ...]:
    shown = dict.fromkeys(str(each).replace("\0", "")[:40] for each in values)
    return tuple(shown)[:EXAMPLES]


def _dtype(type_: pa.DataType | None) -> Any:
    import pandas as pd

    return None if type_ is None else pd.ArrowDtype(type_)


def _checks(column: Column) -> list[Any]:
    check = library().Check

    found = []
    if column.low is not None and column.high is not None:
        found.append(check.in_range(column.low, column.high, n_failure_cases=EXAMPLES))
    elif column.low is not None:
        found.append(check.ge(column.low, n_failure_cases=EXAMPLES))
    elif column.high is not None:
        found.append(check.le(column.high, n_failure_cases=EXAMPLES))
    if column.levels is not None:
        found.append(check.isin(list(column.levels), n_failure_cases=100))
    return found


def _fitting(column: Column, type_: pa.DataType) -> Column:
    """The column with those of its rules that have a meaning for values of a type."""
    what = kind(type_)
    bounds = (column.low, column.high) if what == "number" else (None, None)
    levels = column.levels
    if levels is not None:
        accepted = {"number": (int, float), "text": (str,), "flag": (bool,)}.get(what, ())
        levels = tuple(
            each for each in levels if isinstance(each, accepted) and isinstance(each, bool) == (what == "flag")
        )
    return Column(column.type, *bounds, levels)


def _as_declared(values: pa.ChunkedArray, column: Column | None) -> pa.ChunkedArray:
    """The values in the declared type where both are of one kind and nothing gets lost; else as they are."""
    values = known_values(values)
    if column is None or column.type is None or kind(values.type) != kind(column.type):
        return values
    try:
        return pc.cast(values, column.type)
    except pa.ArrowInvalid:
        return values
