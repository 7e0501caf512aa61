"""Where a gateway writes predictions down before it replies: append-only segments that survive ``kill -9``. Pure.

A segment is a header, then records framed as ``[length u32 LE][crc32 u32 LE][payload]`` (the checksum is over length
and payload). A record is one ``write()`` under a lock, so what ``append`` returned from is in the page cache and
outlives the process; a thread calls ``fdatasync`` every ``sync_every`` seconds, and a record asked for as *durable* is
waited for until the disk has it too (many waiters share one sync).

Whoever writes a segment holds a file lock on it, so a reader tells a record that is still being written from one whose
process died over it (torn). Segments are renamed from ``.spool`` to ``.sealed`` when full or old, and deleted by
whoever has taken them in (``rollout.ingest``). The folder, shared by all processes of a host, has one disk budget.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HEADER = b"GHSPOOL\x01"
"""Magic and, in the last byte, the version of the form."""
OPEN, SEALED, DAMAGED = ".spool", ".sealed", ".damaged"
MAX_RECORD = 64 * 2**20
"""Bytes. The top byte of a length is below any that JSON contains: no text looks like the start of a frame."""
READ = 16 * 2**20
"""Bytes that ``read`` takes at a time, unless one record is larger."""

_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_NAME = re.compile(r"[A-Za-z0-9_.]+-\d+\.(spool|sealed)")
_DROPPED = "dropped"
_DIGITS = 20
_UNOPENED = ".new"
_LEFT_BEHIND = 3600.0  # seconds after which nobody is opening it any more
_SEARCHED = 2**20  # bytes looked through at a time for the next good frame


class SpoolFull(Exception):
    """The record was not written: the disk budget is used up, or the disk takes nothing. It was counted as dropped."""


class NotDurable(SpoolFull):
    """The record was written but the disk did not confirm it. It was not counted as dropped."""


class UnknownForm(Exception):
    """A segment of a newer version of this form; it is left alone."""


@dataclass(frozen=True)
class Segment:
    """A file of the spool. ``number`` is the nanosecond it was opened at; ``name`` stays when it is sealed."""

    path: Path
    bytes: int

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def process(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def number(self) -> int:
        return int(self.name.rpartition("-")[2])


@dataclass(frozen=True)
class Piece:
    """What was read: whole records, and ``end``, from where to go on.

    ``torn``: bytes at the end whose process died before they were a record. ``damaged``: bytes passed over because they
    are no record although good ones follow. ``is_last``: nobody will write to the segment and all of it was read.
    """

    records: tuple[bytes, ...]
    end: int
    torn: int = 0
    damaged: int = 0
    is_last: bool = False


@dataclass
class _Open:
    """The segment being written. ``end``: where the last good record ends."""

    path: Path
    fd: int
    end: int
    since: float


@dataclass
class _Group:
    """Records that one sync covers, and those who wait for it."""

    done: threading.Event = field(default_factory=threading.Event)
    is_awaited: bool = False
    problem: str = ""


class Spool:
    """The writing side, one per process; safe for any number of threads. Not to be used after a fork."""

    def __init__(
        self,
        folder: Path,
        *,
        budget_bytes: int,
        sync_every: float = 0.2,
        segment_bytes: int = 64 * 2**20,
        segment_seconds: float = 60.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_unopened(folder)
        self._folder = folder
        self._budget = budget_bytes
        self._sync_every = sync_every
        # Only whole segments can be taken away, so a small budget needs small ones.
        self._segment_bytes = min(segment_bytes, max(budget_bytes // 8, 1))
        self._segment_seconds = segment_seconds
        self._process = f"{re.sub('[^A-Za-z0-9]', '_', socket.gethostname())[:60]}.{os.getpid()}"
        self._pid = os.getpid()
        self._number = 0
        self._segment: _Open | None = None
        self._sealed: list[_Open] = []  # full, and not yet synced
        self._is_dirty = self._is_folder_dirty = self._is_closed = False
        self._group = _Group()
        self._appended = 0
        self._used = _bytes_used(folder)
        self._drops = _Drops(folder / _DROPPED)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._keep_synced, name="spool", daemon=True)
        self._thread.start()

    @property
    def pressure(self) -> float:
        """Share of the folder's budget that is used, by all processes together; 1 and above: full."""
        return self._used / self._budget

    @property
    def used_bytes(self) -> int:
        """Bytes in the folder, of all processes, as of a moment ago."""
        return self._used

    @property
    def dropped(self) -> int:
        """Rows that this process could not write. ``dropped(folder)`` has those of all processes there ever were."""
        return self._drops.mine

    def append(self, record: bytes, *, durable: bool = False, rows: int = 1) -> None:
        """Write one record; when this returns it survives the death of this process (``durable``: of the machine).

        ``rows`` is what is counted when it can not be written: SpoolFull. NotDurable when only the sync failed.
        """
        if not 0 < len(record) <= MAX_RECORD:
            raise ValueError(f"A record has 1 to {MAX_RECORD} bytes, not {len(record)}.")
        data = frame(record)
        with self._lock:
            self._require_usable()
            self._put(data, rows)
            group = self._group
            if durable:
                group.is_awaited = True
                self._work.notify()
        if durable:
            group.done.wait()
            if group.problem:
                raise NotDurable(group.problem)

    def close(self) -> None:
        """Seal and sync what is there and stop the thread. Again changes nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._seal()
            self._work.notify()
        self._thread.join()
        self._drops.close()

    # ------------------------------------------------------------------ under the lock

    def _require_usable(self) -> None:
        if self._is_closed:
            raise ValueError("The spool is closed.")
        if os.getpid() != self._pid:
            raise ValueError("The spool belongs to the process that made it: make one after the fork.")

    def _put(self, data: bytes, rows: int) -> None:
        if self._used + len(data) > self._budget:
            self._seal()  # so that it can be taken in and make room
            raise self._dropping(rows, f"The spool's budget of {self._budget} bytes is used up.")
        if self._segment is not None and self._segment.end + len(data) > self._segment_bytes:
            self._seal()
        try:
            self._write(self._segment or self._open(), data)
        except OSError as error:
            raise self._dropping(rows, f"The spool can not be written: {error.strerror}.") from error
        self._is_dirty = True
        self._appended += len(data)
        self._used += len(data)

    def _write(self, segment: _Open, data: bytes) -> None:
        """One write; of one that fails half way nothing stays, so that no record ever follows half of another."""
        try:
            written = os.write(segment.fd, data)
            if written == len(data):
                segment.end += written
                return
            problem = OSError(28, "the disk took only a part of the record")
        except OSError as error:
            problem = error
        try:
            os.ftruncate(segment.fd, segment.end)
        except OSError:
            self._seal()  # nothing follows the half record; whoever reads takes it as torn
        raise problem

    def _open(self) -> _Open:
        """A new segment, visible to readers with its header and its lock only."""
        self._number = max(time.time_ns(), self._number + 1)
        path = self._folder / f"{self._process}-{self._number}{OPEN}"
        unfinished = path.with_name(f".{path.name}{_UNOPENED}")
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.write(fd, HEADER) != len(HEADER):
                raise OSError(28, "the disk took no new segment")
            unfinished.rename(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            os.close(fd)
            raise
        self._is_folder_dirty = True
        self._used += len(HEADER)
        self._segment = _Open(path, fd, len(HEADER), time.monotonic())
        return self._segment

    def _seal(self) -> None:
        """No more is written to the segment; the thread syncs and closes it."""
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        with suppress(OSError):  # closed without it, it is finished all the same: nobody holds its lock
            segment.path.rename(segment.path.with_suffix(SEALED))
        self._sealed.append(segment)
        self._is_folder_dirty = True

    def _dropping(self, rows: int, why: str) -> SpoolFull:
        self._drops.add(rows)
        return SpoolFull(why)

    # ------------------------------------------------------------------ the thread

    def _keep_synced(self) -> None:
        looked = 0.0
        while True:
            with self._lock:
                if not (self._group.is_awaited or self._is_closed):
                    self._work.wait(self._sync_every)
                is_over = self._is_closed
                segment = self._segment
                if segment is not None and time.monotonic() - segment.since >= self._segment_seconds:
                    self._seal()
            self._sync()
            if is_over:
                return
            if time.monotonic() - looked >= self._sync_every:
                looked = time.monotonic()
                self._measure()

    def _sync(self) -> None:
        """Everything appended so far reaches the disk. Only this thread closes segments: none is closed meanwhile."""
        with self._lock:
            sealed, self._sealed = self._sealed, []
            current = self._segment if self._is_dirty else None
            is_folder_dirty, self._is_folder_dirty = self._is_folder_dirty, False
            self._is_dirty = False
            group, self._group = self._group, _Group()
        problem = ""
        try:
            for segment in [*sealed, *([current] if current else [])]:
                os.fdatasync(segment.fd)
            if is_folder_dirty:
                sync_folder(self._folder)
        except OSError as error:
            # What the disk refused once it may forget silently: the next sync of this file would prove nothing.
            problem = f"The disk did not confirm the record: {error.strerror}."
            with self._lock:
                self._seal()
        for segment in sealed:
            os.close(segment.fd)
        group.problem = problem
        group.done.set()

    def _measure(self) -> None:
        before = self._appended
        try:
            used = _bytes_used(self._folder)
        except OSError:  # the folder is away: the next look may find it
            return
        with self._lock:
            self._used = used + self._appended - before


class _Drops:
    """The count of dropped rows in a file of the folder, of its full size from the start: a full disk takes it too."""

    def __init__(self, path: Path) -> None:
        self.mine = 0
        self._unwritten = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with suppress(OSError):
            self._add(0)

    def add(self, rows: int) -> None:
        """Under the spool's lock."""
        self.mine += rows
        self._unwritten += rows
        with suppress(OSError):  # then the next one writes it too
            self._add(self._unwritten)
            self._unwritten = 0

    def _add(self, rows: int) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            total = _number(os.pread(self._fd, _DIGITS, 0)) + rows
            os.pwrite(self._fd, b"%020d" % total, 0)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


def dropped(folder: Path) -> int:
    """Rows that could not be written into ``folder``, by all processes there ever were."""
    try:
        return _number((folder / _DROPPED).read_bytes())
    except FileNotFoundError:
        return 0


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0


def _forget_unopened(folder: Path) -> None:
    """Delete what processes left behind that died while they opened a segment."""
    for path in folder.glob(f".*{_UNOPENED}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND:
                path.unlink()


def _bytes_used(folder: Path) -> int:
    """Bytes of the files in ``folder``; one that disappears meanwhile counts nothing."""
    used = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            used += entry.stat().st_size if entry.is_file() else 0
    return used


# ---------------------------------------------------------------------- frames


def frame(record: bytes) -> bytes:
    """A record as it stands in a segment."""
    return b"".join((_FRAME.pack(len(record), _checksum(record)), record))


def _checksum(record: bytes) -> int:
    """Over the length too: a run of zeros is no record."""
    return zlib.crc32(record, zlib.crc32(_LENGTH.pack(len(record))))


def _record_at(data: bytes, place: int) -> bytes | None:
    """The record whose frame begins at ``place``; None where no whole and right one does."""
    start = place + _FRAME.size
    if start > len(data):
        return None
    length, checksum = _FRAME.unpack_from(data, place)
    if not 0 < length <= MAX_RECORD or start + length > len(data):
        return None
    record = data[start : start + length]
    return record if _checksum(record) == checksum else None


def _records(data: bytes, place: int) -> tuple[list[bytes], int]:
    """Records from ``place`` on, up to the first that is not whole or not right, and where that begins."""
    records = []
    while (record := _record_at(data, place)) is not None:
        records.append(record)
        place += _FRAME.size + len(record)
    return records, place


def _next_frame(data: bytes, place: int) -> int | None:
    """Where the first good frame at or after ``place`` begins."""
    raw = np.frombuffer(data, np.uint8)
    last = len(data) - _FRAME.size  # a frame begins before this
    for start in range(place, last, _SEARCHED):
        stop = min(start + _SEARCHED, last)
        lengths = sum(raw[start + byte : stop + byte].astype(np.int64) << (8 * byte) for byte in range(4))
        room = len(data) - _FRAME.size - np.arange(start, stop)
        for found in np.flatnonzero((lengths > 0) & (lengths <= np.minimum(room, MAX_RECORD))):
            if _record_at(data, start + int(found)) is not None:
                return start + int(found)
    return None


# ---------------------------------------------------------------------- reading


def segments(folder: Path) -> list[Segment]:
    """The segments in ``folder``, in the order they were opened; none when there is no folder."""
    names: set[str] = set()
    for _ in range(2):  # a list may miss what is renamed meanwhile, and a segment is renamed once
        with suppress(FileNotFoundError):
            names |= {name.rpartition(".")[0] for name in os.listdir(folder) if _NAME.fullmatch(name)}
    found = [segment for name in names if (segment := _segment(folder, name)) is not None]
    return sorted(found, key=lambda each: (each.number, each.name))


def _segment(folder: Path, name: str) -> Segment | None:
    """None: somebody has taken it in."""
    for suffix in (OPEN, SEALED):  # in the order in which they come to be
        path = folder / f"{name}{suffix}"
        with suppress(FileNotFoundError):
            return Segment(path, path.stat().st_size)
    return None


def is_finished(segment: Segment) -> bool:
    """Whether nobody writes to it any more: sealed, or its process is dead."""
    if segment.path.suffix == SEALED:
        return True
    with segment.path.open("rb") as file:
        return _is_free(file.fileno())


def read(path: Path, offset: int, *, limit: int = READ) -> Piece:
    """Records of a segment from ``offset`` on, about ``limit`` bytes of them.

    The end of a segment that is still written to is left for the next time when it is no whole record yet. Raises
    FileNotFoundError (it was sealed meanwhile: then it is there as ``.sealed``) and UnknownForm.
    """
    with path.open("rb", buffering=0) as file:
        is_over = path.suffix == SEALED or _is_free(file.fileno())  # before reading: else a last record is missed
        size = os.fstat(file.fileno()).st_size
        head = _pread(file.fileno(), len(HEADER), 0)
        if head[:-1] == HEADER[:-1] and len(head) == len(HEADER):
            if head != HEADER:
                raise UnknownForm(f"{path.name} is of version {head[-1]}; this Gatehouse reads {HEADER[-1]}.")
            offset = max(offset, len(HEADER))
        elif not is_over:
            return Piece((), offset)
        data = _pread(file.fileno(), min(limit, size - offset), offset)
        records, place = _records(data, 0)
        if not records and len(data) < size - offset:  # a record larger than the limit, or damage
            data = _pread(file.fileno(), size - offset, offset)
            records, place = _records(data, 0)
    is_whole = len(data) == size - offset
    if place < len(data) and is_whole and is_over:
        return _beyond_damage(data, records, place, offset)
    return Piece(tuple(records), offset + place, is_last=is_over and is_whole)


def _beyond_damage(data: bytes, records: list[bytes], place: int, offset: int) -> Piece:
    """All that can be read of a finished segment's end with something in it that is no record."""
    damaged = 0
    while place < len(data):
        following = _next_frame(data, place + 1)
        if following is None:
            break
        damaged += following - place
        more, place = _records(data, following)
        records += more
    return Piece(tuple(records), offset + len(data), torn=len(data) - place, damaged=damaged, is_last=True)


def _pread(fd: int, count: int, offset: int) -> bytes:
    parts = []
    while count > 0 and (part := os.pread(fd, count, offset)):
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_free(fd: int) -> bool:
    """Whether no process holds the lock of a writer; also true beyond the bounds of a container, unlike a pid."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


@contextmanager
def one_at_a_time(folder: Path, *, waits: bool = True) -> Iterator[None]:
    """Only one process or thread is inside for a folder. Without ``waits``: goes in anyway when somebody is."""
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Names in ``folder`` reach the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
