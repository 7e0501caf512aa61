"""Run code that we did not write in a child process: no secrets, no network, limited memory and time, no survivors.

The child gets an environment of its own (nothing is inherited), its own folder to work in, limits on memory, processor
time, file size and open files, and dies with us or with its time limit, together with everything it started.
``sandbox_child`` says what is isolated and what depends on the system.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

TAIL_BYTES = 64 * 1024
"""How much of the end of a child's output is kept."""
MAX_FILE_BYTES = 4 * 2**30
MAX_OPEN_FILES = 1024
LAUNCHER = Path(__file__).with_name("sandbox_child.py")
ROOT = Path(__file__).resolve().parent.parent
"""The folder that our packages are imported from."""


@dataclass(frozen=True)
class Finished:
    """How a child ended. ``returncode`` is that of the child, 128 + n when signal n killed it inside the sandbox and -n
    when it killed the sandbox; ``output_tail`` the end of what it wrote to stdout and stderr, interleaved; ``seconds``
    its real duration."""

    returncode: int
    output_tail: str
    seconds: float
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        return self.returncode == 0 and not self.timed_out


def environment(*, threads: int) -> dict[str, str]:
    """What a child gets to know: where programs and our packages are, and how many threads it may use. Nothing else.

    OpenMP threads that wait for one another sleep instead of spinning: on a machine with other work to do, spinning
    made a fit of 5 seconds take 40.
    """
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OMP_WAIT_POLICY": "PASSIVE",
        "ORT_DISABLE_TELEMETRY": "1",  # the wheels of ONNX Runtime send it from their import on
        **dict.fromkeys(pools, str(threads)),
    }


def command(
    argv: Sequence[str],
    *,
    cwd: Path,
    limits: Mapping[str, int],
    hidden: Sequence[Path] = (),
    outlives_thread: bool = False,
) -> list[str]:
    """The command line that runs ``argv`` behind the launcher (start it with an environment of its own).

    ``limits`` are named as in the ``resource`` module. The folders ``hidden`` look empty to the child; none of them may
    hold ``cwd``. The kernel ends the child with the *thread* that started it; a child that ``outlives_thread`` has to
    notice our end by itself.
    """
    inside = [folder for folder in hidden if cwd.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise ValueError(f"The working directory {cwd} lies in a folder that is to be hidden: {inside[0]}")
    plan = {
        "parent": None if outlives_thread else os.getpid(),
        "cwd": str(cwd),
        "hidden": [str(folder.resolve()) for folder in hidden if folder.is_dir()],
        "limits": {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": MAX_OPEN_FILES, "RLIMIT_FSIZE": MAX_FILE_BYTES, **limits},
    }
    return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(plan), *argv]


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    time_limit: timedelta,
    memory_limit: int,
    env: Mapping[str, str],
    hidden: Sequence[Path] = (),
) -> Finished:
    """Run ``argv`` to its end or its time limit. ``memory_limit`` is address space in bytes; ``env`` is all it gets.

    The calling thread must live until the end: the child dies with the thread that started it.
    """
    child = start(argv, cwd=cwd, time_limit=time_limit, memory_limit=memory_limit, env=env, hidden=hidden)
    return finish(child, time_limit=time_limit)


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    time_limit: timedelta,
    memory_limit: int,
    env: Mapping[str, str],
    hidden: Sequence[Path] = (),
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """The first half of ``run``: the child, which somebody has to ``finish`` or ``kill_group``."""
    processor_seconds = int(time_limit.total_seconds() * (os.cpu_count() or 1)) + 1
    limits = {"RLIMIT_AS": memory_limit, "RLIMIT_CPU": processor_seconds}
    return subprocess.Popen(
        command(argv, cwd=cwd, limits=limits, hidden=hidden),
        env=dict(env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )


def finish(child: subprocess.Popen[bytes], *, time_limit: timedelta) -> Finished:
    """The second half of ``run``: wait for the child's end or until the time is over, counted from now."""
    began = time.monotonic()
    with child:
        try:
            tail, timed_out = _follow(child, deadline=began + time_limit.total_seconds())
        finally:
            kill_group(child)
    return Finished(child.returncode, tail.decode(errors="replace"), time.monotonic() - began, timed_out)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything in its session."""
    with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS says so of a zombie's group
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _follow(child: subprocess.Popen[bytes], *, deadline: float) -> tuple[bytes, bool]:
    """The end of the child's output, and whether the deadline passed before the child ended."""
    assert child.stdout is not None
    tail = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            # Something that outlives the child may hold the pipe open: look at the child itself now and then.
            if not selector.select(min(left, 0.25)):
                if child.poll() is not None:
                    return tail, False
                continue
            chunk = os.read(child.stdout.fileno(), TAIL_BYTES)
            if not chunk:
                return tail, _outlives(child, deadline)
            tail = (tail + chunk)[-TAIL_BYTES:]
    return tail, True


def _outlives(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether a child that closed its output goes on beyond the deadline."""
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return True
    return False
