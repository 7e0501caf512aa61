"""From the spool into the log: each acknowledged row once, wherever anybody died on the way."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db import connection, transaction
from django.db.utils import OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollout import ingest as ingestion
from rollout import prediction_log, spool, tasks
from rollout.ingest import Ingested, ingest, read_records, settled, write_record
from rollout.models import SpoolSegment
from rollout.prediction_log import PREDICTION
from rollout.spool import DAMAGED, HEADER, OPEN, SEALED, Spool, frame

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def record(*ids: str, endpoint: str = "desk", at: datetime = NOON, **columns: Any) -> bytes:
    """Rows as a gateway spools them."""
    n = len(ids)
    values: dict[str, list[Any]] = {each.name: [None] * n for each in PREDICTION}
    values |= {"request_id": list(ids), "at": [at] * n, "endpoint": [endpoint] * n, "score": [0.5] * n, "step": [1] * n}
    return write_record(endpoint, {**values, **{name: [value] * n for name, value in columns.items()}})


def numbered(count: int, *, first: int = 0, **values: Any) -> list[bytes]:
    return [record(f"r{number}", **values) for number in range(first, first + count)]


@pytest.fixture
def folder(data_root: Path) -> Path:
    """The spool's default place."""
    place = data_root / "spool"
    place.mkdir()
    return place


@contextmanager
def spooling(folder: Path, **limits: Any) -> Iterator[Spool]:
    writer = Spool(folder, **{"budget_bytes": 2**24, "sync_every": 3600, **limits})
    try:
        yield writer
    finally:
        writer.close()


def a_segment(
    folder: Path, records: Sequence[bytes], *, suffix: str = SEALED, number: int = 1, rest: bytes = b""
) -> Path:
    path = folder / f"host.7-{number}{suffix}"
    path.write_bytes(HEADER + b"".join(map(frame, records)) + rest)
    return path


def raw(data_root: Path, endpoint: str = "desk") -> Counter[str]:
    """How often each request lies in the files, before anybody looks for repetitions."""
    files = sorted((data_root / "predictions" / endpoint).rglob("*.parquet"))
    return Counter(str(each) for file in files for each in pq.ParquetFile(file).read()["request_id"].to_pylist())


def read(endpoint: str = "desk") -> dict[str, dict[str, Any]]:
    table = prediction_log.read(endpoint, since=NOON - 9 * DAY, until=NOON + 9 * DAY)
    return {row["request_id"]: row for row in table.to_pylist()}


def ids(count: int) -> dict[str, int]:
    return {f"r{number}": 1 for number in range(count)}


# ---------------------------------------------------------------------- what readers see


def test_read__rows_that_only_the_spool_has__are_there(folder: Path) -> None:
    with spooling(folder) as writer:
        for number in range(3):
            writer.append(record(f"r{number}", distance=100.5, model="A320", warm=True, source="gateway"))
            assert len(read()) == number + 1
        row = read()["r2"]
    assert (row["at"], row["score"], row["step"], row["warm"], row["source"]) == (NOON, 0.5, 1, True, "gateway")
    assert (row["distance"], row["model"], row["candidate_id"]) == (100.5, "A320", None)


def test_find__a_request_that_was_just_answered__is_found(folder: Path) -> None:
    with spooling(folder) as writer:
        writer.append(record("r0"))
        found = prediction_log.find("desk", "r0")
        assert found is not None
        assert found["endpoint"] == "desk"


def test_read__old_files_without_the_new_columns__have_nulls_there(folder: Path, data_root: Path) -> None:
    with spooling(folder) as writer:
        writer.append(record("new", warm=True))
    ingest(now=NOON)
    new = next((data_root / "predictions" / "desk").rglob("*.parquet"))
    old = pq.ParquetFile(new).read().drop_columns(["warm", "shadow", "candidate_id", "source"])
    old = old.set_column(old.column_names.index("request_id"), "request_id", [["old"]])
    pq.write_table(old, new.with_name("1-00000000000000000000000000000000.parquet"))
    assert {name: row["warm"] for name, row in read().items()} == {"new": True, "old": None}


def test_read__two_days_and_two_endpoints__one_file_with_one_row_group_each(folder: Path, data_root: Path) -> None:
    late = NOON + DAY
    a_segment(folder, [record("a"), record("b", at=late), record("c", endpoint="other"), record("d", "e")])
    ingest(now=NOON)
    files = sorted((data_root / "predictions").rglob("*.parquet"))
    assert [str(each.parent.relative_to(data_root / "predictions")) for each in files] == [
        "desk/2026-11-24",
        "desk/2026-11-25",
        "other/2026-11-24",
    ]
    assert {each.name for each in files} == {"1-host.7-000000000000.parquet"}
    assert [pq.ParquetFile(each).num_row_groups for each in files] == [1, 1, 1]
    assert (set(read()), set(read("other"))) == ({"a", "b", "d", "e"}, {"c"})


# ---------------------------------------------------------------------- once


def test_ingest__again_and_again__takes_in_only_what_is_new(folder: Path, data_root: Path) -> None:
    with spooling(folder) as writer:
        taken = []
        for number in range(4):
            writer.append(record(f"r{number}"))
            taken += [ingest(now=NOON).rows, ingest(now=NOON).rows]
    assert taken == [1, 0] * 4
    ingest(now=NOON)
    assert raw(data_root) == ids(4)
    row = SpoolSegment.objects.get()
    assert (row.rows, row.torn_bytes, row.damaged_bytes, row.finished_at) == (4, 0, 0, NOON)
    assert not spool.segments(folder)


def test_ingest__nothing_new__asks_no_database(folder: Path, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert ingest(now=NOON) == Ingested()
    with spooling(folder) as writer:
        writer.append(record("r0"))
        ingest(now=NOON)
        with django_assert_num_queries(0):
            assert ingest(now=NOON) == Ingested()


def test_ingest__no_folder__is_nothing(tmp_path: Path) -> None:
    assert ingest(folder=tmp_path / "none", now=NOON) == Ingested()


def test_ingest__more_than_it_reads_at_once__loses_and_doubles_nothing(folder: Path, data_root: Path) -> None:
    a_segment(folder, numbered(9, note="x" * (spool.READ // 4)))
    assert ingest(now=NOON).rows == 9
    assert raw(data_root) == ids(9)
    assert len(list((data_root / "predictions").rglob("*.parquet"))) == 3


def test_ingest__by_several_at_once__takes_each_row_in_once(folder: Path, data_root: Path) -> None:
    stop = threading.Event()

    def keep_ingesting() -> None:
        try:
            while not stop.is_set():
                ingest(now=NOON)
        finally:
            connection.close()

    threads = [threading.Thread(target=keep_ingesting) for _ in range(3)]
    for each in threads:
        each.start()
    with spooling(folder, segment_bytes=4000) as writer:
        for one in numbered(100):
            writer.append(one)
    stop.set()
    for each in threads:
        each.join()
    ingest(now=NOON)
    assert raw(data_root) == ids(100)
    assert sum(SpoolSegment.objects.values_list("rows", flat=True)) == 100


def test_ingest__another_took_it_in_meanwhile__leaves_it_at_that(folder: Path, data_root: Path) -> None:
    """Two who read the same place: the row of the manifest says who was first."""
    path = a_segment(folder, numbered(3))
    segment = spool.segments(folder)[0]
    stale = SpoolSegment.objects.create(name=segment.name, folder=str(folder), first_at=NOON, last_at=NOON)
    piece = spool.read(path, 0)
    ingest(now=NOON)
    assert ingestion._take_in_piece(segment, stale, piece, NOON) == Ingested()
    assert raw(data_root) == ids(3)
    assert not list(data_root.rglob("*.tmp"))


def test_ingest__inside_a_transaction_that_fails__is_done_again(folder: Path, data_root: Path) -> None:
    a_segment(folder, numbered(3))

    def read_and_fail() -> None:
        with transaction.atomic():
            assert len(read()) == 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_and_fail()
    assert spool.segments(folder)
    assert not SpoolSegment.objects.exists()
    assert len(read()) == 3
    assert raw(data_root) == ids(3)
    assert not spool.segments(folder)


# ---------------------------------------------------------------------- whoever dies on the way


def die_at(stage: str, path: Path) -> None:
    """What an ingestion of the segment leaves behind that is killed at ``stage``."""
    segment = next(each for each in spool.segments(path.parent) if each.path == path)
    if stage == "committed":
        whole = path.read_bytes()
        ingest(now=NOON)
        path.write_bytes(whole)
        return
    tables, _ = read_records(spool.read(path, 0).records)
    name = f"{segment.number}-{segment.process}-{0:012d}"
    staged = [each for endpoint, table in tables.items() for each in prediction_log.stage(endpoint, table, name=name)]
    assert len(staged) == 2
    SpoolSegment.objects.get_or_create(name=segment.name, defaults={"first_at": NOON, "last_at": NOON})
    for each in staged[: {"staged": 0, "one published": 1, "published": 2}[stage]]:
        each.publish()


STAGES = ("staged", "one published", "published", "committed")
OTHER: dict[str, Any] = {"endpoint": "other"}


@pytest.mark.parametrize("stage", STAGES)
def test_ingest__killed_at_any_stage__the_next_one_makes_it_whole(folder: Path, data_root: Path, stage: str) -> None:
    die_at(stage, a_segment(folder, [*numbered(3), *numbered(3, **OTHER)], suffix=OPEN))
    a_segment(folder, [*numbered(2, first=3), *numbered(2, first=3, **OTHER)], number=2)
    assert len(read()) == len(read("other")) == 5
    assert raw(data_root) == raw(data_root, "other") == ids(5)
    assert not spool.segments(folder)


@pytest.mark.parametrize("stage", STAGES[:3])
def test_ingest__killed_and_the_segment_went_on__the_file_is_replaced_by_a_longer_one(
    folder: Path, data_root: Path, stage: str
) -> None:
    with spooling(folder) as writer:
        for one in [*numbered(3), *numbered(3, **OTHER)]:
            writer.append(one)
        die_at(stage, spool.segments(folder)[0].path)
        for one in numbered(3, first=3):
            writer.append(one)
        ingest(now=NOON)
        assert (raw(data_root), raw(data_root, "other")) == (ids(6), ids(3))


@pytest.mark.parametrize("stage", STAGES)
def test_compact__between_a_killed_ingestion_and_its_repetition__doubles_nothing(
    folder: Path, data_root: Path, stage: str
) -> None:
    for number in (1, 2):
        a_segment(folder, numbered(2, first=2 * number - 2), number=number)
        ingest(now=NOON)
    die_at(stage, a_segment(folder, [*numbered(2, first=4), *numbered(1, **OTHER)], number=3))
    assert prediction_log.compact("desk", now=NOON + DAY, settled=settled) == (3 if stage == "committed" else 2)
    ingest(now=NOON)
    assert raw(data_root) == ids(6)
    prediction_log.compact("desk", now=NOON + DAY, settled=settled)
    assert raw(data_root) == ids(6)
    assert len(list((data_root / "predictions" / "desk").rglob("*.parquet"))) == 1


def test_settled__files__are_told_apart_by_the_manifest_and_their_age(tmp_path: Path) -> None:
    SpoolSegment.objects.create(name="host.7-5", folder="", first_at=NOON, last_at=NOON, ingested_bytes=100)
    names = ["5-host.7-000000000000", "5-host.7-000000000099", "1-" + "0" * 32, "7-access.first"]
    known = {tmp_path / f"{name}.parquet" for name in names}
    names = ["5-host.7-000000000100", "6-host.7-000000000000", "8-access.first"]
    unknown = {tmp_path / f"{name}.parquet" for name in names}
    for file in known | unknown:
        file.touch()
    os.utime(tmp_path / "7-access.first.parquet", (0, 0))
    assert settled(known | unknown) == known


def test_ingest__the_database_goes_away__nothing_is_lost(folder: Path, data_root: Path) -> None:
    a_segment(folder, numbered(3))

    def gone(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            raise OperationalError("the database is away")
        return execute(sql, *rest)

    with connection.execute_wrapper(gone), pytest.raises(OperationalError):
        ingest(now=NOON)
    assert not list(data_root.rglob("*.tmp"))
    ingest(now=NOON)
    assert raw(data_root) == ids(3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_ingest__looked_at_while_it_grows_by_any_bytes__takes_each_row_in_once(
    folder: Path, data_root: Path, cuts: list[int]
) -> None:
    """A segment that is being written shows its bytes at any cut; in the end its process dies in a record."""
    number = int(SpoolSegment.objects.count()) + 1
    names = [f"{number}.{each}" for each in range(6)]
    whole = HEADER + b"".join(frame(record(name)) for name in names)
    with spooling(folder) as writer:
        writer.append(b"placeholder")
        held = spool.segments(folder)[0].path
        held.write_bytes(HEADER)
        for cut in sorted(cuts):
            with held.open("ab") as file:
                file.write(whole[held.stat().st_size : max(cut, held.stat().st_size)])
            ingest(now=NOON)
            found = {name for name in raw(data_root) if name.startswith(f"{number}.")}
            assert found == set(spool_names(held))
        torn = frame(record("torn"))[: -1 - len(cuts)]
        with held.open("ab") as file:
            file.write(whole[held.stat().st_size :] + torn)
    taken = ingest(now=NOON)
    assert taken.torn == len(torn)
    assert {name: count for name, count in raw(data_root).items() if name in names} == dict.fromkeys(names, 1)
    assert not spool.segments(folder)


def spool_names(path: Path) -> list[str]:
    return [
        name
        for table in read_records(spool.read(path, 0).records)[0].values()
        for name in table["request_id"].to_pylist()
    ]


# ---------------------------------------------------------------------- what can not be read


def test_ingest__a_torn_tail__is_counted_and_the_segment_goes(folder: Path) -> None:
    a_segment(folder, numbered(2), suffix=OPEN, rest=frame(record("r2"))[:50])
    assert ingest(now=NOON) == Ingested(rows=2, segments=1, torn=50)
    assert SpoolSegment.objects.get().torn_bytes == 50
    assert not list(folder.glob("host*"))


def test_ingest__damage_in_the_middle__is_counted_the_rest_saved_and_the_segment_kept(folder: Path) -> None:
    path = a_segment(folder, numbered(3))
    whole = bytearray(path.read_bytes())
    place = len(HEADER) + len(frame(record("r0"))) + 20
    whole[place] ^= 0xFF
    path.write_bytes(bytes(whole))
    taken = ingest(now=NOON)
    assert (taken.rows, taken.damaged) == (2, len(frame(record("r1"))))
    assert set(read()) == {"r0", "r2"}
    assert SpoolSegment.objects.get().damaged_bytes == taken.damaged
    assert path.with_suffix(DAMAGED).read_bytes() == bytes(whole)
    assert ingest(now=NOON) == Ingested()


def test_ingest__died_before_it_put_a_damaged_segment_aside__it_is_still_kept(folder: Path) -> None:
    path = a_segment(folder, [record("r0"), b"odd", record("r1")])
    whole = path.read_bytes()
    ingest(now=NOON)
    path.with_suffix(DAMAGED).unlink()
    path.write_bytes(whole)
    assert ingest(now=NOON) == Ingested()
    assert path.with_suffix(DAMAGED).read_bytes() == whole
    assert not path.exists()


def test_ingest__the_log_can_not_be_written__leaves_nothing_and_goes_on_later(folder: Path, data_root: Path) -> None:
    a_segment(folder, [record("r0"), record("r1", at=NOON + DAY)])
    in_the_way = data_root / "predictions" / "desk" / "2026-11-25"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    with pytest.raises(OSError, match="2026-11-25"):
        ingest(now=NOON)
    assert not list(data_root.rglob("*.tmp"))
    in_the_way.unlink()
    ingest(now=NOON)
    assert raw(data_root) == ids(2)


@pytest.mark.parametrize(
    "odd",
    [
        b"no json",
        b"[1]",
        b'{"endpoint": "desk"}',
        b'{"endpoint": "../../etc", "columns": {"request_id": ["x"], "at": [0]}}',
        b'{"endpoint": "desk", "columns": {"request_id": ["x", "y"], "at": ["2026-11-24T12:00:00Z"]}}',
        b'{"endpoint": "desk", "columns": {"request_id": [null], "at": ["2026-11-24T12:00:00Z"]}}',
        b'{"endpoint": "desk", "columns": {"request_id": ["x"], "at": [null]}}',
        b'{"endpoint": "desk", "columns": {"request_id": ["x"], "at": [9000000000000000000]}}',
        b'{"endpoint": "desk", "columns": {"request_id": ["x"], "at": ["yesterday"]}}',
        b'{"endpoint": "desk", "columns": {"request_id": ["x"], "at": [1], "score": ["high"]}}',
        b'{"endpoint": 7, "columns": {"request_id": "x"}}',
        b'{"endpoint": "desk", "columns": {"request_id": []}}',
    ],
)
def test_ingest__a_record_that_is_no_rows__costs_only_itself(folder: Path, odd: bytes) -> None:
    a_segment(folder, [record("r0"), odd, record("r1")])
    taken = ingest(now=NOON)
    assert (taken.rows, taken.damaged) == (2, len(odd))
    assert set(read()) == {"r0", "r1"}
    assert len(list(folder.glob("*.damaged"))) == 1


@pytest.mark.parametrize(
    ("values", "logged"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([None, True], [None, True]),
        ([1, "one"], ["1", "one"]),
        ([True, 2], ["true", "2"]),
        ([2**63, -1], [str(2**63), "-1"]),
        ([[1, 2], {}], ["[1,2]", "{}"]),
        ([[], None], ["[]", None]),
    ],
    ids=str,
)
def test_ingest__columns_nobody_knows__go_along_whatever_they_hold(
    folder: Path, values: list[Any], logged: list[Any]
) -> None:
    a_segment(folder, [record(f"r{place}", seats=value) for place, value in enumerate(values)])
    ingest(now=NOON)
    found = read()
    assert [found[f"r{place}"]["seats"] for place in range(len(values))] == pytest.approx(logged)


def test_read__one_file_has_numbers_and_another_text__both_are_read_as_text(folder: Path) -> None:
    for number, value in enumerate((1.5, "many", 7)):
        a_segment(folder, [record(f"r{number}", seats=value)], number=number + 1)
        ingest(now=NOON)
    assert {name: row["seats"] for name, row in read().items()} == {"r0": "1.5", "r1": "many", "r2": "7"}
    assert prediction_log.compact("desk", now=NOON + DAY, settled=settled) == 3
    assert read()["r1"]["seats"] == "many"


def test_ingest__a_segment_of_a_newer_form__stays(folder: Path) -> None:
    path = folder / "host.7-1.sealed"
    path.write_bytes(HEADER[:-1] + b"\x02" + frame(record("r0")))
    a_segment(folder, [record("r1")], number=2)
    assert ingest(now=NOON).rows == 1
    assert path.exists()


# ---------------------------------------------------------------------- the job


def test_tidy__many_files_of_today__become_one_and_old_rows_are_forgotten(folder: Path, data_root: Path) -> None:
    long_ago = NOON - 2 * ingestion.KEPT
    SpoolSegment.objects.create(name="old.1-1", folder="", first_at=long_ago, last_at=long_ago, finished_at=long_ago)
    with spooling(folder) as writer:
        for number in range(prediction_log.MANY_FILES):
            writer.append(record(f"r{number}"))
            ingest(now=NOON)
        assert ingestion.tidy(now=NOON) == prediction_log.MANY_FILES
        writer.append(record(f"r{prediction_log.MANY_FILES}"))
        assert len(read()) == prediction_log.MANY_FILES + 1
    assert raw(data_root) == ids(prediction_log.MANY_FILES + 1)
    assert not SpoolSegment.objects.filter(name="old.1-1").exists()
    assert ingestion.tidy(now=NOON) == 0


def test_job__takes_in_and_says_how_much(folder: Path) -> None:
    from jobs.drain import drain
    from jobs.models import Job
    from jobs.run import enqueue

    assert tasks.take_in_the_spool is not None
    a_segment(folder, numbered(2), suffix=OPEN, rest=b"torn")
    enqueue("rollout.ingest", key="once")
    drain()
    assert Job.objects.get().result == {"rows": 2, "segments": 1, "torn": 4, "damaged": 0, "files_put_together": 0}
