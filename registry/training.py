"""Run a training entry point in the sandbox and read what it leaves, believing nothing.

The contract with an entry point, any Python module::

    python -m <entry point> --dataset FILE --params FILE --out DIR

The dataset is Parquet; the parameters are JSON: ``features``, ``label``, ``timestamp``, ``seed`` and what the pipeline
adds. It leaves ``model.skops``, ``signature.json`` and, if it can, ``metrics.json``, ``importance.json``,
``environment.json`` and ``environment.lock`` in DIR, and ends with 0; or it says why not, and ends with another number.
An entry point that runs in another environment than ours writes its lock; for the others we write down our own
interpreter and its packages, which are what it ran with.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from engines import sandbox

MODEL = "model.skops"
MAX_REPORT_BYTES = 4 * 2**20
MAX_LOCK_BYTES = 400_000
MAX_REASON = 500


class TrainingFailed(Exception):
    """The entry point did not deliver; the message is for its owner. ``log`` is the end of what it wrote."""

    def __init__(self, reason: str, *, log: str = "", seconds: float | None = None) -> None:
        super().__init__(reason)
        self.log = log
        self.seconds = seconds


@dataclass(frozen=True)
class Order:
    """What to run, on what, with what limits. ``memory_limit`` is in bytes; ``hidden`` folders look empty to it."""

    entry_point: str
    table: pa.Table
    params: Mapping[str, Any]
    time_limit: timedelta
    memory_limit: int
    hidden: Sequence[Path] = ()


@dataclass(frozen=True)
class Delivery:
    """What came out. ``importance`` is the share per feature; ``seconds`` the child's real duration."""

    model: BinaryIO
    signature: dict[str, Any]
    metrics: dict[str, Any]
    importance: dict[str, float]
    environment: dict[str, Any]
    environment_lock: str
    log: str
    seconds: float


@contextmanager
def delivered(order: Order) -> Iterator[Delivery]:
    """Run the entry point in a folder of its own, which is gone afterwards. Raises TrainingFailed."""
    desk = _desk_for(order)
    with desk.folder as name:
        folder = Path(name)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            finished = _carry_out(order, folder, desk.child)
            log = finished.output_tail.replace("\0", "\N{REPLACEMENT CHARACTER}")
            try:
                _raise_unless_succeeded(finished, log, order.time_limit)
                with _opened(opened) as out, _file(out, MODEL) as model:
                    yield _read(out, model, log, finished.seconds)
            except _Unreadable as problem:
                raise TrainingFailed(str(problem), log=log, seconds=finished.seconds) from problem
        finally:
            os.close(opened)
            if desk.child is not None and desk.child.poll() is None:
                sandbox.kill_group(desk.child)
            if _keeps_one_waiting:
                _let_one_wait(order)


def _carry_out(order: Order, folder: Path, child: subprocess.Popen[bytes] | None) -> sandbox.Finished:
    pq.write_table(order.table, folder / "dataset.parquet")
    (folder / "params.json").write_text(json.dumps(dict(order.params)))
    (folder / "out").mkdir()
    arguments = ["--dataset", "dataset.parquet", "--params", "params.json", "--out", "out"]
    if child is None:
        child = _start(order, folder, [order.entry_point, *arguments], stdin=subprocess.DEVNULL)
    else:
        told = json.dumps({"module": order.entry_point, "arguments": arguments}) + "\n"
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin as line:  # one that died says so by its exit code
            line.write(told.encode())
    return sandbox.finish(child, time_limit=order.time_limit)


def _start(order: Order, folder: Path, module: Sequence[str], *, stdin: int) -> subprocess.Popen[bytes]:
    return sandbox.start(
        [sys.executable, "-P", "-m", *module],
        cwd=folder,
        time_limit=order.time_limit,
        memory_limit=order.memory_limit,
        env={**sandbox.environment(threads=os.cpu_count() or 1), "HOME": str(folder), "TMPDIR": str(folder)},
        hidden=order.hidden,
        stdin=stdin,
    )


# ---------------------------------------------------------------------- a child that waits


@dataclass(frozen=True)
class _Desk:
    """A folder for one training, and the child that waits in it if there is one, made for the limits of ``order``."""

    folder: tempfile.TemporaryDirectory[str]
    child: subprocess.Popen[bytes] | None = None
    order: Order | None = None

    def fits(self, order: Order) -> bool:
        made = self.order
        return made is not None and (made.time_limit, made.memory_limit, made.hidden) == (
            order.time_limit,
            order.memory_limit,
            order.hidden,
        )

    def give_up(self) -> None:
        if self.child is not None:
            with self.child:  # closes its pipes
                sandbox.kill_group(self.child)
        self.folder.cleanup()


_waiting: _Desk | None = None
_keeps_one_waiting = False


def keep_one_waiting() -> None:
    """From the next training on, keep a child ready that has imported the usual libraries, until ``send_home``.

    For a process that trains often in one thread, such as the demo's replay: it costs 170 MB and saves three seconds of
    each training whose limits are those of the one before.
    """
    global _keeps_one_waiting
    _keeps_one_waiting = True


def _let_one_wait(like: Order) -> None:
    global _waiting
    if _waiting is not None:
        _waiting.give_up()
    folder = _new_folder()
    child = _start(like, Path(folder.name), ["engines.warm_child"], stdin=subprocess.PIPE)
    _waiting = _Desk(folder, child, replace(like, table=pa.table({})))


def send_home() -> None:
    """End the child that waits, if one does, and keep none any more."""
    global _waiting, _keeps_one_waiting
    desk, _waiting, _keeps_one_waiting = _waiting, None, False
    if desk is not None:
        desk.give_up()


def _desk_for(order: Order) -> _Desk:
    global _waiting
    desk, _waiting = _waiting, None
    if desk is not None and desk.fits(order):
        return desk
    if desk is not None:
        desk.give_up()
    return _Desk(_new_folder())


def _new_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gatehouse-training-")


# ---------------------------------------------------------------------- how it ended


def _raise_unless_succeeded(finished: sandbox.Finished, log: str, time_limit: timedelta) -> None:
    if finished.succeeded:
        return
    if finished.timed_out:
        what = f"It was ended at its time limit of {time_limit}."
    elif finished.returncode < 0 or finished.returncode > 128:
        signal = -finished.returncode if finished.returncode < 0 else finished.returncode - 128
        what = f"It was killed by signal {signal}: a crash, or more memory than there is."
    else:
        what = f"It ended with exit code {finished.returncode}."
    said = [line.strip() for line in log.splitlines() if line.strip()]
    last = f" Its last line: {said[-1]}" if said else " It wrote nothing."
    raise TrainingFailed((what + last)[:MAX_REASON], log=log, seconds=finished.seconds)


# ---------------------------------------------------------------------- reading what an untrusted process left


class _Unreadable(Exception):
    """A result that is missing or not what it should be."""


def _read(out: int, model: BinaryIO, log: str, seconds: float) -> Delivery:
    return Delivery(
        model=model,
        signature=_report(out, "signature.json", required=True),
        metrics=_report(out, "metrics.json"),
        importance=shares(_report(out, "importance.json")),
        environment=_report(out, "environment.json"),
        environment_lock=_lock(out) or our_lock(),
        log=log,
        seconds=seconds,
    )


def _lock(out: int) -> str:
    """The lock file that the entry point left; empty when it left none."""
    try:
        with _file(out, "environment.lock") as file:
            text = file.read(MAX_LOCK_BYTES + 1)
    except _Missing:
        return ""
    if len(text) > MAX_LOCK_BYTES:
        raise _Unreadable(f"environment.lock is larger than {MAX_LOCK_BYTES} bytes.")
    if b"\0" in text or not text.isascii():
        raise _Unreadable("environment.lock is no plain text.")
    return text.decode("ascii")


@cache
def our_lock() -> str:
    """The interpreter and every package of it with its version, as a lock file has them."""
    packages = {f"{each.name.lower()}=={each.version}" for each in metadata.distributions() if each.name}
    head = f"# Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return "\n".join([head, *sorted(packages), ""])


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Share of importance per feature from ``{feature: share}`` or ``{"features": [{"name": …, "share": …}]}``."""
    listed = report.get("features")
    pairs: list[tuple[Any, Any]] = list(report.items())
    if isinstance(listed, list):
        pairs = [(each.get("name"), each.get("share")) for each in listed if isinstance(each, Mapping)]
    return {
        name: float(share)
        for name, share in pairs
        if isinstance(name, str) and isinstance(share, int | float) and not isinstance(share, bool)
    }


def _report(out: int, name: str, *, required: bool = False) -> dict[str, Any]:
    """A JSON object that the database can hold: no NaN, no NUL, of bearable size."""
    try:
        with _file(out, name) as file:
            text = file.read(MAX_REPORT_BYTES + 1)
    except _Missing:
        if required:
            raise
        return {}
    if len(text) > MAX_REPORT_BYTES:
        raise _Unreadable(f"{name} is larger than {MAX_REPORT_BYTES} bytes.")
    if rb"\u0000" in text:
        raise _Unreadable(f"{name} holds a NUL character.")
    try:
        content = json.loads(text, parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"{name} can not be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise _Unreadable(f"{name} must hold a JSON object.")
    return content


def _no_such_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


class _Missing(_Unreadable):
    """A result that was not written."""


@contextmanager
def _opened(desk: int) -> Iterator[int]:
    """The child's output folder itself: a link in its place would lead us to files that are not the child's."""
    try:
        out = os.open("out", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=desk)
    except OSError as error:
        raise _Unreadable(f"Its output folder can not be opened: {error.strerror}.") from error
    try:
        yield out
    finally:
        os.close(out)


@contextmanager
def _file(out: int, name: str) -> Iterator[BinaryIO]:
    """A regular file of the output folder; no link, no device, no pipe."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=out)
    except FileNotFoundError as error:
        raise _Missing(f"It ended well but left no {name}.") from error
    except OSError as error:
        raise _Unreadable(f"{name} can not be opened: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Unreadable(f"{name} is no regular file.")
        yield file
