"""Each line of an access log becomes one row, once, however the log is rotated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engines.traffic.access_log import read, row_of

LINE: dict[str, Any] = {
    "request": "r-1",
    "entity": "N101",
    "ended": "1779000000.250",
    "took": "0.250",
    "arm": "canary",
    "version": "delay-v4",
    "share": "0.1",
    "step": "2",
    "salt": "5a17",
    "status": "200",
    "upstream_status": "200",
    "upstream_took": "0.012",
    "score": "0.71",
}


def line(**changes: str) -> bytes:
    return json.dumps({**LINE, **changes}).encode() + b"\n"


def ids(log: Path, since: str) -> tuple[list[str], str]:
    found = read(log, since)
    return [row["request_id"] for row in found.rows], found.place


def test_row__of_a_line__has_what_was_in_force() -> None:
    row = row_of(line())
    assert row is not None
    assert row["at"] == datetime.fromtimestamp(1779000000, UTC)
    assert {name: row[name] for name in ("model", "version", "arm", "share", "step", "salt", "stage")} == {
        "model": "delay",
        "version": 4,
        "arm": "canary",
        "share": 0.1,
        "step": 2,
        "salt": "5a17",
        "stage": "canary",
    }
    assert (row["score"], row["latency_ms"], row["status"], row["error"]) == (0.71, 12.0, "ok", None)


def test_row__champion_answered_for_the_candidate__is_the_candidates_error_and_time() -> None:
    row = row_of(line(upstream_status="504 : 200", upstream_took="1.001 : 0.004"))
    assert row is not None
    assert (row["answered_by"], row["status"], row["error"], row["latency_ms"]) == (
        "champion",
        "error",
        "HTTP 504",
        1001.0,
    )


def test_row__caller_did_not_wait__counts_against_the_arm() -> None:
    row = row_of(line(status="499", upstream_status="-", upstream_took="0.800"))
    assert row is not None
    assert row["status"] == "error"


def test_row__quicker_than_nginx_can_tell__has_half_a_millisecond() -> None:
    row = row_of(line(upstream_took="0.000"))
    assert row is not None
    assert row["latency_ms"] == 0.5


@pytest.mark.parametrize("score", ["", "nan", "inf", "high"])
def test_row__no_number_for_a_score__has_none(score: str) -> None:
    row = row_of(line(score=score))
    assert row is not None
    assert row["score"] is None


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        line(ended="soon"),
        line(version="delay"),
        line(arm="both"),
        line(request=""),
        line(request="x" * 201),
    ],
)
def test_row__of_no_line_of_ours__is_none(broken: bytes) -> None:
    assert row_of(broken) is None


def test_read__again_from_its_place__gives_only_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(line(request="a") + line(request="b"))
    found, place = ids(log, "")
    assert found == ["a", "b"]
    with log.open("ab") as file:
        file.write(line(request="c"))
    found, place = ids(log, place)
    assert found == ["c"]
    assert ids(log, place) == ([], place)


def test_read__last_line_without_its_end__waits_for_it(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    whole = line(request="b")
    log.write_bytes(line(request="a") + whole[:20])
    found, place = ids(log, "")
    assert found == ["a"]
    with log.open("ab") as file:
        file.write(whole[20:])
    assert ids(log, place)[0] == ["b"]


def test_read__log_was_rotated__finishes_the_old_one_first(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(line(request="a"))
    _, place = ids(log, "")
    with log.open("ab") as file:
        file.write(line(request="b"))
    log.rename(tmp_path / "a.log.1")
    log.write_bytes(line(request="c"))
    assert ids(log, place)[0] == ["b", "c"]


def test_read__log_was_rotated_twice_meanwhile__reads_all_in_order(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(line(request="a"))
    _, place = ids(log, "")
    log.rename(tmp_path / "a.log.2")
    (tmp_path / "a.log.1").write_bytes(line(request="b"))
    log.write_bytes(line(request="c"))
    assert ids(log, place)[0] == ["b", "c"]


def test_read__log_was_cut_off__begins_again(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(line(request="a") + line(request="b"))
    _, place = ids(log, "")
    log.write_bytes(line(request="c"))
    assert ids(log, place)[0] == ["c"]


def test_read__another_log_in_its_place_and_as_long__is_read_whole(tmp_path: Path) -> None:
    """A new file may get the inode of one that was deleted."""
    log = tmp_path / "a.log"
    log.write_bytes(line(request="a"))
    _, place = ids(log, "")
    log.write_bytes(line(request="b") + line(request="c"))
    assert ids(log, place)[0] == ["b", "c"]


def test_read__more_than_at_once__goes_on_from_there(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"".join(line(request=f"r{number}") for number in range(50)))
    found: list[str] = []
    place = ""
    for _ in range(50):
        part = read(log, place, most_bytes=1000)
        if not part.rows:
            break
        found += [row["request_id"] for row in part.rows]
        place = part.place
    assert found == [f"r{number}" for number in range(50)]


def test_read__no_log_yet__is_nothing(tmp_path: Path) -> None:
    assert ids(tmp_path / "a.log", "") == ([], "")


def test_read__lines_that_are_no_rows__are_counted(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"nonsense\n" + line())
    found = read(log, "")
    assert (len(found.rows), found.unreadable) == (1, 1)
