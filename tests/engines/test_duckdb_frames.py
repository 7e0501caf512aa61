"""Entities of a frame: one code per different combination of join keys."""

from __future__ import annotations

import pyarrow as pa

from engines.duckdb.frames import entities_of


def test_entities_of__three_keys__number_each_combination_once() -> None:
    table = pa.table(
        {
            "shop": pa.array(["a", "b", "a", "a", None, "a"]),
            "till": pa.array([1, 1, 2, 1, 1, 1]),
            "day": pa.array(["mo", "mo", "mo", "tu", "mo", "mo"]),
        }
    )
    entities = entities_of(table, ("shop", "till", "day"))
    assert entities.code.tolist() == [0, 1, 2, 3, -1, 0]
    assert entities.keys.to_pylist() == table.slice(0, 4).to_pylist()


def test_entities_of__categories_of_pandas__are_plain_values() -> None:
    entities = entities_of(pa.table({"shop": pa.array(["b", None, "b", "a"]).dictionary_encode()}), ("shop",))
    assert entities.code.tolist() == [0, -1, 0, 1]
    assert entities.keys.schema.field("shop").type == pa.string()


def test_entities_of__only_nulls_or_no_rows__are_none() -> None:
    assert entities_of(pa.table({"shop": pa.nulls(2)}), ("shop",)).code.tolist() == [-1, -1]
    empty = pa.table({"shop": pa.array([], pa.string()), "till": pa.array([], pa.int64())})
    assert len(entities_of(empty, ("shop", "till"))) == 0
