"""What an uploaded file is, decided by a process that can harm nobody (``inspection_child``).

::

    finding = inspect(path, allowed_hosts=())
    finding.load_class, finding.reason      # "quarantined", "It is a pickle of joblib: loading it would run its code."

The process that asks never parses the file. It answers for any file: what can not be understood, crashes its reader or
takes more than its limits is quarantined. Only where the reader itself could not work is there no answer.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from engines import sandbox

TIME_LIMIT = timedelta(seconds=60)
"""On the wall, for a machine that is busy; what ends a bomb is the processor time below."""
MEMORY = 128 * 2**20
"""What the reader may take beyond its libraries (15 MB, with ONNX 40), whatever the file."""
MEMORY_FACTOR = 4
"""And so many times the file's size: a large file may cost more than a small one that claims to be large."""
PROCESSOR_SECONDS = 1
BYTES_A_SECOND = 16 * 2**20
LIBRARIES = 512 * 2**20
"""Address space that importing them takes, most of it never touched."""


class Uninspectable(Exception):
    """The file could not be looked into, through no fault of its own: ask again later."""


@dataclass(frozen=True)
class Finding:
    """``load_class`` as in the registry, ``reason`` why, in a sentence for its owner; ``facts`` what the file says of
    itself (its inputs, its library), to be shown and not obeyed."""

    load_class: str
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def inspect(artifact: Path, *, allowed_hosts: Sequence[str]) -> Finding:
    """Look into a file. ``allowed_hosts`` are those that an external model may be at. Raises Uninspectable."""
    size = artifact.stat().st_size
    options = {
        "allowed_hosts": list(allowed_hosts),
        "memory": MEMORY,
        "memory_factor": MEMORY_FACTOR,
        "processor_seconds": PROCESSOR_SECONDS + 1 + size // BYTES_A_SECOND,
    }
    with artifact.open("rb") as file:
        child = sandbox.start(
            [sys.executable, "-P", "-m", "engines.inspection_child", json.dumps(options)],
            cwd=Path("/"),
            time_limit=TIME_LIMIT,
            memory_limit=LIBRARIES + MEMORY + MEMORY_FACTOR * size,
            env=sandbox.environment(threads=1),
            stdin=file.fileno(),
        )
    return _finding(sandbox.finish(child, time_limit=TIME_LIMIT))


def _finding(finished: sandbox.Finished) -> Finding:
    if finished.succeeded:
        *_, line = finished.output_tail.strip().splitlines() or [""]
        return Finding(**json.loads(line))
    killed_by = -finished.returncode if finished.returncode < 0 else finished.returncode - 128
    if killed_by == signal.SIGXCPU:
        return Finding("quarantined", "Looking into it takes more processor time than its limit.")
    if killed_by in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        return Finding("quarantined", "It crashed the process that looked into it.")
    said = finished.output_tail.strip().splitlines()[-1:] or ["it said nothing"]
    what = "did not end in time" if finished.timed_out else f"ended with {finished.returncode}: {said[0]}"
    raise Uninspectable(f"The process that looks into files {what}.")
