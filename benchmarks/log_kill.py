"""Does the prediction log lose anything when gateways are killed? A real gateway under load, ``kill -9``, many times.

    make bench BENCH=log_kill                            # 20 kills, some minutes; ARGS='--kills 5' for fewer

A portal of its own serves one endpoint through ``manage.py gateway``, clients ask as fast as they get answers. Every
other time its answering process is killed, else all its processes at once, the one that takes the spool into the log
included. An answer that a client has read to its end is acknowledged. In the end the spool is taken in and the log's
files are counted, before any reader could leave out repetitions. Then whoever takes a long spool in is killed as
often. Then the rates: rows appended to a spool by one thread, and taken in from it, per second of CPU (other work on
the machine does not change that).

``prepare``, ``fill``, ``take-in``, ``count`` and ``rates`` as the first argument do one part, on the portal that the
environment names.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import portal
from benchmarks.figures import Figure, Rate, report
from benchmarks.processes import Meter, free_port

ROOT = Path(__file__).resolve().parent.parent
ENDPOINT = "delay-warning"
KILLS, CLIENTS = 20, 4
LOAD_SECONDS = (0.4, 1.6)
PATIENCE = 120.0  # seconds
TAKE_IN_SECONDS = (0.02, 0.7)
ROWS = 100_000
APPENDED, INGESTED = 50_000, 20_000  # rows per second of CPU, at least


@dataclass(frozen=True)
class Counted:
    """``acknowledged``: answers that clients have. ``lost``: those not in the log. ``doubled``: rows there again.
    ``unasked``: rows whose answer was on its way."""

    acknowledged: int
    lost: int
    doubled: int
    unasked: int
    torn_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 when something was lost or is there twice, or a rate falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=sorted(PARTS))
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.part:
        print(json.dumps(PARTS[options.part]()))
        return 0
    with portal.empty() as variables:
        found = killed(variables, kills=options.kills, seed=options.seed)
        rates = part("rates", variables)
    with portal.empty() as variables:
        taken_in = killed_taking_in(variables, kills=options.kills, seed=options.seed)
    print(f"{found.acknowledged:,} answers acknowledged over {options.kills} kills, {found.unasked} logged but not yet")
    print(f"answered, {found.torn_bytes} bytes of torn records")
    print(f"by the clock: {rates['append_wall']:,.0f} rows/s appended, {rates['ingest_wall']:,.0f} taken in")
    return report(
        Figure("log_kill.lost", found.lost, "rows", at_most=0),
        Figure("log_kill.doubled", found.doubled, "rows", at_most=0),
        Figure("log_kill.lost_taking_in", taken_in.lost, "rows", at_most=0),
        Figure("log_kill.doubled_taking_in", taken_in.doubled, "rows", at_most=0),
        Rate("log_kill.append", rates["append_cpu"], "rows/CPU s", at_least=APPENDED),
        Rate("log_kill.ingest", rates["ingest_cpu"], "rows/CPU s", at_least=INGESTED),
    )


def killed(variables: Mapping[str, str], *, kills: int, seed: int | None = None) -> Counted:
    """Serve, ask and kill on a fresh portal; what came of it."""
    chance = random.Random(seed)
    environment = {**variables, "GATEHOUSE_GATEWAY_AUTH": "none", "PYTHONPATH": str(ROOT)}
    part("prepare", environment)
    acknowledged: list[str] = []
    gateway = _Gateway(environment)
    try:
        for number in range(kills):
            gateway.be_ready()
            with _load(gateway.port) as answers:
                time.sleep(chance.uniform(*LOAD_SECONDS))
                gateway.kill_all() if number % 2 else gateway.kill_answering()
            acknowledged += answers
            print(f"kill {number + 1}: {len(answers)} answers", flush=True)
    finally:
        gateway.kill_all()
    return _counted(acknowledged, part("count", environment))


def killed_taking_in(variables: Mapping[str, str], *, kills: int, rows: int = ROWS, seed: int | None = None) -> Counted:
    """Kill whoever takes a long spool in, again and again; what came of the rows in it."""
    chance = random.Random(seed)
    part("prepare", variables)
    part("fill", {**variables, "LOG_KILL_ROWS": str(rows)})
    for number in range(kills):
        command = [sys.executable, "-m", "benchmarks.log_kill", "take-in"]
        with subprocess.Popen(command, env=dict(variables), cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(*TAKE_IN_SECONDS))
            process.kill()
        print(f"kill {number + 1} of who takes in", flush=True)
    return _counted([f"r{number}" for number in range(rows)], part("count", variables))


def part(name: str, variables: Mapping[str, str]) -> dict[str, float]:
    """One part of this benchmark in a process of its own: Django is set up once per process."""
    command = [sys.executable, "-m", "benchmarks.log_kill", name]
    done = subprocess.run(command, env=dict(variables), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _counted(acknowledged: Sequence[str], logged: Mapping[str, float]) -> Counted:
    torn = int(logged["torn_bytes"])
    rows = Counter({name: int(count) for name, count in logged.items() if name != "torn_bytes"})
    assert len(set(acknowledged)) == len(acknowledged), "one request id was answered twice"
    return Counted(
        acknowledged=len(acknowledged),
        lost=sum(rows[each] == 0 for each in acknowledged),
        doubled=sum(count - 1 for count in rows.values()),
        unasked=len(set(rows) - set(acknowledged)),
        torn_bytes=torn,
    )


# ---------------------------------------------------------------------- the gateway and its clients


@dataclass
class _Gateway:
    """``manage.py gateway`` with one answering process, started when it does not run."""

    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    main: subprocess.Popen[bytes] | None = None

    def be_ready(self) -> None:
        if self.main is None:
            command = [sys.executable, "manage.py", "gateway", "--port", str(self.port)]
            self.main = subprocess.Popen(command, cwd=ROOT, env=dict(self.environment), stderr=subprocess.DEVNULL)
        _wait_for(lambda: _is_ready(self.port), "the gateway is ready")

    def kill_answering(self) -> None:
        """The process below the server, which starts another. The server's own helper of multiprocessing may go too."""
        assert self.main is not None
        _kill(pid for server in _children(self.main.pid) for pid in _below(server))

    def kill_all(self) -> None:
        if self.main is None:
            return
        _kill([self.main.pid, *_below(self.main.pid)])
        self.main.wait()
        self.main = None


def _kill(pids: Iterable[int]) -> None:
    """kill -9, and wait until they are gone."""
    killed = list(pids)
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not any(map(_is_alive, killed)), "they are dead")


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _read(task / "children").split()
        ]
    return []


def _below(pid: int) -> list[int]:
    return [each for child in _children(pid) for each in (child, *_below(child))]


def _is_alive(pid: int) -> bool:
    """Zombies are dead."""
    stat = _read(Path(f"/proc/{pid}/stat"))
    return bool(stat) and stat[stat.rindex(")") + 2] not in "ZX"


def _read(path: Path) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text()
    return ""


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v2/models/{ENDPOINT}/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _load(port: int) -> Iterator[list[str]]:
    """Clients that ask one request after the other; the ids of the answers they have, complete after the block."""
    answers: list[str] = []
    is_over = threading.Event()
    clients = [threading.Thread(target=_ask, args=(port, number, answers, is_over)) for number in range(CLIENTS)]
    for each in clients:
        each.start()
    try:
        yield answers
    finally:
        is_over.set()
        for each in clients:
            each.join()


def _ask(port: int, client: int, answers: list[str], is_over: threading.Event) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    number = 0
    try:
        while not is_over.is_set():
            number += 1
            entity = f"N{client}-{number % 50}"
            body = {
                "parameters": {"entity": entity},
                "inputs": [{"name": "x1", "shape": [1], "datatype": "FP64", "data": [number / 100]}],
            }
            connection.request("POST", f"/v2/models/{ENDPOINT}/infer", json.dumps(body))
            reply = connection.getresponse()
            answer = json.loads(reply.read())
            if reply.status == 200:
                answers.append(answer["parameters"]["request_id"])
    except (OSError, HTTPException, ValueError):
        pass  # killed: this answer nobody has
    finally:
        connection.close()


# ---------------------------------------------------------------------- on the portal


def _prepare() -> Mapping[str, float]:
    """An endpoint with a champion, built without the events that tell of it."""
    portal.set_up()
    from django.db import connection

    from audit import guards
    from tests.rollout import life

    with connection.cursor() as cursor:
        for guard in guards.declared():
            if isinstance(guard, guards.Owing):
                cursor.execute(f'DROP TRIGGER IF EXISTS "{guard.name}"')
    assert life.ENDPOINT == ENDPOINT
    life.begin()
    return {}


def _fill() -> Mapping[str, float]:
    """A spool in many segments, as gateways leave it while nobody takes it in."""
    portal.set_up()
    from rollout.ingest import spool_folder
    from rollout.spool import Spool

    writer = Spool(spool_folder(), budget_bytes=2**31, segment_bytes=2**21)
    for record in _records(int(os.environ["LOG_KILL_ROWS"])):
        writer.append(record)
    writer.close()
    return {}


def _take_in() -> Mapping[str, float]:
    portal.set_up()
    from audit import clock
    from rollout.ingest import ingest

    print("begins", flush=True)
    return ingest(now=clock.now()).as_dict()


def _count() -> Mapping[str, float]:
    """Take in what is left; how often each request lies in the log's files, before repetitions are left out."""
    portal.set_up()
    import pyarrow.parquet as pq
    from django.conf import settings
    from django.db.models import Sum

    from audit import clock
    from rollout import spool
    from rollout.ingest import ingest, spool_folder
    from rollout.models import SpoolSegment

    ingest(now=clock.now())
    left = spool.segments(spool_folder())
    assert not left, f"segments stay: {left}"
    files = (Path(settings.DATA_ROOT) / "predictions" / ENDPOINT).rglob("*.parquet")
    rows = Counter(each for file in files for each in pq.ParquetFile(file).read(["request_id"])[0].to_pylist())
    torn = SpoolSegment.objects.aggregate(torn=Sum("torn_bytes"))["torn"] or 0
    return {**rows, "torn_bytes": torn}


def _records(count: int) -> list[bytes]:
    """One row each, with as many features as a small model has."""
    from audit import clock
    from rollout.ingest import write_record
    from rollout.prediction_log import PREDICTION

    now = clock.now()
    empty = {each.name: [None] for each in PREDICTION}
    features = {f"feature{number}": [number / 7] for number in range(15)}
    return [
        write_record(ENDPOINT, {**empty, **features, "request_id": [f"r{number}"], "at": [now], "score": [0.5]})
        for number in range(count)
    ]


def _rates() -> Mapping[str, float]:
    """Rows appended by one thread, one row a record, and taken in, per second of CPU and of wall clock."""
    portal.set_up()
    from audit import clock
    from rollout.ingest import ingest
    from rollout.spool import Spool

    records = _records(ROWS)
    with TemporaryDirectory(prefix="gatehouse-spool-") as folder:
        writer = Spool(Path(folder), budget_bytes=2**31)
        with Meter() as appending:
            for record in records:
                writer.append(record)
        writer.close()
        with Meter() as taking_in:
            assert ingest(folder=Path(folder), now=clock.now()).rows == ROWS
    both = {"append": appending.cost, "ingest": taking_in.cost}
    return {f"{name}_{kind}": ROWS / getattr(cost, kind) for name, cost in both.items() for kind in ("cpu", "wall")}


PARTS: Mapping[str, Callable[[], Mapping[str, float]]] = {
    "prepare": _prepare,
    "fill": _fill,
    "take-in": _take_in,
    "count": _count,
    "rates": _rates,
}

if __name__ == "__main__":
    sys.exit(main())
