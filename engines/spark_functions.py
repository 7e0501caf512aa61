"""What each operation of the allow-list becomes in Spark SQL, written so that both engines give the same answer.

DuckDB's meaning is the reference: a feature view is written in its dialect. Where Spark's operation of the same name
means something else, the difference stands in the comment beside the rule. What can not be given the same meaning is
refused with a ``DialectError`` that names it. All rules are tested on both engines, cell by cell, in
``tests/engines/test_spark_operations.py``.

Three representations hold throughout: times are ``TIMESTAMP_NTZ`` read as UTC; a span of time is a ``BIGINT`` of
microseconds (``Kind.SPAN``); DuckDB's ``HUGEINT`` is ``DECIMAL(38, 0)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlglot import exp

from engines.expressions import ExpressionError


class DialectError(ExpressionError):
    """An operation that DuckDB accepts and that can not be given the same meaning on Spark."""


class Kind(Enum):
    """What a value is, as far as the rules tell it apart."""

    NULL = "NULL"
    BOOLEAN = "BOOLEAN"
    INTEGER = "BIGINT"
    HUGE = "DECIMAL(38, 0)"
    DECIMAL = "DECIMAL"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    TEXT = "STRING"
    TIME = "TIMESTAMP_NTZ"
    DATE = "DATE"
    SPAN = "INTERVAL"
    MONTHS = "INTERVAL of months"
    INTEGERS = "BIGINT[]"
    TIMES = "TIMESTAMP[]"


WHOLE = frozenset({Kind.INTEGER, Kind.HUGE})
NUMBERS = WHOLE | {Kind.DECIMAL, Kind.FLOAT, Kind.DOUBLE}
_WIDEST_ROUND = 15  # digits; beyond, ten to their power is no exact double
_WHOLE_DOUBLES = "4503599627370496D"  # 2**52: from here on every double is a whole number
_SPACES = "".join(map(chr, (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))
_HUGE = "DECIMAL(38, 0)"


@dataclass(frozen=True)
class Typed:
    """A translated piece: Spark SQL, what it yields, and the number it is if it was written as one."""

    sql: str
    kind: Kind
    number: int | None = None


@dataclass(frozen=True)
class Call:
    """An aggregate or window function: the call itself, and what is done to its answer (``{}``) outside ``OVER``."""

    sql: str
    kind: Kind
    outside: str = "{}"


# ---------------------------------------------------------------------- text, times, numbers


def text(value: str) -> str:
    """A text literal of Spark SQL, where a backslash escapes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def microseconds(time: str) -> str:
    """A time as microseconds since 1970 UTC."""
    return f"unix_micros(CAST({time} AS TIMESTAMP))"


def time_at(micros: str) -> str:
    """The time that many microseconds after 1970 UTC."""
    return f"CAST(timestamp_micros({micros}) AS TIMESTAMP_NTZ)"


def fixed_point(double: str, scale: int) -> str:
    """A double times ten to ``scale``, rounded half away from zero, as an exact ``DECIMAL(38, 0)``: DuckDB's cast.

    Spark's own cast goes through the shortest decimal text of the number, which is another number.
    """
    scaled = f"round(({double}) * 1e{scale}D)"
    # In two exact halves, because a double above 2**63 has no exact way to a decimal. CAST truncates, and raises
    # where the number does not fit.
    high = f"CAST({scaled} / 9223372036854775808D AS BIGINT)"
    return (
        f"CAST(CAST({high} AS {_HUGE}) * 9223372036854775808BD AS {_HUGE}) "
        f"+ CAST(CAST({scaled} - {high} * 9223372036854775808D AS BIGINT) AS {_HUGE})"
    )


def refused(node: exp.Expr, why: str) -> DialectError:
    """The refusal of a piece of the expression, by name."""
    shown = node.sql(dialect="duckdb", comments=False)
    return DialectError(f"{shown if len(shown) <= 80 else shown[:77] + '…'}: {why}")


# ---------------------------------------------------------------------- kinds that meet


def as_kind(value: Typed, kind: Kind) -> str:
    """``value`` where ``kind`` is expected; only conversions that both engines make alike."""
    if value.kind is kind or value.kind is Kind.NULL:
        return value.sql
    if kind is Kind.DECIMAL:  # Spark widens whole numbers to decimals as DuckDB does
        return value.sql
    return f"CAST({value.sql} AS {kind.value})"


def meeting(node: exp.Expr, values: Sequence[Typed]) -> Kind:
    """The kind in which DuckDB compares, adds or merges ``values``."""
    kinds = {value.kind for value in values} - {Kind.NULL}
    if not kinds:
        return Kind.NULL
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds <= NUMBERS:
        # FLOAT and a decimal or whole number meet as FLOAT in DuckDB, as DOUBLE in Spark
        order = (Kind.DOUBLE, Kind.FLOAT, Kind.DECIMAL, Kind.HUGE)
        return next(kind for kind in order if kind in kinds)
    if kinds == {Kind.DATE, Kind.TIME}:
        return Kind.TIME
    names = " and ".join(sorted(kind.value for kind in kinds))
    raise refused(node, f"{names} meet here, and engines disagree on what that means; CAST one of them")


def together(node: exp.Expr, values: Sequence[Typed]) -> tuple[list[str], Kind]:
    """``values`` in the one kind in which they meet."""
    kind = meeting(node, values)
    return [as_kind(value, kind) for value in values], kind


def number(node: exp.Expr, value: Typed) -> Typed:
    """``value``, if it is a number."""
    if value.kind not in NUMBERS | {Kind.NULL}:
        raise refused(node, f"needs a number, not {value.kind.value}")
    return value


def _expect(node: exp.Expr, value: Typed, *kinds: Kind) -> str:
    if value.kind not in (*kinds, Kind.NULL):
        raise refused(node, f"needs {' or '.join(kind.value for kind in kinds)}, not {value.kind.value}")
    return value.sql


def truth(node: exp.Expr, value: Typed) -> str:
    """``value`` as a condition. DuckDB takes numbers, too; Spark does not."""
    return _expect(node, value, Kind.BOOLEAN)


def text_of(node: exp.Expr, value: Typed) -> str:
    """``value``, if it is text."""
    return _expect(node, value, Kind.TEXT)


def _double(node: exp.Expr, value: Typed) -> str:
    return as_kind(number(node, value), Kind.DOUBLE)


# ---------------------------------------------------------------------- operators


def add(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``+`` of numbers, of a time and a span, of spans."""
    kinds = (left.kind, right.kind)
    if kinds in ((Kind.SPAN, Kind.TIME), (Kind.SPAN, Kind.DATE), (Kind.MONTHS, Kind.TIME), (Kind.MONTHS, Kind.DATE)):
        left, right = right, left
    return _moved(node, left, right, "+") if left.kind in (Kind.TIME, Kind.DATE) else _sum(node, left, right, "+")


def subtract(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``-`` of numbers, of a time and a span, of two times (a span), of two dates (days)."""
    if left.kind is right.kind is Kind.DATE:
        return Typed(f"CAST(datediff({left.sql}, {right.sql}) AS BIGINT)", Kind.INTEGER)
    if {left.kind, right.kind} <= {Kind.TIME, Kind.DATE}:
        one, two = (microseconds(as_kind(each, Kind.TIME)) for each in (left, right))
        return Typed(f"({one} - {two})", Kind.SPAN)
    return _moved(node, left, right, "-") if left.kind in (Kind.TIME, Kind.DATE) else _sum(node, left, right, "-")


def _moved(node: exp.Expr, time: Typed, span: Typed, sign: str) -> Typed:
    moment = as_kind(time, Kind.TIME)
    if span.kind is Kind.SPAN:
        return Typed(time_at(f"{microseconds(moment)} {sign} {span.sql}"), Kind.TIME)
    if span.kind is Kind.MONTHS:
        return Typed(f"({moment} {sign} make_ym_interval(0, CAST({span.sql} AS INT)))", Kind.TIME)
    raise refused(node, "a time is moved by an INTERVAL")


def _sum(node: exp.Expr, left: Typed, right: Typed, sign: str) -> Typed:
    (one, two), kind = together(node, (left, right))
    if kind is not Kind.SPAN and kind not in NUMBERS | {Kind.NULL}:
        raise refused(node, f"{sign} is not defined for {kind.value}")
    return Typed(f"({one} {sign} {two})", kind)


def multiply(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``*`` of numbers."""
    (one, two), kind = together(node, (number(node, left), number(node, right)))
    return Typed(f"({one} * {two})", kind)


def divide(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``/`` is IEEE division of doubles in DuckDB: x / 0 is infinite or NaN, where Spark raises or yields null."""
    one, two = _double(node, left), _double(node, right)
    # pow(±0, -1) is ±infinity, and 0 * infinity is NaN, as IEEE wants
    quotient = f"(CASE WHEN {two} = 0D THEN {one} * pow({two}, -1D) ELSE {one} / nullif({two}, 0D) END)"
    if Kind.FLOAT in (left.kind, right.kind) and Kind.DOUBLE not in (left.kind, right.kind):
        return Typed(f"CAST({quotient} AS FLOAT)", Kind.FLOAT)
    return Typed(quotient, Kind.DOUBLE)


def whole_divide(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``//`` of whole numbers. DuckDB does not cut the quotient of fractional ones: 7.5 // 2 is 3.75 there."""
    kind = meeting(node, (number(node, left), number(node, right)))
    if kind not in WHOLE | {Kind.NULL}:
        raise refused(node, "// of fractional numbers is cut by some engines and not by others; write floor(a / b)")
    quotient = f"({left.sql} DIV {right.sql})"
    return Typed(f"CAST({quotient} AS {_HUGE})" if kind is Kind.HUGE else quotient, kind)


def modulo(node: exp.Expr, left: Typed, right: Typed) -> Typed:
    """``%``, which takes the sign of the dividend on both. x % 0.0 is NaN in DuckDB and an error in Spark."""
    (one, two), kind = together(node, (number(node, left), number(node, right)))
    if kind in (Kind.DOUBLE, Kind.FLOAT):
        rest = f"(CASE WHEN {two} = 0D THEN {one} * double('NaN') ELSE {one} % nullif({two}, 0D) END)"
        return Typed(rest if kind is Kind.DOUBLE else f"CAST({rest} AS FLOAT)", kind)
    return Typed(f"({one} % {two})", kind)


def compare(node: exp.Expr, left: Typed, right: Typed, sign: str) -> Typed:
    """A comparison in the kind where both sides meet. NaN equals itself and is the largest number, on both."""
    (one, two), _ = together(node, (left, right))
    return Typed(f"({one} {sign} {two})", Kind.BOOLEAN)


# ---------------------------------------------------------------------- casts

_CAST_KINDS = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), Kind.INTEGER),
    "INT128": Kind.HUGE,
    "DECIMAL": Kind.DECIMAL,
    "FLOAT": Kind.FLOAT,
    "DOUBLE": Kind.DOUBLE,
    "BOOLEAN": Kind.BOOLEAN,
    "TEXT": Kind.TEXT,
    "VARCHAR": Kind.TEXT,
    "TIMESTAMP": Kind.TIME,
    "TIMESTAMPNTZ": Kind.TIME,
    "DATE": Kind.DATE,
}


def cast(node: exp.Cast | exp.TryCast, value: Typed) -> Typed:
    """``CAST`` and ``TRY_CAST``."""
    kind = _CAST_KINDS.get(node.to.this.name)
    if kind is None:
        raise refused(node, f"casts to {node.to.sql(dialect='duckdb')} are not translated")
    call = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
    to = _spark_type(node, kind)
    return Typed(_converted(node, value, kind, f"{call}({{}} AS {to})"), kind)


def _spark_type(node: exp.Cast, kind: Kind) -> str:
    if kind is Kind.INTEGER:
        return str(node.to.this.name)
    if kind is not Kind.DECIMAL:
        return str(kind.value)
    sizes = [each.this.name for each in node.to.expressions] or ["18", "3"]
    return f"DECIMAL({', '.join(sizes if len(sizes) == 2 else [*sizes, '0'])})"


def _converted(node: exp.Cast, value: Typed, kind: Kind, to: str) -> str:
    source = value.kind
    if source is Kind.NULL or (source is kind and kind is not Kind.DECIMAL and kind is not Kind.INTEGER):
        return to.format(value.sql)
    if kind in WHOLE and source in (Kind.DOUBLE, Kind.FLOAT):
        # DuckDB rounds half to even, Spark truncates
        return to.format(f"rint({value.sql})")
    if kind in WHOLE and source is Kind.DECIMAL:
        return to.format(f"round({value.sql})")  # half away from zero; Spark truncates
    if kind is Kind.DECIMAL and source in (Kind.DOUBLE, Kind.FLOAT):
        return _to_decimal(node, value, to)
    if kind is Kind.FLOAT and source is Kind.DOUBLE:
        return _narrowed(node, value, to)
    if _alike(source, kind):
        return to.format(value.sql)
    raise refused(node, _why_no_cast(source, kind))


def _to_decimal(node: exp.Cast, value: Typed, to: str) -> str:
    if isinstance(node, exp.TryCast):
        raise refused(node, "TRY_CAST of a double to a decimal overflows differently on each engine; use CAST")
    sizes = [int(each.this.name) for each in node.to.expressions] or [18, 3]
    scale = sizes[1] if len(sizes) == 2 else 0
    units = fixed_point(as_kind(value, Kind.DOUBLE), scale)
    return to.format(units if scale == 0 else f"({units}) * CAST(1e-{scale} AS DECIMAL({scale}, {scale}))")


def _narrowed(node: exp.Cast, value: Typed, to: str) -> str:
    """A double as FLOAT. DuckDB does not let a large one become infinite; Spark does."""
    narrow = to.format(value.sql)
    lost = f"abs({narrow}) = float('Infinity') AND abs({value.sql}) <> double('Infinity')"
    instead = "NULL" if isinstance(node, exp.TryCast) else "raise_error('a DOUBLE is too large for a FLOAT')"
    return f"(CASE WHEN {lost} THEN {instead} ELSE {narrow} END)"


def _alike(source: Kind, kind: Kind) -> bool:
    """Whether both engines convert one to the other alike."""
    exact = WHOLE | {Kind.DECIMAL}
    if source in NUMBERS and kind in NUMBERS:
        return True
    if kind is Kind.BOOLEAN:
        return source in NUMBERS
    if source is Kind.BOOLEAN:
        return kind in WHOLE | {Kind.DOUBLE, Kind.TEXT}
    return (kind is Kind.TEXT and source in exact) or {source, kind} == {Kind.TIME, Kind.DATE}


def _why_no_cast(source: Kind, kind: Kind) -> str:
    if source is Kind.TEXT:
        return "engines accept different spellings of numbers and times in text; store the value with its type"
    if kind is Kind.TEXT:
        return f"engines write {source.value} differently as text"
    return f"a cast from {source.value} to {kind.value} is not defined on both engines"


# ---------------------------------------------------------------------- functions of one row


def round_(node: exp.Expr, value: Typed, digits: int) -> Typed:
    """``round``, half away from zero. Spark rounds the shortest decimal text of a double, DuckDB the double itself."""
    number(node, value)
    if abs(digits) > _WIDEST_ROUND:
        raise refused(node, f"round takes from -{_WIDEST_ROUND} to {_WIDEST_ROUND} digits")
    if value.kind not in (Kind.DOUBLE, Kind.FLOAT):
        return Typed(f"round({value.sql}, {digits})", value.kind)
    if value.kind is Kind.FLOAT and digits:
        raise refused(node, "round to digits of a FLOAT differs between engines; CAST it to DOUBLE first")
    scaled = value.sql
    if digits > 0:
        # finite, but too large to have digits behind the point: left alone
        rounded = f"round({value.sql} * 1e{digits}D) / 1e{digits}D"
        scaled = f"(CASE WHEN abs({value.sql}) < 1e290D THEN {rounded} ELSE {value.sql} END)"
    elif digits < 0:
        scaled = f"(round({value.sql} / 1e{-digits}D) * 1e{-digits}D)"
    else:
        scaled = f"round({value.sql})"
    return Typed(scaled if value.kind is Kind.DOUBLE else f"CAST({scaled} AS FLOAT)", value.kind)


def _to_whole(spark: str) -> Callable[[exp.Expr, Typed], Typed]:
    """``floor`` and ``ceil``: Spark's yield a BIGINT of a double, which holds neither infinity nor NaN."""

    def rule(node: exp.Expr, value: Typed) -> Typed:
        number(node, value)
        if value.kind is Kind.DECIMAL:
            return Typed(f"{spark}({value.sql})", Kind.DECIMAL)
        double = as_kind(value, Kind.DOUBLE)
        whole = f"(CASE WHEN abs({double}) < {_WHOLE_DOUBLES} THEN CAST({spark}({double}) AS DOUBLE) ELSE {double} END)"
        return Typed(f"CAST({whole} AS FLOAT)", Kind.FLOAT) if value.kind is Kind.FLOAT else Typed(whole, Kind.DOUBLE)

    return rule


def _abs(node: exp.Expr, value: Typed) -> Typed:
    return Typed(f"abs({number(node, value).sql})", value.kind)


def _sign(node: exp.Expr, value: Typed) -> Typed:
    double = _double(node, value)
    return Typed(f"CAST(CASE WHEN isnan({double}) THEN 0 ELSE sign({double}) END AS TINYINT)", Kind.INTEGER)


def _ln(node: exp.Expr, value: Typed) -> Typed:
    """Spark's ``ln`` is null where DuckDB's is -infinity (0) or NaN (below)."""
    double = _double(node, value)
    return Typed(
        f"(CASE WHEN {double} > 0D THEN ln({double}) WHEN {double} = 0D THEN double('-Infinity') "
        f"WHEN {double} < 0D THEN double('NaN') END)",
        Kind.DOUBLE,
    )


def _of_double(spark: str) -> Callable[[exp.Expr, Typed], Typed]:
    def rule(node: exp.Expr, value: Typed) -> Typed:
        return Typed(f"{spark}({_double(node, value)})", Kind.DOUBLE)

    return rule


def power(node: exp.Expr, base: Typed, exponent: Typed) -> Typed:
    """``pow``, of doubles."""
    return Typed(f"pow({_double(node, base)}, {_double(node, exponent)})", Kind.DOUBLE)


def _length(node: exp.Expr, value: Typed) -> Typed:
    return Typed(f"CAST(char_length({_expect(node, value, Kind.TEXT)}) AS BIGINT)", Kind.INTEGER)


def _letters(*ranges: tuple[int, int]) -> str:
    return "".join(chr(code) for first, last in ranges for code in range(first, last + 1))


# Letters with a case since Unicode 16, which DuckDB does not know: it leaves them as they are.
_NEWER = _letters(
    (0x19B, 0x19B), (0x264, 0x264), (0x1C89, 0x1C8A), (0xA7CB, 0xA7CF), (0xA7D2, 0xA7D5), (0xA7DA, 0xA7DC)
)
_NEWER += _letters((0x10D50, 0x10D85), (0x16EA0, 0x16ED3))
# Letters that become several to Spark and another single one to DuckDB: ß, and Greek ones with an iota below.
_IOTA = ((0x1F80, 0x1F87), (0x1F90, 0x1F97), (0x1FA0, 0x1FA7))
_UPPER = (
    chr(0xDF) + _letters(*_IOTA) + "\u1fb3\u1fc3\u1ff3",
    chr(0x1E9E) + _letters(*((a + 8, z + 8) for a, z in _IOTA)) + "\u1fbc\u1fcc\u1ffc",
)
_LOWER = ("\u0130", "i")


def _case_of(spark: str, single: tuple[str, str]) -> Callable[[exp.Expr, Typed], Typed]:
    """``lower`` and ``upper``, letter by letter: Spark's look at words (a final sigma) and yield several letters."""

    def rule(node: exp.Expr, value: Typed) -> Typed:
        sql = _expect(node, value, Kind.TEXT)
        before, after = map(text, single)
        each = (
            f"CASE WHEN contains({text(_NEWER)}, c) THEN c "
            f"WHEN contains({before}, c) THEN translate(c, {before}, {after}) "
            f"WHEN char_length({spark}(c)) = 1 THEN {spark}(c) ELSE c END"
        )
        return Typed(
            f"(CASE WHEN octet_length({sql}) = char_length({sql}) THEN {spark}({sql}) "
            f"ELSE array_join(transform(split({sql}, ''), c -> {each}), '') END)",
            Kind.TEXT,
        )

    return rule


def trim(node: exp.Trim, value: Typed, letters: Typed | None) -> Typed:
    """``trim``, ``ltrim``, ``rtrim``. Without letters DuckDB takes away every space of Unicode, Spark only ASCII's."""
    side = (node.args.get("position") or "BOTH").upper()
    taken = text(_SPACES) if letters is None else _expect(node, letters, Kind.TEXT)
    return Typed(f"trim({side} {taken} FROM {_expect(node, value, Kind.TEXT)})", Kind.TEXT)


def substring(node: exp.Expr, value: Typed, start: Typed, length: Typed | None) -> Typed:
    """``substring`` by characters, for a start from 1 and a length from 0: beyond, engines differ."""
    parts = [start] if length is None else [start, length]
    if start.number is None or start.number < 1 or any(part.number is None or part.number < 0 for part in parts):
        raise refused(node, "substring takes a start from 1 and a length from 0, written as numbers")
    places = ", ".join(str(part.number) for part in parts)
    return Typed(f"substring({_expect(node, value, Kind.TEXT)}, {places})", Kind.TEXT)


def concat(node: exp.Expr, values: Sequence[Typed]) -> Typed:
    """``concat`` passes over nulls."""
    parts = []
    for value in values:
        if value.kind not in (Kind.TEXT, Kind.BOOLEAN, Kind.NULL, *WHOLE):
            raise refused(node, _why_no_cast(value.kind, Kind.TEXT))
        parts.append(value.sql if value.kind is Kind.TEXT else f"CAST({value.sql} AS STRING)")
    return Typed(f"concat_ws('', {', '.join(parts)})", Kind.TEXT)


_TRUNCATED = frozenset(("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"))
_TRUNCATED |= {"MILLISECOND", "MICROSECOND"}


def date_trunc(node: exp.Expr, unit: str, value: Typed) -> Typed:
    """``date_trunc``; weeks begin on Monday on both. DuckDB yields a timestamp also for a date."""
    if unit.upper() not in _TRUNCATED:
        raise refused(node, f"date_trunc takes {', '.join(sorted(_TRUNCATED)).lower()}")
    time = as_kind(_time(node, value), Kind.TIME)
    return Typed(f"CAST(date_trunc({text(unit.upper())}, {time}) AS TIMESTAMP_NTZ)", Kind.TIME)


def _time(node: exp.Expr, value: Typed) -> Typed:
    _expect(node, value, Kind.TIME, Kind.DATE)
    return value


_EXTRACTED = {
    "YEAR": "year({})",
    "ISOYEAR": "extract(YEAROFWEEK FROM {})",
    "QUARTER": "quarter({})",
    "MONTH": "month({})",
    "WEEK": "weekofyear({})",
    "DAY": "day({})",
    "DOW": "dayofweek({}) - 1",  # Sunday is 0 in DuckDB, 1 in Spark
    "DAYOFWEEK": "dayofweek({}) - 1",
    "ISODOW": "weekday({}) + 1",
    "DOY": "dayofyear({})",
    "DAYOFYEAR": "dayofyear({})",
    "HOUR": "hour({})",
    "MINUTE": "minute({})",
    "SECOND": "second({})",
}


def extract(node: exp.Expr, part: str, value: Typed) -> Typed:
    """``extract``; all parts but ``epoch`` are whole numbers in DuckDB."""
    time = as_kind(_time(node, value), Kind.TIME)
    if part.upper() == "EPOCH":
        return Typed(f"(CAST({microseconds(time)} AS DOUBLE) / 1000000D)", Kind.DOUBLE)
    if part.upper() not in _EXTRACTED:
        raise refused(node, f"extract takes epoch, {', '.join(sorted(_EXTRACTED)).lower()}")
    return Typed(f"CAST({_EXTRACTED[part.upper()].format(time)} AS BIGINT)", Kind.INTEGER)


def _epoch(micros: str, kind: Kind, *, spans: bool = True) -> Callable[[exp.Expr, Typed], Typed]:
    def rule(node: exp.Expr, value: Typed) -> Typed:
        _expect(node, value, Kind.TIME, Kind.DATE, *((Kind.SPAN,) if spans else ()))
        whole = value.sql if value.kind is Kind.SPAN else microseconds(as_kind(value, Kind.TIME))
        return Typed(micros.format(whole), kind)

    return rule


epoch_ms = _epoch("CAST(floor({} / 1000BD) AS BIGINT)", Kind.INTEGER, spans=False)


def make_timestamp(node: exp.Expr, value: Typed, scale: int = 1) -> Typed:
    """``make_timestamp(microseconds)``; ``scale`` microseconds make a unit."""
    return Typed(time_at(f"{_expect(node, value, Kind.INTEGER)} * {scale}L"), Kind.TIME)


_SPANS = {"MICROSECOND": 1, "MILLISECOND": 1_000, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3600 * 10**6}
_SPANS |= {"DAY": 86400 * 10**6, "WEEK": 7 * 86400 * 10**6}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def interval(node: exp.Interval, length: Typed) -> Typed:
    """``INTERVAL n unit``. A day is 24 hours: times are UTC."""
    unit = str(node.unit.name if node.unit else "").upper().removesuffix("S")
    if length.kind is not Kind.INTEGER or unit not in _SPANS | _MONTHS:
        raise refused(node, "an interval is a whole number of microseconds … weeks, or of months, quarters or years")
    factor, kind = (_SPANS[unit], Kind.SPAN) if unit in _SPANS else (_MONTHS[unit], Kind.MONTHS)
    if length.number is not None:
        whole = length.number * factor
        return Typed(f"{whole}L", kind, whole)
    return Typed(f"(CAST({length.sql} AS BIGINT) * {factor}L)", kind)


def generate_series(node: exp.Expr, start: Typed, stop: Typed, step: Typed | None) -> Typed:
    """``generate_series``: empty where the step leads away from the end, which is an error in Spark.

    A null makes it empty here and null in DuckDB; both unnest to nothing, and a list can not leave an expression.
    """
    step = step or Typed("1L", Kind.INTEGER, 1)
    if not step.number:
        raise refused(node, "the step of generate_series is a number or an interval other than zero, written out")
    is_time = start.kind in (Kind.TIME, Kind.DATE)
    if step.kind is not (Kind.SPAN if is_time else Kind.INTEGER):
        raise refused(node, "generate_series counts whole numbers by a number, or times by an interval without months")
    first, last = (_bound(node, each, is_time=is_time) for each in (start, stop))
    outer, inside = ("greatest", "<=") if step.number > 0 else ("least", ">=")
    numbers = f"filter(sequence({first}, {outer}({first}, {last}), {step.number}L), x -> x {inside} {last})"
    if not is_time:
        return Typed(numbers, Kind.INTEGERS)
    return Typed(f"transform({numbers}, x -> {time_at('x')})", Kind.TIMES)


def _bound(node: exp.Expr, value: Typed, *, is_time: bool) -> str:
    if is_time:
        return microseconds(as_kind(_time(node, value), Kind.TIME))
    return f"CAST({_expect(node, value, Kind.INTEGER)} AS BIGINT)"


ONE_ARGUMENT: Mapping[type[exp.Expr] | str, Callable[[exp.Expr, Typed], Typed]] = {
    exp.Abs: _abs,
    exp.Sign: _sign,
    exp.Floor: _to_whole("floor"),
    exp.Ceil: _to_whole("ceil"),
    exp.Exp: _of_double("exp"),
    exp.Sqrt: _of_double("sqrt"),
    exp.Ln: _ln,
    exp.Lower: _case_of("lower", _LOWER),
    exp.Upper: _case_of("upper", _UPPER),
    exp.Length: _length,
    "epoch_us": _epoch("{}", Kind.INTEGER),
    "epoch_ms": epoch_ms,
    "epoch": _epoch("(CAST({} AS DOUBLE) / 1000000D)", Kind.DOUBLE),
}


# ---------------------------------------------------------------------- aggregates


def only(condition: str | None, sql: str) -> str:
    """``sql`` where ``condition`` holds, else null: what FILTER means to a function that passes over nulls."""
    return sql if condition is None else f"CASE WHEN {condition} THEN {sql} END"


def count_if(node: exp.Expr, value: Typed, condition: str | None) -> Call:
    """``count_if``, which is null in DuckDB where it saw nothing but nulls, and a HUGEINT."""
    truth(node, value)
    return sum_(node, value, "", condition)


def sum_(node: exp.Expr, value: Typed, distinct: str, condition: str | None) -> Call:
    """``sum``: of whole numbers without overflow (HUGEINT), of floats as doubles."""
    if value.kind is Kind.BOOLEAN:
        value = Typed(f"CAST({value.sql} AS INT)", Kind.INTEGER)
    number(node, value)
    kind = Kind.HUGE if value.kind in WHOLE else Kind.DECIMAL if value.kind is Kind.DECIMAL else Kind.DOUBLE
    return Call(f"sum({distinct}{only(condition, as_kind(value, kind))})", kind)


def avg(node: exp.Expr, value: Typed, distinct: str, condition: str | None) -> Call:
    """``avg``, always a double; Spark's of decimals is a rounded decimal."""
    return Call(f"avg({distinct}{only(condition, _double(node, value))})", Kind.DOUBLE)


def _of_doubles(spark: str) -> Callable[[exp.Expr, Typed, str, str | None], Call]:
    def rule(node: exp.Expr, value: Typed, distinct: str, condition: str | None) -> Call:
        return Call(f"{spark}({distinct}{only(condition, _double(node, value))})", Kind.DOUBLE)

    return rule


def _extreme(spark: str) -> Callable[[exp.Expr, Typed, str, str | None], Call]:
    def rule(node: exp.Expr, value: Typed, distinct: str, condition: str | None) -> Call:
        return Call(f"{spark}({distinct}{only(condition, value.sql)})", value.kind)

    return rule


def median(node: exp.Expr, value: Typed, distinct: str, condition: str | None) -> Call:
    """``median`` of whole numbers and doubles, halfway between the middle two."""
    if value.kind not in (Kind.INTEGER, Kind.HUGE, Kind.DOUBLE, Kind.NULL):
        raise refused(node, f"the median of {value.kind.value} differs between engines; CAST it to DOUBLE")
    return Call(f"median({distinct}{only(condition, _double(node, value))})", Kind.DOUBLE)


def arg_extreme(node: exp.Expr, name: str, value: Typed, by: Typed, condition: str | None) -> Call:
    """``arg_max_null`` and ``arg_min_null``: the value beside the largest (smallest) ``by``, null or not.

    Ties go to the largest (smallest) value that is not null. Neither engine promises anything there by itself:
    ``dialects.duckdb_sql`` rewrites the function so that DuckDB does the same.
    """
    known = f"({value.sql}) IS NOT NULL" if name == "arg_max_null" else f"({value.sql}) IS NULL"
    where = f"({by.sql}) IS NOT NULL" if condition is None else f"({by.sql}) IS NOT NULL AND {condition}"
    spark = "max_by" if name == "arg_max_null" else "min_by"
    order = f"CASE WHEN {where} THEN named_struct('a', {by.sql}, 'b', {known}, 'c', {value.sql}) END"
    return Call(f"{spark}({value.sql}, {order})", value.kind)


AGGREGATES: Mapping[type[exp.Expr], Callable[[exp.Expr, Typed, str, str | None], Call]] = {
    exp.Sum: sum_,
    exp.Avg: avg,
    exp.Min: _extreme("min"),
    exp.Max: _extreme("max"),
    exp.Median: median,
    exp.Stddev: _of_doubles("stddev_samp"),
    exp.StddevSamp: _of_doubles("stddev_samp"),
    exp.StddevPop: _of_doubles("stddev_pop"),
    exp.Variance: _of_doubles("var_samp"),
    exp.VariancePop: _of_doubles("var_pop"),
}
RANKS: Mapping[type[exp.Expr], str] = {exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank"}
