"""Feast as a subject of the correctness probes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import probes, workloads
from benchmarks.feast_peer.comparison import OfflineStore, OnlineStore, data, online_settings
from benchmarks.feast_peer.session import PeerError, Session

_WRITERS = 4
_VIEW = "probe"


class Feast:
    """Feast with an offline store and an online store, both set as Feast sets them, for a ``with`` block.

    ``as_known``: the historical join asks Feast to leave out what was created after the asked time.
    """

    def __init__(
        self, *, offline: OfflineStore = "duckdb", online: OnlineStore = "sqlite", as_known: bool = False
    ) -> None:
        self.offline, self.online, self.as_known = offline, online, as_known

    def __enter__(self) -> Feast:
        self._session = Session()
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def joined(self, history: pa.Table, frame: pa.Table, *, ttl: timedelta) -> pa.Table:
        with self._repository({_VIEW: history}, ttl) as folder:
            joined = self._join(folder, frame)
        return joined.rename_columns({f"{_VIEW}__value": "value"})

    def served(self, history: pa.Table, *, backfill: pa.Table | None, ttl: timedelta) -> dict[int, float | None]:
        deliveries = [history] if backfill is None else [history, backfill]
        with self._repository({_VIEW: pa.concat_tables(deliveries)}, ttl) as folder:
            for delivery in deliveries:
                times = pc.min_max(delivery.column("event_timestamp")).as_py()
                self._materialize(folder, times["min"] - probes.DAY, times["max"] + probes.DAY)
            served = self._served(folder, len(history))
        values = served.column(f"{_VIEW}__value").to_pylist()
        return dict(zip(served.column("entity_id").to_pylist(), values, strict=True))

    def both_ways(self, workload: str, at: datetime) -> tuple[pa.Table, pa.Table]:
        views = workloads.write(workload, data()).views
        features = {name: workloads.feature_names(name) for name in views}
        with self._folder() as (folder, settings):
            self._write(folder, {name: str(path) for name, path in views.items()}, features, settings, workloads.TTL)
            self._materialize(folder, workloads.START, at)
            offline = self._join(folder, probes.all_entities(workload, at))
            online = self._served(folder, workloads.WORKLOADS[workload].entities)
        return offline.sort_by("entity_id"), online.sort_by("entity_id")

    def lost_applies(self, count: int) -> probes.Finding:
        """By four processes, on Feast's default registry, a file. Some fail, because they read a half-written one."""
        names = [f"view_{number}" for number in range(count)]
        with self._repository({_VIEW: _row()}, probes.DAY) as folder, ExitStack() as stack:
            writers = [stack.enter_context(Session()) for _ in range(_WRITERS)]
            arguments = {"path": f"{folder}/{_VIEW}.parquet", "ttl_seconds": 1.0}

            def applied(number: int) -> set[str]:
                """Those of this writer's share that reported success."""
                done = set()
                for name in names[number::_WRITERS]:
                    with suppress(PeerError):
                        writers[number].call("add_view", folder=folder, name=name, **arguments)
                        done.add(name)
                return done

            with ThreadPoolExecutor(_WRITERS) as pool:
                reported = set().union(*pool.map(applied, range(_WRITERS)))
            there = set(self._session.call("view_names", folder=folder)["names"])
        return probes.Finding(len(reported - there), len(reported))

    def orders(self, seeds: Sequence[int]) -> set[tuple[str, ...]]:
        found = set()
        views = workloads.write("tiny", data()).views
        features = {name: workloads.feature_names(name) for name in views}
        with self._folder() as (folder, settings):
            self._write(folder, {name: str(path) for name, path in views.items()}, features, settings, probes.DAY)
            for seed in seeds:
                with Session({"PYTHONHASHSEED": str(seed)}) as session:
                    found.add(tuple(session.call("order", folder=folder)["order"]))
        return found

    def versions_of_ttls(self, *ttls: timedelta) -> list[str]:
        versions = []
        with self._repository({_VIEW: _row()}, probes.DAY) as folder:
            path = f"{folder}/{_VIEW}.parquet"
            for ttl in ttls:
                self._session.call(
                    "add_view", folder=folder, name="changing", path=path, ttl_seconds=ttl.total_seconds()
                )
                versions.append(self._session.call("view_version", folder=folder, name="changing")["version"])
        return versions

    @contextmanager
    def _repository(self, histories: dict[str, pa.Table], ttl: timedelta) -> Iterator[str]:
        """A folder with a repository of views of one feature, ``value``."""
        with self._folder() as (folder, settings):
            for name, history in histories.items():
                pq.write_table(history, f"{folder}/{name}.parquet")
            views = {name: f"{folder}/{name}.parquet" for name in histories}
            self._write(folder, views, dict.fromkeys(histories, ("value",)), settings, ttl)
            yield folder

    @contextmanager
    def _folder(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """A folder, and the settings of an empty online store."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            yield folder, online_settings(self.online, folder, stack)

    def _write(
        self,
        folder: str,
        views: dict[str, str],
        features: dict[str, tuple[str, ...]],
        settings: dict[str, Any],
        ttl: timedelta,
    ) -> None:
        what = {"views": views, "features": features, "ttl_seconds": ttl.total_seconds()}
        self._session.call("write", folder=folder, offline=self.offline, online=settings, **what)

    def _join(self, folder: str, frame: pa.Table) -> pa.Table:
        asked, answer = Path(folder, "frame.parquet"), Path(folder, "answer.parquet")
        pq.write_table(frame, asked)
        self._session.call("historical", folder=folder, frame=str(asked), result=str(answer), as_known=self.as_known)
        return pq.read_table(answer)

    def _materialize(self, folder: str, start: datetime, end: datetime) -> None:
        self._session.call("materialize", folder=folder, start=start.isoformat(), end=end.isoformat())

    def _served(self, folder: str, entities: int) -> pa.Table:
        answer = Path(folder, "served.parquet")
        self._session.call("served", folder=folder, entities=entities, result=str(answer))
        return pq.read_table(answer)


def _row() -> pa.Table:
    times = pa.array([probes.ASKED], pa.timestamp("us", "UTC"))
    return pa.table({"entity_id": [0], "event_timestamp": times, "created": times, "value": [1.0]})
