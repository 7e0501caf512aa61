"""What readers got is noted: a keyed sample, never at the reader's cost."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from features import served_log
from features.models import FeatureService
from features.served_log import AT, ServedLog
from tests.features.store import at, published, reading, service, source

pytestmark = pytest.mark.django_db

COLUMNS = ("weather__temp", "weather__tag")
EWR = {"carrier": "UA", "origin": "EWR"}


def pinned() -> FeatureService:
    published(source([reading(1)]))
    return service("weather.temp", "weather.tag")


def all_of(pinned: FeatureService, *, since: float = 0, until: float = 900) -> pa.Table:
    return served_log.read(pinned.pk, since=at(since), until=at(until))


def note(log: ServedLog, of: FeatureService, *rows: list[Any], hour: float = 2, **entity: Any) -> None:
    log.note(of, [EWR | entity] * len(rows), COLUMNS, rows, now=at(hour))


def test_note__every_read__is_read_back_with_its_time_entity_and_types() -> None:
    log, of = ServedLog(share=1.0), pinned()
    note(log, of, [1.5, None], amount=3)
    note(log, of, [None, "x"], hour=3)
    assert log.flush() == 2
    found = all_of(of).sort_by(AT)
    assert found.to_pylist() == [
        {AT: at(2), **EWR, "amount": 3, "weather__temp": 1.5, "weather__tag": None},
        {AT: at(3), **EWR, "amount": None, "weather__temp": None, "weather__tag": "x"},
    ]
    assert found.schema.field("weather__temp").type == pa.float64()


def test_note__one_in_a_hundred__is_about_that_and_the_same_ones_each_time() -> None:
    of = pinned()
    entities = [EWR | {"carrier": f"C{number}"} for number in range(20_000)]
    rows = [[1.0, "x"]] * len(entities)
    kept = []
    for _ in range(2):
        log = ServedLog(share=0.01)
        log.note(of, entities, COLUMNS, rows, now=at(2))
        log.flush()
        kept.append(sorted(all_of(of)["carrier"].to_pylist()))
    assert 120 < len(kept[0]) < 280
    assert sorted(kept[0] * 2) == kept[1]


def test_note__buffer_full__drops_and_counts_instead_of_waiting() -> None:
    log, of = ServedLog(share=1.0, capacity=3), pinned()
    note(log, of, *[[1.0, "x"]] * 5)
    assert log.dropped == 2
    assert log.flush() == 3


def test_note__enough_rows__are_written_by_a_thread() -> None:
    log, of = ServedLog(share=1.0, flush_rows=2), pinned()
    note(log, of, [1.0, "x"], [2.0, "y"])
    writers = [each for each in threading.enumerate() if each.name == "served-log"]
    for each in writers:
        each.join(timeout=10)
    assert all_of(of).num_rows == 2


def test_flush__disk_refuses__drops_counts_and_raises_nothing(data_root: Path) -> None:
    log, of = ServedLog(share=1.0), pinned()
    (data_root / "served").write_text("a file where the folder should be")
    note(log, of, [1.0, "x"])
    assert log.flush() == 0
    assert log.dropped == 1


def test_flush__value_that_does_not_fit_its_type__is_dropped_and_counted() -> None:
    log, of = ServedLog(share=1.0), pinned()
    note(log, of, ["warm", "x"])
    assert (log.flush(), log.dropped) == (0, 1)


def test_read__keys_of_two_kinds__become_text() -> None:
    log, of = ServedLog(share=1.0), pinned()
    for origin in (5, "5"):
        note(log, of, [1.0, "x"], origin=origin)
        log.flush()
    assert all_of(of)["origin"].to_pylist() == ["5", "5"]


def test_read__bounds__are_kept() -> None:
    log, of = ServedLog(share=1.0), pinned()
    for hour in (1, 2, 30):
        note(log, of, [1.0, "x"], hour=hour)
    log.flush()
    assert all_of(of, since=2, until=30)[AT].to_pylist() == [at(2)]


def test_forget__older_days__are_gone() -> None:
    log, of = ServedLog(share=1.0), pinned()
    for hour in (1, 30):
        note(log, of, [1.0, "x"], hour=hour)
    log.flush()
    assert served_log.forget(before=(at(0) + timedelta(days=1)).date()) == 1
    assert all_of(of)[AT].to_pylist() == [at(30)]
    assert served_log.services() == [of.pk]


def test_read__nothing_noted__is_empty() -> None:
    assert all_of(pinned()).num_rows == 0
    assert served_log.services() == []
