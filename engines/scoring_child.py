"""The processes that load model artifacts: nothing else in Gatehouse imports skops or scikit-learn to load one.

``python -m engines.scoring_child <fd>`` is the *nursery*: it imports the libraries once (seconds) and then forks one
process per artifact (milliseconds), each with its own memory limit. It never looks into an artifact itself, so every
scorer starts from a clean copy. It ends when the process that started it does, and its scorers with it.

A scorer gets the artifact as an open file and the rows as Arrow IPC, answers float64 scores, and knows no path, no
secret and no network (``engines.sandbox``).

How a model is called, in training and here alike: a pandas data frame of its columns in order, numbers and booleans as
float64, text as objects, times as UTC datetimes, null as NaN (NaT). A classifier answers the probability of its second
class, a regressor its prediction.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import skops.io

from engines import scoring_wire, skops_types
from engines.sandbox_child import die_with
from engines.skops_types import Unscorable

Scores = npt.NDArray[np.float64]
MAX_MESSAGE = 300
WARM_UP_ROWS = 3
PROBES = 32
"""Rows that a model which fails at the whole table is asked one by one before it is given up."""


# ---------------------------------------------------------------------- the nursery


def nursery(control: socket.socket) -> None:
    """Fork a scorer for each request until the other side is gone. Requests: ``start`` with two descriptors (channel,
    artifact) or ``kill`` with a pid; ``start`` is answered with the pid."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the parent, which then closes us
    living: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65536, 2)
        _reap(living)
        if not message:
            return
        request = json.loads(message)
        if request["op"] == "kill":
            if request["pid"] in living:
                os.kill(request["pid"], signal.SIGKILL)
            control.sendall(b"{}\n")
            continue
        pid = os.fork()
        if not pid:
            control.close()
            _be_scorer(request, descriptors)
        living.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _reap(living: set[int]) -> None:
    for pid in list(living):
        if os.waitpid(pid, os.WNOHANG)[0]:
            living.discard(pid)


def _be_scorer(request: dict[str, Any], descriptors: list[int]) -> None:
    die_with(os.getppid())
    code = 1
    try:
        channel, artifact = socket.socket(fileno=descriptors[0]), os.fdopen(descriptors[1], "rb")
        limit_memory(request["memory_limit"])
        serve(channel, artifact, tuple(request["columns"]))
        code = 0
    finally:
        os._exit(code)  # never back into the nursery's loop


def limit_memory(extra: int) -> None:
    """Allow ``extra`` bytes of address space beyond what the libraries have taken."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + extra, taken + extra))


# ---------------------------------------------------------------------- a scorer


@dataclass(frozen=True)
class LoadedModel:
    """An estimator from an artifact, and how it is asked."""

    ask: Callable[[pd.DataFrame], Any]
    columns: tuple[str, ...]

    def scores(self, rows: pd.DataFrame) -> Scores:
        """One finite score per row. Raises whatever the model raises, and ValueError for an answer that is no score."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's warnings are not for the person who is served
            answer = np.asarray(self.ask(rows), dtype=np.float64)
        if answer.shape != (len(rows),):
            raise ValueError(f"the model answered an array of shape {answer.shape} for {len(rows)} rows")
        if not np.isfinite(answer).all():
            raise ValueError("the model's answer is not a finite number")
        return answer


def load(artifact: BinaryIO, columns: tuple[str, ...]) -> LoadedModel:
    """The model in a skops artifact. Raises Unscorable."""
    skops_types.check(artifact)
    artifact.seek(0)
    try:
        estimator = skops.io.load(artifact, trusted=skops_types.TRUSTED)
    except Exception as error:  # whatever a crafted file makes the libraries raise, it can not be loaded
        raise Unscorable(f"It can not be loaded: {_said(error)}.") from error
    return LoadedModel(_way_to_ask(estimator), columns)


def _way_to_ask(estimator: Any) -> Callable[[pd.DataFrame], Any]:
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        if not hasattr(estimator, "predict_proba"):
            raise Unscorable("It is a classifier without predict_proba: there is no probability to score with.")
        if len(classes) != 2:
            raise Unscorable(f"It tells {len(classes)} classes apart; a score needs exactly two.")
        return lambda rows: estimator.predict_proba(rows)[:, 1]
    if not hasattr(estimator, "predict"):
        raise Unscorable(f"It holds a {type(estimator).__name__}, which does not predict.")
    return lambda rows: estimator.predict(rows)


def serve(channel: socket.socket, artifact: BinaryIO, columns: tuple[str, ...]) -> None:
    """Load, say ``ready`` or why not, then answer requests until the other side is gone."""
    try:
        model = load(artifact, columns)
    except Unscorable as refusal:
        scoring_wire.send(channel, {"unscorable": str(refusal)})
        return
    except MemoryError:
        scoring_wire.send(channel, {"unscorable": "It needs more memory than its limit."})
        return
    scoring_wire.send(channel, {"ready": True})
    while True:
        try:
            header, body = scoring_wire.receive(channel)
        except scoring_wire.WireError:
            return
        table = pa.ipc.open_stream(body).read_all()
        if header["op"] == "predict":
            scores, errors = score_each(model, model_input(table, columns))
            scoring_wire.send(channel, {"errors": errors}, scores.tobytes())
        else:
            times = time_rows(model, table, seconds=header["seconds"])
            scoring_wire.send(channel, {}, times.tobytes())


def model_input(table: pa.Table, columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows as every model is called (module docstring)."""
    return pd.DataFrame({name: _model_column(table.column(name)) for name in columns}, index=range(len(table)))


def _model_column(column: pa.ChunkedArray) -> Any:
    type_ = column.type
    if pa.types.is_dictionary(type_):
        column, type_ = column.cast(type_.value_type), type_.value_type
    is_number = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal)
    if any(is_kind(type_) for is_kind in is_number):
        column = column.cast(pa.float64())
    elif not pa.types.is_floating(type_):
        values = column.to_pandas(use_threads=False)
        return values if pa.types.is_temporal(type_) else values.astype(object).where(values.notna(), np.nan)
    return column.to_numpy().astype(np.float64, copy=False)


def score_each(model: LoadedModel, rows: pd.DataFrame) -> tuple[Scores, dict[int, str]]:
    """Scores of all rows at once; where that raises, of ever smaller parts, so that a bad row costs only itself.

    The positions of failed rows come with what the model said, and their scores are NaN. A model that fails at each of
    ``PROBES`` rows from all over the table is not asked about the others: thousands of refusals tell no more.
    """
    scores = np.full(len(rows), np.nan)
    errors: dict[int, str] = {}
    parts = [(0, len(rows))] if len(rows) else []
    probed = False
    while parts:
        start, end = parts.pop()
        refusal = _score_part(model, rows, scores, start, end)
        if refusal is None:
            continue
        if end - start == 1:
            errors[start] = refusal
        elif not probed and (refusals := _probe(model, rows, scores)) is not None:
            return np.full(len(rows), np.nan), {row: refusals.get(row, refusal) for row in range(len(rows))}
        else:
            middle = (start + end) // 2
            parts += [(middle, end), (start, middle)]
        probed = True
    return scores, errors


def _score_part(model: LoadedModel, rows: pd.DataFrame, scores: Scores, start: int, end: int) -> str | None:
    """Fill in the scores of one part; what the model said when it refused."""
    try:
        scores[start:end] = model.scores(rows.iloc[start:end])
    except Exception as error:  # noqa: BLE001  # the model is not our code: whatever it raises is its answer
        return _said(error)
    return None


def _probe(model: LoadedModel, rows: pd.DataFrame, scores: Scores) -> dict[int, str] | None:
    """What the model says to single rows spread over the table; None when it can score at least one of them."""
    refusals: dict[int, str] = {}
    for row in np.unique(np.linspace(0, len(rows) - 1, PROBES).astype(int)).tolist():
        refusal = _score_part(model, rows, scores, row, row + 1)
        if refusal is None:
            return None
        refusals[row] = refusal
    return refusals


def time_rows(model: LoadedModel, table: pa.Table, *, seconds: float) -> Scores:
    """Milliseconds per row, asked one at a time from the received row to its score, until the time is used up.

    A few rows are asked first and not counted. Rows that raise are left out: they are errors, not fast answers.
    """
    for row in range(min(WARM_UP_ROWS, len(table))):
        score_each(model, model_input(table.slice(row, 1), model.columns))
    times: list[float] = []
    ends = time.perf_counter() + seconds
    for row in range(len(table)):
        began = time.perf_counter()
        if began >= ends:
            break
        _, errors = score_each(model, model_input(table.slice(row, 1), model.columns))
        if not errors:
            times.append((time.perf_counter() - began) * 1000)
    return np.asarray(times, dtype=np.float64)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:MAX_MESSAGE]


if __name__ == "__main__":
    pa.set_cpu_count(1)  # no threads before a fork
    nursery(socket.socket(fileno=int(sys.argv[1])))
