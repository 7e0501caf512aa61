"""Run a training entry point in the sandbox and read what it leaves, believing nothing.

The contract with an entry point, any Python module::

    python -m <entry point> --dataset FILE --params FILE --out DIR

The dataset is Parquet; the parameters are JSON: ``features``, ``label``, ``timestamp``, ``seed`` and what the pipeline
adds. It leaves ``model.skops``, ``signature.json`` and, if it can, ``metrics.json``, ``importance.json`` and
``environment.json`` in DIR, and ends with 0; or it says why not, and ends with another number.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from engines import sandbox

MODEL = "model.skops"
MAX_REPORT_BYTES = 4 * 2**20
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
    log: str
    seconds: float


@contextmanager
def delivered(order: Order) -> Iterator[Delivery]:
    """Run the entry point in a folder of its own, which is gone afterwards. Raises TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-training-") as name:
        folder = Path(name)
        desk = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            finished = _carry_out(order, folder)
            log = finished.output_tail.replace("\0", "\N{REPLACEMENT CHARACTER}")
            try:
                _raise_unless_succeeded(finished, log, order.time_limit)
                with _opened(desk) as out, _file(out, MODEL) as model:
                    yield _read(out, model, log, finished.seconds)
            except _Unreadable as problem:
                raise TrainingFailed(str(problem), log=log, seconds=finished.seconds) from problem
        finally:
            os.close(desk)


def _carry_out(order: Order, folder: Path) -> sandbox.Finished:
    pq.write_table(order.table, folder / "dataset.parquet")
    (folder / "params.json").write_text(json.dumps(dict(order.params)))
    (folder / "out").mkdir()
    argv = [sys.executable, "-P", "-m", order.entry_point]
    argv += ["--dataset", "dataset.parquet", "--params", "params.json", "--out", "out"]
    return sandbox.run(
        argv,
        cwd=folder,
        time_limit=order.time_limit,
        memory_limit=order.memory_limit,
        env={**sandbox.environment(threads=os.cpu_count() or 1), "HOME": str(folder), "TMPDIR": str(folder)},
        hidden=order.hidden,
    )


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
        log=log,
        seconds=seconds,
    )


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
