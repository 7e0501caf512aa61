"""On-demand functions: what is accepted, what is refused with its line, and that a row's answer is its own."""

from __future__ import annotations

import math
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.on_demand import MOST_CHARACTERS, OnDemandError, Transform, transform

CHILL = '''
def chill(temp, wind: float, origin: str):
    """How cold it feels."""
    cold = (temp < 50) & (wind > 3)  # in Fahrenheit
    felt = 35.74 + 0.6215 * temp - 35.75 * wind**0.16
    return {
        "felt": np.where(cold, felt, temp),
        "is_newark": origin == "EWR",
        "near": np.isin(origin, ["EWR", "JFK", "LGA"]),
        "tens": temp // 10,
        "named": np.where(cold, origin, "warm"),
    }
'''
TEMP, WIND, ORIGIN = pa.array([40, None, 60]), pa.array([10.0, 4.0, None]), pa.array(["EWR", None, "BOS"])


def applied(code: str, **columns: Any) -> dict[str, list[Any]]:
    results = Transform(code).apply({name: pa.array(values) for name, values in columns.items()})
    return {name: values.to_pylist() for name, values in results.items()}


def test_apply__numbers_texts_and_nulls__gives_a_typed_column_per_feature() -> None:
    found = Transform(CHILL).apply({"temp": TEMP, "wind": WIND, "origin": ORIGIN})

    assert {name: str(values.type) for name, values in found.items()} == {
        "felt": "double", "is_newark": "bool", "near": "bool", "tens": "double", "named": "string",
    }  # fmt: skip
    assert found["felt"].to_pylist() == [pytest.approx(9.0, abs=0.2), None, 60.0]
    assert found["is_newark"].to_pylist() == [True, False, False]
    assert found["near"].to_pylist() == [True, False, False]
    assert found["tens"].to_pylist() == [4.0, None, 6.0]
    assert found["named"].to_pylist() == ["EWR", "warm", "warm"]


def test_transform__knows_its_columns_and_kinds() -> None:
    read = Transform(CHILL)

    assert (read.name, read.inputs) == ("chill", ("temp", "wind", "origin"))
    assert read.outputs == {"felt": "number", "is_newark": "bool", "near": "bool", "tens": "whole", "named": "text"}


def test_digest__of_another_layout__is_the_same__of_another_constant_is_not() -> None:
    plain = Transform("def f(x):\n    return {'a': x + 1}").digest

    assert Transform("def g( x: int ):\n    'Words.'\n    # more\n    return {'a': (x) + 1.0}").digest == plain
    assert Transform("def f(x):\n    return {'a': x + 2}").digest != plain
    assert Transform("def f(y):\n    return {'a': y + 1}").digest != plain


def test_apply__booleans_and_times__are_numbers() -> None:
    moment = pa.array([1_500_000], pa.timestamp("us", "UTC"))
    found = Transform("def f(flag, at):\n    return {'sum': flag + at}").apply({"flag": pa.array([True]), "at": moment})
    assert found["sum"].to_pylist() == [2.5]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1", 1.0),
        ("np.nan", None),
        ("x / 0", math.inf),
        ("x % 3", 2.0),
        ("~(x > 4) | (x == 5)", True),
        ("~(1 == 1)", False),
        ("np.clip(x, 0, 3)", 3.0),
        ("np.where(np.isnan(x), 0, x)", 5.0),
        ("-x ** 2", -25.0),
        ("np.rint(x * 1e9 * 1e9)", 5e18),
        ("np.rint(x * 1e10 * 1e9)", None),  # no 64-bit integer holds it
    ],
)
def test_apply__one_expression__is_numpy(expression: str, value: Any) -> None:
    assert applied(f"def f(x):\n    return {{'a': {expression}}}", x=[5.0])["a"] == [value]


@pytest.mark.parametrize(
    ("body", "line", "why"),
    [
        ("import os\n    return {'a': x}", 2, "imports"),
        ("for each in x:\n        pass\n    return {'a': x}", 2, "loops"),
        ("if x > 1:\n        x = 2\n    return {'a': x}", 2, "np.where"),
        ("y = x\n    return {'a': x if y else 1}", 3, "np.where"),
        ("return {'a': x and 1}", 2, "&"),
        ("return {'a': not x}", 2, "~"),
        ("return {'a': 1 < x < 3}", 2, "two at a time"),
        ("return {'a': x.__class__}", 2, "attributes"),
        ("return {'a': np.linalg}", 2, "attributes"),
        ("return {'a': np.load('x')}", 2, r"np\.load\(\) is not accepted"),
        ("return {'a': np.mean(x)}", 2, r"np\.mean\(\) is not accepted"),
        ("return {'a': open('x')}", 2, r"open\(\) is not accepted"),
        ("return {'a': x[0]}", 2, "that row alone"),
        ("return {'a': [y for y in x]}", 2, "comprehensions"),
        ("return {'a': (lambda: x)()}", 2, "not accepted"),
        ("return {'a': f'{x}'}", 2, "texts are not built"),
        ("return {'a': z}", 2, "z is not known; there are x and np"),
        ("return {'a': x + 'b'}", 2, "a number is needed here, this is a text"),
        ("return {'a': (x > 1) + 1}", 2, r"np.where\(flag, 1, 0\)"),
        ("return {'a': x == 'b'}", 2, "compared with"),
        ("return {'a': np.where(x, 1, 2)}", 2, "a bool is needed"),
        ("return {'a': np.where(x > 1, 'b', 2)}", 2, "either"),
        ("return {'a': np.isin(x, ['b'])}", 2, "constants of the column's kind"),
        ("return {'a': np.isin(x, x)}", 2, "list of constants"),
        ("return {'a': np.clip(x, a_min=1, a_max=2)}", 2, "without names"),
        ("return {'a': 1e300}", 2, "constants lie between"),
        ("return {'a': x + None}", 2, r"np\.nan"),
        ("return {'a': x, 'a': 1}", 2, "twice"),
        ("return {x: 1}", 2, "plain texts as keys"),
        ("return x", 2, "dict literal"),
        ("y = z = x\n    return {'a': x}", 2, "one name"),
        ("np = x\n    return {'a': x}", 2, "can not be assigned"),
        ("return {'a': x}\n    return {'a': x}", 2, "one return"),
        ("'Words only.'", 1, "last statement"),
        ("def g(): pass\n    return {'a': x}", 2, "inside the function"),
        (f"return {{'a': {'-' * 80}x}}", 2, "deep"),
    ],
)
def test_transform__what_is_not_listed__is_refused_by_its_line(body: str, line: int, why: str) -> None:
    with pytest.raises(OnDemandError, match=why) as refused:
        Transform(f"def f(x):\n    {body}\n")
    assert refused.value.line == line


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("x = 1", "Exactly one function"),
        ("def f(x):\n    return {'a': x}\nf(1)", "nothing beside it"),
        ("async def f(x):\n    return {'a': x}", "Exactly one function"),
        ("def f(x", "this is not Python"),
        ("def f():\n    return {'a': 1}", "at least one column"),
        ("def f(x=1):\n    return {'a': x}", "no defaults"),
        ("def f(*x):\n    return {'a': x}", "no defaults"),
        ("def f(x: list):\n    return {'a': x}", "may be annotated"),
        ("def f(np):\n    return {'a': np}", "can not be the name"),
        ("@staticmethod\ndef f(x):\n    return {'a': x}", "decorators"),
        (f"def f(x):\n    return {{'a': {'x + ' * 400}x}}", "too large"),
        (f"def f(x):\n    # {'x' * MOST_CHARACTERS}\n    return {{'a': x}}", "characters"),
        ("def f(x):\n    return {'a': 9**9**9**9}", "can not be computed"),
        ("def f(x):\n    return {'a': x + 1 / 0}", "can not be computed"),
        ("def f(x):\n    return {'a': x + (-8) ** 0.5}", "complex|can not be computed"),
    ],
)
def test_transform__what_is_no_small_function__is_refused(code: str, why: str) -> None:
    with pytest.raises(OnDemandError, match=why):
        Transform(code)


def test_apply__columns_that_do_not_fit__says_which() -> None:
    read = transform("def f(x, name: str):\n    return {'a': np.where(name == 'b', x, 0)}")

    with pytest.raises(OnDemandError, match="needs the columns name"):
        read.apply({"x": pa.array([1])})
    with pytest.raises(OnDemandError, match="x is string, it takes numbers"):
        read.apply({"x": pa.array(["1"]), "name": pa.array(["b"])})
    with pytest.raises(OnDemandError, match="name is int64, it takes text"):
        read.apply({"x": pa.array([1]), "name": pa.array([1])})
    with pytest.raises(OnDemandError, match="differ in length"):
        read.apply({"x": pa.array([1]), "name": pa.array(["b", "c"])})


def test_apply__columns_of_nulls_without_type__are_nulls_of_either_kind() -> None:
    found = applied("def f(x, name: str):\n    return {'a': x + 1, 'b': name == 'b'}", x=[None], name=[None])
    assert found == {"a": [None], "b": [False]}


EVERYTHING = """
def everything(x, y, name: str):
    small = np.minimum(np.abs(x), 300)
    return {
        "a": np.exp(small / 10) - np.log1p(small) + np.sqrt(small) * np.sin(x) ** 2 - np.hypot(x, y),
        "b": np.where((x > y) | (name == "b"), x / y, np.arctan2(x, y) ** 3),
        "c": np.floor(x) % 7 + np.sign(y) * np.power(small, 0.3) + x // 3,
        "d": np.isin(name, ["a", "b"]) & ~(x <= y),
        "e": np.where(np.isfinite(x), name, "none"),
        "f": np.cbrt(x) + np.tanh(y) + np.log10(small) + np.cos(y) + np.expm1(-small),
    }
"""
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, width=64), st.integers(-1000, 1000).map(float))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=40)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_apply__many_rows_and_one_at_a_time__give_the_same_bits(rows: list[tuple[Any, Any, Any]]) -> None:
    read = transform(EVERYTHING)

    def answer(asked: list[tuple[Any, Any, Any]]) -> list[tuple[Any, ...]]:
        x, y, name = zip(*asked, strict=True)
        types = (pa.float64(), pa.float64(), pa.string())
        columns = [pa.array(values, kind) for values, kind in zip((x, y, name), types, strict=True)]
        found = read.apply(dict(zip(("x", "y", "name"), columns, strict=True)))
        return list(zip(*([_bits(cell) for cell in values.to_pylist()] for values in found.values()), strict=True))

    assert answer(rows) == [answer([row])[0] for row in rows]


def _bits(cell: Any) -> Any:
    return struct.pack("d", cell) if isinstance(cell, float) else cell
