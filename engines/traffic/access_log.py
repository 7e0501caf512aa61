"""The requests that an nginx served, out of the log that ``engines.traffic.nginx_config`` makes it write.

A place in the log is the file (by its inode and how it begins, since inodes are used again) and the bytes read of it,
so that each line is read once although the file is rotated away (``delay.log`` → ``delay.log.1``) or cut off
(``copytruncate``). A line without its end is not read yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from engines.traffic.document import VERSION
from engines.traffic.port import Read

MOST_BYTES = 8 * 2**20
LONGEST_ID = 200
HALF_A_MILLISECOND = 0.5
BEGINNING = 64  # bytes of a file that tell it from others: each line begins with its request's id


@dataclass(frozen=True)
class Place:
    """How far a log is read. ``beginning``: a digest of the first bytes of the file, empty while nothing is read."""

    inode: int
    offset: int
    beginning: str

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """None when it is no place; ``str`` makes the text."""
        inode, offset, beginning = [*text.split(":"), "", ""][:3]
        return cls(int(inode), int(offset), beginning) if inode.isdigit() and offset.isdigit() else None

    def __str__(self) -> str:
        return f"{self.inode}:{self.offset}:{self.beginning}"


def read(log: Path, since: str, *, most_bytes: int = MOST_BYTES) -> Read:
    """Rows after the place ``since`` ("": from the beginning of the oldest file), at most so many bytes of lines."""
    place = Place.parse(since)
    rows: list[Mapping[str, Any]] = []
    unreadable = 0
    for path, start in _from(log, place):
        lines = _whole_lines(path, start, most_bytes)
        most_bytes -= len(lines)
        end = start + len(lines)
        place = Place(path.stat().st_ino, end, _beginning(path) if end else "")
        for line in lines.splitlines():
            row = row_of(line)
            rows.append(row) if row is not None else (unreadable := unreadable + 1)
        if most_bytes <= 0:
            break
    return Read(rows, "" if place is None else str(place), unreadable)


def _from(log: Path, place: Place | None) -> Iterator[tuple[Path, int]]:
    """The files to read, and from which byte: the one of the place first, then those that came after it."""
    files = _files(log)
    for number, path in enumerate(files):
        if place is not None and _is_file_of(path, place):
            yield path, place.offset
            yield from ((each, 0) for each in files[number + 1 :])
            return
    if place is None or place.inode not in [each.stat().st_ino for each in files]:
        yield from ((each, 0) for each in files)  # new, or rotated away and gone: all of what is left
        return
    first = next(number for number, each in enumerate(files) if each.stat().st_ino == place.inode)
    yield from ((each, 0) for each in files[first:])  # cut off, or another file in its place


def _is_file_of(path: Path, place: Place) -> bool:
    found = path.stat()
    same = found.st_ino == place.inode and found.st_size >= place.offset
    return same and (not place.beginning or _beginning(path) == place.beginning)


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return blake2b(file.read(BEGINNING), digest_size=6).hexdigest()


def _files(log: Path) -> list[Path]:
    """The log with what was rotated away and is still plain text, oldest first: delay.log.2, delay.log.1, delay.log."""
    rotated = [each for each in log.parent.glob(f"{log.name}.*") if each.suffix[1:].isdigit()]
    rotated.sort(key=lambda path: int(path.suffix[1:]), reverse=True)
    return [*rotated, *([log] if log.exists() else [])]


def _whole_lines(path: Path, start: int, most_bytes: int) -> bytes:
    """From ``start`` up to the end of the last whole line within so many bytes."""
    with path.open("rb") as file:
        file.seek(start)
        found = file.read(most_bytes)
        if len(found) == most_bytes:
            found += file.readline()
    return found[: found.rfind(b"\n") + 1]


def row_of(line: bytes) -> Mapping[str, Any] | None:
    """A line as a row of the prediction intake; None when it is none.

    The arm's version failed when its (first) answer was no success, also where the champion answered in its place; a
    caller that did not wait counts against it, too. The latency is the arm's own.
    """
    try:
        told = json.loads(line.decode("utf-8", errors="replace"))
        ended, took = float(told["ended"]), float(told["took"])
        statuses = _each(told["upstream_status"]) or [told["status"]]
        times = _each(told["upstream_took"])
        arm, version, request = told["arm"], VERSION.match(told["version"]), told["request"]
        share, step = float(told["share"]), int(told["step"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if arm not in ("champion", "canary", "fallback") or not 0 < len(request) <= LONGEST_ID:
        return None
    if version is None and arm != "fallback":
        return None
    was_rescued = len(statuses) > 1
    failed = not statuses[0].startswith(("2", "3")) or told["status"] == "499"
    return {
        "request_id": request,
        "at": datetime.fromtimestamp(ended - took, UTC),
        "entity": told["entity"] or None,
        "model": version["model"] if version else None,
        "version": int(version["number"]) if version else None,
        "arm": arm,
        "answered_by": "champion" if was_rescued else arm,
        "stage": "canary" if told["salt"] else "",
        "step": step,
        "share": share,
        "salt": told["salt"],
        "status": "fallback" if arm == "fallback" else "error" if failed else "ok",
        "error": f"HTTP {statuses[0]}" if failed and arm != "fallback" else None,
        "score": _score(told.get("score", "")),
        "latency_ms": _milliseconds(times),
    }


def _each(text: str) -> list[str]:
    """What nginx wrote of each upstream it asked: "502 : 200" (in another place) or "502, 200" (in the same)."""
    return [part for part in text.replace(",", " ").replace(":", " ").split() if part != "-"]


def _score(text: str) -> float | None:
    try:
        score = float(text)
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def _milliseconds(times: list[str]) -> float | None:
    """Of the first upstream. nginx counts whole milliseconds: what took less counts half of one, not nothing."""
    try:
        return max(round(float(times[0]) * 1000.0, 3), HALF_A_MILLISECOND) if times else None
    except ValueError:
        return None
