"""What the same work costs with Feast: the historical join, materialization, online reads in process and over HTTP.

Everything is measured when it is called. With ``reuse=True`` (``--reuse-peer`` of a benchmark) the figures of an
earlier call since this machine was started are taken instead, where data and pins are still the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import workloads
from benchmarks.feast_peer import environment, servers
from benchmarks.feast_peer.kept import Kept, answers
from benchmarks.feast_peer.session import Session
from benchmarks.probes import differing
from benchmarks.processes import Cost, Load, free_port, load, wait_for_port

OfflineStore = Literal["duckdb", "dask"]
OnlineStore = Literal["sqlite", "postgres", "redis"]
VERSION = "0.67.0"
SERVE_PATH = "/get-online-features"


@dataclass(frozen=True)
class Historical:
    """A historical join by Feast: its cost, and the rows it gave back.

    ``answer`` is Parquet: the frame's columns, ``row`` (number in the frame) and ``<view>__<feature>``, in no promised
    order. Feast's dask store gives fewer rows than the frame has.
    """

    cost: Cost
    rows: int
    answer: Path


@dataclass(frozen=True)
class Reads:
    """Online reads one after another: each one's seconds, and the CPU seconds of a read in Feast's process."""

    walls: tuple[float, ...]
    cpu: float


def historical(
    workload: str,
    store: OfflineStore,
    *,
    frame: str = "full",
    as_known: bool = False,
    repeats: int = 1,
    reuse: bool = False,
) -> Historical:
    """The point-in-time join of a workload's frame with both of its views, a pandas frame in and out.

    ``as_known`` leaves out what was created after the asked time (our rule); Feast does not do so by itself. Each
    repetition has a process of its own, where a small join before it loads what Feast loads on first use; the cost is
    the median.
    """
    name = f"historical-{workload}-{store}-{frame}-{'known' if as_known else 'default'}"
    answer, kept = answers() / f"{name}.parquet", Kept(f"{name}-{repeats}")
    found = kept.read() if reuse and answer.exists() else None
    if found is None:
        found = [_joined(workload, store, frame, as_known=as_known, result=answer) for _ in range(repeats)]
        kept.write(found)
    return Historical(median_cost([Cost(**each["cost"]) for each in found]), found[0]["rows"], answer)


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Each figure's median."""
    return Cost(*(median(getattr(each, field.name) for each in costs) for field in fields(Cost)))


def _joined(workload: str, store: OfflineStore, frame: str, *, as_known: bool, result: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Session() as session:
        unfinished = result.with_suffix(f".{os.getpid()}")
        rest = {"result": str(unfinished), "as_known": as_known}
        for which, frames in (("tiny", "full"), (workload, frame)):
            place, asked = f"{folder}/{which}", workloads.write(which, data()).frames[frames]
            session.call("write", **_repository(place, which, offline=store, online=_sqlite(folder)))
            found = session.call("historical", folder=place, frame=str(asked), **rest)
        unfinished.rename(result)
    return found


@dataclass(frozen=True)
class Disagreement:
    """Rows of a frame: those that Feast did not give back, and of the others those with another value than ours."""

    lost: int
    different: int


def disagreement(theirs: Historical, ours: pa.Table) -> Disagreement:
    """Compare Feast's join with ours, which has the frame's rows in its order and columns ``<view>__<feature>``."""
    answer = pq.read_table(theirs.answer)
    rows = answer.column("row")
    different = np.zeros(len(answer), dtype=np.bool_)
    for name in [f"{view}__{feature}" for view in workloads.VIEWS for feature in workloads.feature_names(view)]:
        different |= differing(ours.column(name).take(rows), answer.column(name))
    return Disagreement(ours.num_rows - len(pc.unique(rows)), int(different.sum()))


class Repository:
    """A Feast repository over a workload with an online store of its own, for the length of a ``with`` block.

    Starts the online store's server. ``session`` is Feast's process.
    """

    session: Session

    def __init__(self, workload: str = "M", *, online: OnlineStore, offline: OfflineStore = "duckdb") -> None:
        self.workload, self.online, self.offline = workload, online, offline

    def __enter__(self) -> Repository:
        with ExitStack() as stack:
            self.folder = stack.enter_context(tempfile.TemporaryDirectory())
            settings = online_settings(self.online, self.folder, stack)
            self.session = stack.enter_context(Session())
            self.session.call("write", **_repository(self.folder, self.workload, offline=self.offline, online=settings))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def materialize(self) -> Cost:
        """Bring the newest value of every entity at the end of the workload's year to the online store."""
        start, end = workloads.START.isoformat(), workloads.END.isoformat()
        return Cost(**self.session.call("materialize", folder=self.folder, start=start, end=end)["cost"])

    def read(self, keys: Sequence[Sequence[int]]) -> Reads:
        """Read all ten features for each list of entities, through Feast's feature service, in Feast's process."""
        found = self.session.call("read", folder=self.folder, keys=[list(each) for each in keys])
        return Reads(tuple(found["walls"]), found["cpu"] / len(keys))

    def serve(self, keys: Sequence[Sequence[int]]) -> Load:
        """The same through one worker of ``feast serve``, after a few requests that are not counted."""
        port = free_port()
        options = ["--port", str(port), "--workers", "1", "--max-requests", "0", "--no-access-log"]
        command = [str(environment.binaries() / "feast"), "--chdir", self.folder, "serve", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for_port(port)
                bodies = [serve_body(entities) for entities in keys]
                load(server.pid, port, SERVE_PATH, bodies[:20], {})
                return load(server.pid, port, SERVE_PATH, bodies, {})
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait()


def materialize(online: OnlineStore, *, offline: OfflineStore = "duckdb", reuse: bool = False) -> Cost:
    """What it costs to bring 50k entities × 10 features of workload M to an empty online store."""
    kept = Kept(f"materialize-{online}-{offline}")
    if reuse and (earlier := kept.read()) is not None:
        return Cost(**earlier)
    with Repository(online=online, offline=offline) as repository:
        cost = repository.materialize()
    kept.write(vars(cost))
    return cost


def serve_body(entities: Sequence[int]) -> bytes:
    """A request of ``feast serve`` for all features of these entities."""
    return json.dumps({"feature_service": "both", "entities": {"entity_id": list(entities)}}).encode()


def data() -> Path:
    """Where the workloads' files are kept between runs."""
    return environment.cache() / "data"


def online_settings(store: OnlineStore, folder: str, stack: ExitStack) -> dict[str, Any]:
    """The ``online_store`` of a ``feature_store.yaml``; its server, where there is one, runs until ``stack`` closes."""
    if store == "sqlite":
        return _sqlite(folder)
    if store == "redis":
        return {"type": "redis", "connection_string": f"127.0.0.1:{stack.enter_context(servers.redis())}"}
    cluster = stack.enter_context(servers.postgres())
    address = {"host": str(cluster.folder), "database": "gatehouse", "user": "gatehouse", "password": "unused"}
    return {"type": "postgres", **address, "sslmode": "disable"}


def _sqlite(folder: str) -> dict[str, Any]:
    return {"type": "sqlite", "path": f"{folder}/online.db"}


def _repository(folder: str, workload: str, *, offline: OfflineStore, online: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the ``write`` command for the views of a workload."""
    views = workloads.write(workload, data()).views
    return {
        "folder": folder,
        "views": {name: str(path) for name, path in views.items()},
        "features": {name: workloads.feature_names(name) for name in views},
        "offline": offline,
        "online": online,
        "ttl_seconds": workloads.TTL.total_seconds(),
    }
