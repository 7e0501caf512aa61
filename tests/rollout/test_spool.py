"""The spool: what was acknowledged is there whatever happens to the process, the disk or the bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout import spool
from rollout.spool import HEADER, OPEN, SEALED, Piece, Spool, SpoolFull, frame, read, segments

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = st.lists(st.binary(min_size=1, max_size=60), max_size=8)
PROCESSES: dict[str, Any] = {"stdout": subprocess.PIPE, "cwd": ROOT, "text": True}


@contextmanager
def opened(folder: Path, **limits: Any) -> Iterator[Spool]:
    writer = Spool(folder, **{"budget_bytes": 2**20, **limits})
    try:
        yield writer
    finally:
        writer.close()


def written(folder: Path) -> list[bytes]:
    """All records in the folder's segments."""
    return [record for segment in segments(folder) for record in everything(segment.path)]


def everything(path: Path) -> list[bytes]:
    found: list[bytes] = []
    piece = Piece((), 0)
    while not piece.is_last:
        following = read(path, piece.end)
        found += following.records
        if following.end == piece.end and not following.is_last:
            break
        piece = following
    return found


def a_segment(folder: Path, content: bytes, *, suffix: str = SEALED) -> Path:
    path = folder / f"host.1-1{suffix}"
    path.write_bytes(content)
    return path


def wait_until(condition: Any) -> None:
    until = monotonic() + 30
    while not condition():
        assert monotonic() < until, "it never came true"
        sleep(0.01)


# ---------------------------------------------------------------------- writing


def test_append__when_it_returns__any_reader_has_it_before_a_sync(tmp_path: Path) -> None:
    with opened(tmp_path, sync_every=60) as writer:
        for number in range(3):
            writer.append(b"record %d" % number)
            assert written(tmp_path)[-1] == b"record %d" % number


def test_append__from_many_threads__keeps_every_record_whole(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=2000) as writer:

        def work(name: int) -> None:
            for number in range(100):
                writer.append(b"%d:%d" % (name, number))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(segments(tmp_path)) > 1
    assert sorted(written(tmp_path)) == sorted(b"%d:%d" % (name, number) for name in range(4) for number in range(100))


def test_append__durable__returns_and_is_read(tmp_path: Path) -> None:
    with opened(tmp_path, sync_every=3600) as writer:
        threads = [threading.Thread(target=writer.append, args=(b"x",), kwargs={"durable": True}) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert written(tmp_path) == [b"x"] * 8


@pytest.mark.parametrize("record", [b"", b"x" * (spool.MAX_RECORD + 1)], ids=["empty", "too large"])
def test_append__what_is_no_record__is_refused(tmp_path: Path, record: bytes) -> None:
    with opened(tmp_path, budget_bytes=2**30) as writer, pytest.raises(ValueError, match="bytes"):
        writer.append(record)


def test_append__after_close__is_refused_and_all_is_sealed(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(b"last")
    with pytest.raises(ValueError, match="closed"):
        writer.append(b"later")
    assert [each.path.suffix for each in segments(tmp_path)] == [SEALED]
    assert written(tmp_path) == [b"last"]


def test_segments__full__are_sealed_in_order(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=100) as writer:
        for number in range(10):
            writer.append(b"%030d" % number)
        assert [each.path.suffix for each in segments(tmp_path)] == [SEALED] * 4 + [OPEN]
        assert written(tmp_path) == [b"%030d" % number for number in range(10)]


def test_segments__old__are_sealed_although_nothing_follows(tmp_path: Path) -> None:
    with opened(tmp_path, segment_seconds=0.05, sync_every=0.01) as writer:
        writer.append(b"alone")
        wait_until(lambda: [each.path.suffix for each in segments(tmp_path)] == [SEALED])


def test_spool__in_a_forked_child__refuses_instead_of_mixing_records(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from rollout.spool import Spool
writer = Spool(Path({str(tmp_path)!r}), budget_bytes=1000)
if os.fork() == 0:
    try:
        writer.append(b"child")
    except ValueError as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.wait()
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, **PROCESSES)
    assert "after the fork" in answer.stdout


# ---------------------------------------------------------------------- the budget


def test_append__over_the_budget_of_all_processes__is_full_counted_and_sealed(tmp_path: Path) -> None:
    (tmp_path / "another.1-1.sealed").write_bytes(b"x" * 600)
    with opened(tmp_path, budget_bytes=1000, sync_every=60) as writer:
        writer.append(b"y" * 100)
        assert 0.7 <= writer.pressure <= 0.75
        with pytest.raises(SpoolFull, match="budget of 1000"):
            writer.append(b"z" * 300, rows=7)
        assert writer.dropped == spool.dropped(tmp_path) == 7
        assert not list(tmp_path.glob("*.spool"))  # it can be taken in, and make room
    assert written(tmp_path)[-1] == b"y" * 100


def test_append__once_there_is_room_again__goes_on(tmp_path: Path) -> None:
    ballast = tmp_path / "another.1-1.sealed"
    ballast.write_bytes(b"x" * 995)
    with opened(tmp_path, budget_bytes=1000, sync_every=0.01) as writer:
        with pytest.raises(SpoolFull):
            writer.append(b"y")
        ballast.unlink()
        wait_until(lambda: writer.pressure < 0.1)
        writer.append(b"y")
        assert written(tmp_path) == [b"y"]


def test_dropped__is_kept_across_restarts_and_processes(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path, budget_bytes=20) as one, opened(tmp_path, budget_bytes=20) as another:
            for each in (one, another):
                with pytest.raises(SpoolFull):
                    each.append(b"y" * 30, rows=2)
            assert (one.dropped, another.dropped) == (2, 2)
    assert spool.dropped(tmp_path) == 8
    assert spool.dropped(tmp_path / "none") == 0


def test_append__disk_full_in_the_middle_of_a_record__nothing_of_it_stays_and_later_ones_are_good(
    tmp_path: Path,
) -> None:
    """A limit on the size of files stops a write half way, exactly as a full disk does."""
    program = f"""
import resource
from pathlib import Path
from rollout.spool import Spool, SpoolFull
writer = Spool(Path({str(tmp_path)!r}), budget_bytes=2**20, sync_every=3600)
writer.append(b"a" * 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (800, resource.RLIM_INFINITY))
for record in (b"b" * 500, b"c" * 50, b"d" * 500):
    try:
        writer.append(record)
        print("kept", record[:1])
    except SpoolFull as error:
        print("full", record[:1], error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(b"e" * 500)
print(writer.dropped, flush=True)
import os
os._exit(0)  # as if killed
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, **PROCESSES).stdout
    assert [line.split()[0] for line in answer.splitlines()] == ["full", "kept", "full", "2"]
    (segment,) = segments(tmp_path)
    piece = read(segment.path, 0)
    assert [record[:1] for record in piece.records] == [b"a", b"c", b"e"]
    assert (piece.torn, piece.damaged, piece.is_last) == (0, 0, True)


def test_append__the_folder_takes_no_new_file__is_full_not_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with opened(folder, sync_every=0.01) as writer:
        (folder / "dropped").unlink()
        folder.rmdir()
        with pytest.raises(SpoolFull, match="can not be written"):
            writer.append(b"x")
        sleep(0.05)  # the thread looks there too
        folder.mkdir()
        writer.append(b"y", durable=True)
        assert written(folder) == [b"y"]
    writer.close()


# ---------------------------------------------------------------------- reading


def test_read__in_small_pieces__gives_each_record_once_in_order(tmp_path: Path) -> None:
    records = [b"%d" % number * (number % 7 + 1) for number in range(50)]
    path = a_segment(tmp_path, HEADER + b"".join(map(frame, records)))
    found: list[bytes] = []
    piece = Piece((), 0)
    while not piece.is_last:
        piece = read(path, piece.end, limit=20)
        found += piece.records
    assert found == records
    assert piece.end == path.stat().st_size


def test_read__a_segment_being_written__waits_for_the_end_of_its_last_record(tmp_path: Path) -> None:
    with opened(tmp_path, sync_every=60) as writer:
        writer.append(b"whole")
        path = segments(tmp_path)[0].path
        with path.open("ab") as file:
            file.write(frame(b"half")[:-1])
        piece = read(path, 0)
        assert (piece.records, piece.torn, piece.is_last) == ((b"whole",), 0, False)
        assert not spool.is_finished(segments(tmp_path)[0])


def test_read__a_segment_of_a_dead_process__tells_what_is_torn(tmp_path: Path) -> None:
    path = a_segment(tmp_path, HEADER + frame(b"whole") + frame(b"half")[:-1], suffix=OPEN)
    piece = read(path, 0)
    assert (piece.records, piece.torn, piece.is_last) == ((b"whole",), len(frame(b"half")) - 1, True)
    assert spool.is_finished(segments(tmp_path)[0])


def test_read__a_newer_form__is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(spool.UnknownForm, match="version 9"):
        read(a_segment(tmp_path, HEADER[:-1] + b"\x09" + frame(b"x")), 0)


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_read__cut_at_every_byte__gives_exactly_the_whole_records(records: list[bytes]) -> None:
    whole = HEADER + b"".join(map(frame, records))
    ends = [len(HEADER)]
    for each in records:
        ends.append(ends[-1] + len(frame(each)))
    with tempfile.TemporaryDirectory() as folder:
        for cut in range(len(whole) + 1):
            piece = read(a_segment(Path(folder), whole[:cut]), 0)
            kept = sum(end <= cut for end in ends[1:])
            assert piece.records == tuple(records[:kept])
            assert (piece.end, piece.damaged, piece.is_last) == (cut, 0, True)
            assert piece.torn == cut - (ends[kept] if cut >= len(HEADER) else 0)


@settings(max_examples=200, deadline=None)
@given(RECORDS.filter(len), st.data())
def test_read__a_byte_changed__costs_that_record_only(records: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(HEADER + b"".join(map(frame, records)))
    hit = data.draw(st.integers(len(HEADER), len(whole) - 1), label="byte")
    whole[hit] ^= data.draw(st.integers(1, 255), label="change")
    with tempfile.TemporaryDirectory() as folder:
        piece = read(a_segment(Path(folder), bytes(whole)), 0)
    end, struck = len(HEADER), 0
    for number, each in enumerate(records):
        end += len(frame(each))
        if hit < end:
            struck = number
            break
    assert piece.records == tuple(records[:struck] + records[struck + 1 :])
    lost = len(frame(records[struck]))
    assert (piece.damaged, piece.torn) == ((lost, 0) if struck < len(records) - 1 else (0, lost))


def test_read__zeros_as_a_power_cut_leaves_them__are_torn_not_records(tmp_path: Path) -> None:
    piece = read(a_segment(tmp_path, HEADER + frame(b"x") + bytes(5000)), 0)
    assert (piece.records, piece.torn, piece.damaged) == ((b"x",), 5000, 0)


def test_read__damage_in_a_long_segment__is_passed_over(tmp_path: Path) -> None:
    good = b"".join(frame(b'{"n":%d}' % number) for number in range(1000))
    path = a_segment(tmp_path, HEADER + good + b"\xff" * 3_000_000 + good)
    first = read(path, 0, limit=4000)
    assert 0 < len(first.records) < 1000
    assert len(everything(path)) == 2000


# ---------------------------------------------------------------------- kill -9

WRITER = """
import sys
from pathlib import Path
from rollout.spool import Spool
writer = Spool(Path(sys.argv[1]), budget_bytes=2**30, segment_bytes=20_000)
for number in range(1_000_000):
    writer.append(b"%d" % number * 20)
    print(number, flush=True)  # the reply
"""


def test_kill__a_writer_at_any_moment__loses_nothing_acknowledged(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], **PROCESSES) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(2000)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().split()]
    found = written(tmp_path)
    assert found[: len(acknowledged)] == [b"%d" % number * 20 for number in acknowledged]
    assert len(found) <= len(acknowledged) + 1
    assert all(spool.is_finished(each) for each in segments(tmp_path))


def test_one_at_a_time__somebody_is_inside__waits_or_goes_in_anyway(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with spool.one_at_a_time(tmp_path):
            order.append("second")

    with spool.one_at_a_time(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        with spool.one_at_a_time(tmp_path, waits=False):
            order.append("inside too")
        sleep(0.05)
        order.append("first is done")
    thread.join()
    assert order == ["inside too", "first is done", "second"]


def test_segments__other_files_of_the_folder__are_none(tmp_path: Path) -> None:
    for name in ("notes.sealed", "host.1-x.spool", ".host.1-2.spool.new", "host.1-3.damaged", "dropped", ".lock"):
        (tmp_path / name).touch()
    assert segments(tmp_path) == []
    assert segments(tmp_path / "none") == []


def test_spool__started_again__forgets_segments_that_were_never_opened(tmp_path: Path) -> None:
    old, new = tmp_path / ".host.1-1.spool.new", tmp_path / ".host.1-2.spool.new"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    with opened(tmp_path):
        assert (old.exists(), new.exists()) == (False, True)
