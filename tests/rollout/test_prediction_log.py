"""The log: whole or not at all, each request once, and nothing lost that was acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rollout import prediction_log
from rollout.prediction_log import PREDICTION

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROOT = Path(__file__).resolve().parent.parent.parent


def rows(*ids: str, at: datetime = NOON, score: float = 0.5, **features: Any) -> pa.Table:
    values: dict[str, Any] = {
        "request_id": list(ids),
        "at": [at] * len(ids),
        "entity": list(ids),
        "score": [score] * len(ids),
    }
    columns = [pa.array(values.get(each.name, [None] * len(ids)), each.type) for each in PREDICTION]
    table = pa.table(columns, schema=PREDICTION)
    for name, value in features.items():
        table = table.append_column(name, pa.array([value] * len(ids)))
    return table


def read(**limits: Any) -> pa.Table:
    return prediction_log.read("desk", **{"since": NOON - DAY, "until": NOON + DAY, **limits})


def labels(request: str, label: float, *, arrived: datetime, predicted: datetime = NOON) -> pa.Table:
    return pa.table(
        {"request_id": [request], "label": [label], "arrived_at": [arrived], "predicted_at": [predicted]},
    )


def test_read__what_was_appended__comes_back_with_its_features() -> None:
    prediction_log.append("desk", rows("a", "b", distance=100.0))
    found = read().sort_by("request_id")
    assert found["request_id"].to_pylist() == ["a", "b"]
    assert found["distance"].to_pylist() == [100.0, 100.0]
    assert found.schema.field("at").type == PREDICTION.field("at").type


def test_read__an_endpoint_without_a_log__is_empty_with_all_columns() -> None:
    found = read()
    assert len(found) == 0
    assert found.schema.names == PREDICTION.names


def test_read__the_same_request_twice__counts_once_as_first_answered() -> None:
    prediction_log.append("desk", rows("a", score=0.1))
    prediction_log.append("desk", rows("a", "b", score=0.9))
    found = dict(zip(*(read()[name].to_pylist() for name in ("request_id", "score")), strict=True))
    assert found == {"a": 0.1, "b": 0.9}


def test_read__bounds__include_since_and_exclude_until_across_days() -> None:
    for number in range(4):
        prediction_log.append("desk", rows(f"r{number}", at=NOON + number * DAY))
    found = read(since=NOON + DAY, until=NOON + 3 * DAY)
    assert sorted(found["request_id"].to_pylist()) == ["r1", "r2"]


def test_append__rows_of_two_days__are_filed_by_their_own_time(data_root: Path) -> None:
    prediction_log.append("desk", pa.concat_tables([rows("a"), rows("b", at=NOON + DAY)]))
    assert sorted(each.name for each in (data_root / "predictions" / "desk").iterdir()) == ["2013-04-01", "2013-04-02"]


def test_read__features_that_only_some_rows_have__are_null_elsewhere() -> None:
    prediction_log.append("desk", rows("a", distance=100.0))
    prediction_log.append("desk", rows("b", wind=3))
    found = read(columns=["distance", "wind", "never"]).sort_by("request_id")
    assert found["distance"].to_pylist() == [100.0, None]
    assert found["wind"].to_pylist() == [None, 3]
    assert found["never"].to_pylist() == [None, None]


@pytest.mark.parametrize("column", ["request_id", "at"])
def test_append__a_row_without_identity_or_time__is_refused(column: str) -> None:
    table = rows("a")
    position = table.column_names.index(column)
    broken = table.set_column(position, column, pa.nulls(1, table.schema.field(column).type))
    with pytest.raises(ValueError, match=column):
        prediction_log.append("desk", broken)
    assert len(read()) == 0


def test_append__a_missing_column__is_refused() -> None:
    with pytest.raises(ValueError, match="salt"):
        prediction_log.append("desk", rows("a").drop_columns("salt"))


def test_read__a_torn_file__is_ignored(data_root: Path) -> None:
    prediction_log.append("desk", rows("a"))
    folder = data_root / "predictions" / "desk" / "2013-04-01"
    (folder / ".123-abc.parquet.tmp").write_bytes(b"PAR1 torn")
    assert read()["request_id"].to_pylist() == ["a"]
    assert prediction_log.compact("desk", now=NOON + DAY) == 0


def test_compact__a_past_day__is_one_file_with_the_same_rows(data_root: Path) -> None:
    for number in range(5):
        prediction_log.append("desk", rows("same", f"r{number}", score=number / 10, distance=float(number)))
    before = read().sort_by("request_id")
    assert prediction_log.compact("desk", now=NOON + DAY) == 5
    assert len(list((data_root / "predictions" / "desk" / "2013-04-01").iterdir())) == 1
    assert read().sort_by("request_id").select(before.column_names) == before
    assert prediction_log.compact("desk", now=NOON + DAY) == 0


def test_compact__a_later_repetition__does_not_displace_the_first_answer() -> None:
    prediction_log.append("desk", rows("a", score=0.1))
    prediction_log.append("desk", rows("b"))
    prediction_log.compact("desk", now=NOON + DAY)
    prediction_log.append("desk", rows("a", score=0.9))
    assert prediction_log.compact("desk", now=NOON + DAY) == 2
    assert read().filter(pa.compute.equal(read()["request_id"], "a"))["score"].to_pylist() == [0.1]


def test_compact__today__is_left_alone() -> None:
    prediction_log.append("desk", rows("a"))
    prediction_log.append("desk", rows("b"))
    assert prediction_log.compact("desk", now=NOON) == 0


def test_read_outcomes__as_of__sees_only_what_had_arrived_and_the_latest_of_it() -> None:
    for label, hours in ((0.0, 1), (1.0, 5)):
        prediction_log.append_outcomes("desk", labels("a", label, arrived=NOON + timedelta(hours=hours)))

    def known(hours: float) -> list[float]:
        as_of = NOON + timedelta(hours=hours)
        found = prediction_log.read_outcomes("desk", since=NOON, until=NOON + DAY, as_of=as_of)
        return list(found["label"].to_pylist())

    assert [known(0.5), known(1), known(5)] == [[], [0.0], [1.0]]


def test_append_outcomes__sent_again__counts_once() -> None:
    for _ in range(2):
        prediction_log.append_outcomes("desk", labels("a", 1.0, arrived=NOON))
    found = prediction_log.read_outcomes("desk", since=NOON, until=NOON + DAY, as_of=NOON + DAY)
    assert found.to_pylist() == [{"request_id": "a", "label": 1.0, "arrived_at": NOON, "predicted_at": NOON}]


WRITER = """
from tests.rollout.test_prediction_log import NOON, rows
from rollout import prediction_log
for number in range(100_000):
    prediction_log.append("desk", rows(f"r{number}", f"s{number}"))
    print(number, flush=True)  # the reply to the caller
"""


def test_append__writer_killed_at_any_moment__loses_nothing_acknowledged(data_root: Path) -> None:
    random = np.random.default_rng(7)
    environment = {
        **os.environ,
        "GATEHOUSE_DATA": str(data_root),
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen([sys.executable, "-c", WRITER], env=environment, stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(int(random.integers(100, 200)))]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]

    found = set(read()["request_id"].to_pylist())
    promised = {f"{name}{number}" for number in acknowledged for name in "rs"}
    assert promised <= found
    assert len(found - promised) <= 2  # written, the reply was on its way
    prediction_log.append("desk", rows("after"))
    assert "after" in set(read()["request_id"].to_pylist())


def test_find__by_request__gives_the_row_with_its_features() -> None:
    prediction_log.append("desk", rows("a", "b", distance=100.0, score=0.25))
    found = prediction_log.find("desk", "b")
    assert found is not None
    assert (found["request_id"], found["score"], found["distance"], found["at"]) == ("b", 0.25, 100.0, NOON)
    assert prediction_log.find("desk", "c") is None
    assert prediction_log.find("nowhere", "b") is None


def test_find__the_same_request_twice__is_as_first_answered_of_the_newest_day() -> None:
    prediction_log.append("desk", rows("a", score=0.1))
    prediction_log.append("desk", rows("a", score=0.9))
    prediction_log.append("desk", rows("a", at=NOON - 3 * DAY, score=0.5))
    newest, older = prediction_log.find("desk", "a"), prediction_log.find("desk", "a", at=NOON - 3 * DAY)
    assert newest is not None
    assert older is not None
    assert (newest["score"], older["score"]) == (0.1, 0.5)
    assert prediction_log.find("desk", "a", at=NOON - DAY) is None


def test_find__after_compaction__is_the_same_row() -> None:
    for number in range(5):
        prediction_log.append("desk", rows(f"r{number}", score=number / 10, distance=float(number)))
    before = prediction_log.find("desk", "r3")
    prediction_log.compact("desk", now=NOON + DAY)
    assert prediction_log.find("desk", "r3") == before


def test_find__odd_request_ids__are_found_as_they_are() -> None:
    odd = ["a/b", "..", "r\n1", "%2F", "é\u202e", "", "' OR 1=1 --"]
    prediction_log.append("desk", rows(*odd))
    for each in odd:
        found = prediction_log.find("desk", each)
        assert found is not None
        assert found["request_id"] == each


def test_find_outcome__is_the_newest_that_had_arrived() -> None:
    prediction_log.append_outcomes("desk", labels("a", 0.0, arrived=NOON + DAY))
    prediction_log.append_outcomes("desk", labels("a", 1.0, arrived=NOON + 2 * DAY))
    prediction_log.append_outcomes("desk", labels("b", 0.0, arrived=NOON + DAY))

    def label(as_of: datetime) -> float | None:
        found = prediction_log.find_outcome("desk", "a", at=NOON, as_of=as_of)
        return None if found is None else float(found["label"])

    assert [label(NOON), label(NOON + DAY), label(NOON + 3 * DAY)] == [None, 0.0, 1.0]
