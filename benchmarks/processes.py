"""What work costs: CPU, wall time and memory of this process, CPU of another one, waiting times of an HTTP client.

Linux only: peak memory is read from ``/proc``, where it can be reset between two measurements.
"""

from __future__ import annotations

import gc
import resource
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles
from types import TracebackType

_STATUS = Path("/proc/self/status")
_KIB_PER_MIB = 1024
_START_SECONDS = 90


@dataclass(frozen=True)
class Cost:
    """CPU seconds (user and system, of all threads), wall seconds, and memory in MiB."""

    cpu: float
    wall: float
    peak: float
    """Largest resident memory during the work."""
    extra: float
    """How far that is above what was resident before it."""


class Meter:
    """Measures a ``with`` block of this process; ``cost`` is there after it."""

    cost: Cost

    def __enter__(self) -> Meter:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        self._resident = _memory("VmRSS")
        self._cpu, self._wall = own_cpu(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, cpu, peak = time.perf_counter() - self._wall, own_cpu() - self._cpu, _memory("VmHWM")
        self.cost = Cost(cpu, wall, peak, peak - self._resident)


def own_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def tree_cpu(process: int) -> float:
    """CPU seconds of a running process and its running descendants, to the nanosecond."""
    # the kernel's clock of a process: its number's complement shifted by three, and 2 for "time on the CPU"
    own = time.clock_gettime((~process << 3) | 2)
    tasks = Path(f"/proc/{process}/task").iterdir()
    children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
    return own + sum(tree_cpu(child) for child in children)


def _memory(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / _KIB_PER_MIB


def p50(walls: Sequence[float]) -> float:
    return quantiles(walls, n=2)[0]


def p99(walls: Sequence[float]) -> float:
    return quantiles(walls, n=100)[98]


@dataclass(frozen=True)
class Load:
    """What requests one after another over one kept connection took: each one's seconds, and the server's CPU."""

    walls: tuple[float, ...]
    server_cpu: float
    """CPU seconds a request, of the server's process and its children."""


def load(server: int, port: int, path: str, bodies: Sequence[bytes], headers: Mapping[str, str]) -> Load:
    """POST each body to 127.0.0.1:port, and see what it costs process ``server``. Raises OSError for a refusal."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    walls = []
    before = tree_cpu(server)
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        answer = response.read()
        walls.append(time.perf_counter() - start)
        if response.status != 200:
            raise OSError(f"POST {path}: {response.status} {answer[:500]!r}")
    used = tree_cpu(server) - before
    connection.close()
    return Load(tuple(walls), used / len(bodies))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, *, seconds: float = _START_SECONDS) -> None:
    """Until somebody listens on 127.0.0.1:port. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"Nobody listens on port {port} after {seconds:g} s.")
