"""The processes that load model artifacts: nothing else in Gatehouse imports a library to load one.

``python -m engines.scoring_child <fd> <shelf>`` is a *nursery*: it imports its libraries once and then forks one
process per artifact (milliseconds), each with its own memory limit. It never looks into an artifact itself, so every
child starts from a clean copy. It ends when the process that started it does, and its children with it. There are two
shelves of libraries: ``frames`` (pandas, skops, scikit-learn: seconds to import) and ``tensors`` (ONNX Runtime: a
fraction of one). Importing ONNX Runtime starts no thread, creating a session may: that happens after the fork only.

A child gets the artifact as an open file and the rows as Arrow IPC, answers float64 scores, and knows no path, no
secret and no network (``engines.sandbox``).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa

from engines import memory, scoring_wire
from engines.loaded_model import LoadedModel, clock, score_table, time_rows
from engines.sandbox_child import die_with
from engines.skops_types import Unscorable

SHELVES = {"frames": "engines.skops_model", "tensors": "engines.onnx_model"}
"""What a nursery imports before it forks."""
LOADERS = {"skops": "engines.skops_model", "onnx": "engines.onnx_model", "booster": "engines.booster_model"}
"""The module that loads a load class; imported after the fork where the shelf does not have it."""


# ---------------------------------------------------------------------- the nursery


def nursery(control: socket.socket) -> None:
    """Fork a child for each request until the other side is gone. Requests: ``start`` with two descriptors (channel,
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
            _be_child(request, descriptors)
        living.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _reap(living: set[int]) -> None:
    for pid in list(living):
        if os.waitpid(pid, os.WNOHANG)[0]:
            living.discard(pid)


def _be_child(request: dict[str, Any], descriptors: list[int]) -> None:
    die_with(os.getppid())
    code = 1
    try:
        channel, artifact = socket.socket(fileno=descriptors[0]), os.fdopen(descriptors[1], "rb")
        memory.allow(request["memory_limit"])
        columns = tuple(request["columns"])
        if request["role"] == "convert":
            importlib.import_module("engines.conversion_child").serve(channel, artifact, columns, request["tolerance"])
        else:
            serve(channel, artifact, columns, load_class=request["load_class"])
        code = 0
    finally:
        os._exit(code)  # never back into the nursery's loop


# ---------------------------------------------------------------------- a scorer


def load(artifact: BinaryIO, columns: tuple[str, ...], *, load_class: str) -> LoadedModel:
    """The model in an artifact. Raises Unscorable, and MemoryError."""
    loader: Callable[[BinaryIO, tuple[str, ...]], LoadedModel] = importlib.import_module(LOADERS[load_class]).load
    return loader(artifact, columns)


def serve(channel: socket.socket, artifact: BinaryIO, columns: tuple[str, ...], *, load_class: str) -> None:
    """Load, say ``ready`` or why not, then answer requests until the other side is gone."""
    try:
        model = load(artifact, columns, load_class=load_class)
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
            scores, errors = score_table(model, table)
            scoring_wire.send(channel, {"errors": errors}, scores.tobytes())
        elif header["op"] == "clock":
            scoring_wire.send(channel, {"milliseconds": clock(model, table)})
        else:
            times = time_rows(model, table, seconds=header["seconds"])
            scoring_wire.send(channel, {}, times.tobytes())


if __name__ == "__main__":
    pa.set_cpu_count(1)  # no threads before a fork
    importlib.import_module(SHELVES[sys.argv[2]])
    pa.chunked_array([[0.0]]).to_numpy()  # imports pandas: once here, or at the first question of every child
    nursery(socket.socket(fileno=int(sys.argv[1])))
