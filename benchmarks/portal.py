"""The portal's feature store as benchmarks use it: an empty portal, and our side of the correctness probes.

    with portal.empty() as variables:                     # a data root and a database of their own
        subprocess.run([...], env=variables)              # Django is set up once per process, so in another one
    portal.set_up()                                       # there: Django, with every table
    portal.view("driver", table, features=["rate"])       # a source with these rows, and a published view of it

As a program it works on the portal that the environment names and prints JSON: ``python -m benchmarks.portal probes
<data> <probe> …`` what probes find, ``… order <service>`` the order in which features are served.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import probes, workloads
from benchmarks.probes import DAY, Finding

if TYPE_CHECKING:
    from features.models import DataSource, FeatureService, FeatureViewVersion

NOW = datetime(2026, 11, 1, tzinfo=UTC)
"""Today, to the probes. Nothing of the portal reads the machine's clock for a value."""

_VIEW = "probe"


@contextmanager
def empty(database_url: str | None = None) -> Iterator[dict[str, str]]:
    """The environment of a process that works on an empty portal, on SQLite unless a database is named."""
    with TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        variables = {**os.environ, "GATEHOUSE_DATA": folder, "DJANGO_SETTINGS_MODULE": "mlops.settings"}
        variables.pop("GATEHOUSE_DATABASE_URL", None)
        yield variables | ({"GATEHOUSE_DATABASE_URL": database_url} if database_url else {})


def set_up() -> None:
    """Django in this process, on the portal that the environment names, with every table."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    django.setup()
    settings.DEBUG = False  # the debug cursor keeps every statement
    call_command("migrate", verbosity=0)


def source(name: str, *tables: pa.Table) -> DataSource:
    """A source of these rows, a file each, below the data root; they have columns event_timestamp and created."""
    folder = _folder(name)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return _define_source(name)


def source_of_file(name: str, path: Path) -> DataSource:
    """A source that is one big Parquet file, which is linked to where it may be, else copied."""
    place = _folder(name) / path.name
    try:
        place.hardlink_to(path)
    except OSError:  # another file system
        shutil.copy(path, place)
    return _define_source(name)


def applied(
    name: str, origin: DataSource, *, features: Sequence[str], ttl: timedelta | None, now: datetime = NOW
) -> FeatureViewVersion:
    """A draft of a view of the source's columns, by entity_id, known from ``created`` on."""
    from features import actions

    return actions.apply_view(
        name=name,
        entity=_entity(),
        expression=f"SELECT entity_id, event_timestamp, created AS known_at, {', '.join(features)} FROM {origin.name}",
        sources=[origin],
        features=list(features),
        ttl=ttl,
        lookback=timedelta(0),
        owner=_owner(),
        actor=_robot(),
        now=now,
    )


def published(version: FeatureViewVersion) -> FeatureViewVersion:
    from features import actions

    return actions.publish(version, actor=_robot(), reason="A benchmark needs it.", now=NOW)


def service(name: str, versions: Sequence[FeatureViewVersion]) -> FeatureService:
    """A service of all features of these published versions, in their order."""
    from features import actions

    features = [f"{version.view.name}.{feature}" for version in versions for feature in version.feature_names]
    return actions.define_service(name=name, features=features, owner=_owner(), actor=_robot(), now=NOW)


def workload_service(workload: str, data: Path) -> FeatureService:
    """The service of both views of a workload, whose files are below ``data``; nothing is materialized yet."""
    versions = []
    for view, path in workloads.write(workload, data).views.items():
        origin = source_of_file(f"{workload.lower()}_{view}", path)
        made = applied(view, origin, features=workloads.feature_names(view), ttl=workloads.TTL)
        versions.append(published(made))
    return service(workload.lower(), versions)


class Gatehouse:
    """The portal of this process as a subject of the probes; each answer gets views of its own."""

    def __init__(self, data: Path) -> None:
        """``data``: where the workloads' files are."""
        self._data = data
        self._numbers = count()

    def joined(self, history: pa.Table, frame: pa.Table, *, ttl: timedelta) -> pa.Table:
        from features import offline

        name = self._name()
        version = published(applied(name, source(name, history), features=["value"], ttl=ttl))
        joined = offline.training_frame(service(name, [version]), frame, timestamp="event_timestamp", as_of=NOW)
        return joined.rename_columns({f"{name}__value": "value"})

    def served(self, history: pa.Table, *, backfill: pa.Table | None, ttl: timedelta) -> dict[int, float | None]:
        """A backfill is a file of rows that arrive two days ago, after the history was materialized."""
        from features import online
        from features.materialize import materialize

        name = self._name()
        version = published(applied(name, source(name, history), features=["value"], ttl=ttl))
        pinned = service(name, [version])
        materialize(version, now=NOW - 3 * DAY)
        if backfill is not None:
            arrived = pa.array([NOW - 2 * DAY] * len(backfill), backfill.schema.field("created").type)
            position = backfill.schema.get_field_index("created")
            source(name, history, backfill.set_column(position, "created", arrived))
            materialize(version, now=NOW - DAY)
        keys = history.select(["entity_id"])
        answer = online.read(pinned, keys, now=NOW)
        values = answer.column(f"{name}__value").to_pylist()
        return dict(zip(keys.column("entity_id").to_pylist(), values, strict=True))

    def both_ways(self, workload: str, at: datetime) -> tuple[pa.Table, pa.Table]:
        from features import offline, online
        from features.materialize import materialize

        pinned = workload_service(workload, self._data)
        for version in {each.view_version for each in pinned.pinned()}:
            for before in (60, 7, 1, 0):  # the last three bring what arrived since
                materialize(version, now=at - before * DAY)
        frame = probes.all_entities(workload, at)
        trained = offline.training_frame(pinned, frame, timestamp="event_timestamp", as_of=at)
        return trained, online.read(pinned, frame.select(["entity_id"]), now=at)

    def lost_applies(self, count: int) -> Finding:
        """At once from as many threads: the first half versions of one view, the second half views of their own."""
        from django.db import connection

        from features.models import FeatureViewVersion

        origin = source(self._name(), _row())
        crowd, half = self._name(), count // 2
        gate = threading.Barrier(count)

        def apply(number: int) -> int:
            """The key of the version that was reported."""
            gate.wait(timeout=120)
            try:
                name, ttl = (crowd, number + 1) if number < half else (f"{crowd}_{number}", 1)
                return applied(name, origin, features=["value"], ttl=timedelta(seconds=ttl)).pk
            finally:
                connection.close()

        with ThreadPoolExecutor(count) as pool:
            reported = list(pool.map(apply, range(count)))
        there = FeatureViewVersion.objects.filter(pk__in=reported)
        numbers = set(there.filter(view__name=crowd).values_list("number", flat=True))
        lost = count - there.count() + len(set(range(1, half + 1)) - numbers)
        return Finding(lost, count)

    def orders(self, seeds: Sequence[int]) -> set[tuple[str, ...]]:
        """Of a service of ten features, read in a process for each seed."""
        histories = {view: pq.read_table(path) for view, path in workloads.write("tiny", self._data).views.items()}
        versions = []
        for view, history in histories.items():
            name = self._name()
            made = applied(name, source(name, history), features=workloads.feature_names(view), ttl=None)
            versions.append(published(made))
        pinned = service(self._name(), versions)
        return {tuple(_in_another_process(pinned.name, seed)) for seed in seeds}

    def versions_of_ttls(self, *ttls: timedelta) -> list[str]:
        name = self._name()
        origin = source(name, _row())
        return [str(applied(name, origin, features=["value"], ttl=ttl)) for ttl in ttls]

    def _name(self) -> str:
        return f"{_VIEW}_{next(self._numbers)}"


def served_order(name: str) -> list[str]:
    """The columns of an online read of a service, in the order in which they come."""
    from features import online
    from features.models import FeatureService

    pinned = FeatureService.objects.get(name=name)
    columns: list[str] = online.read(pinned, pa.table({"entity_id": [0]}), now=NOW).column_names
    return columns


def _in_another_process(name: str, seed: int) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.portal", "order", name]
    variables = {**os.environ, "PYTHONHASHSEED": str(seed)}
    order: list[str] = json.loads(subprocess.run(command, env=variables, check=True, capture_output=True).stdout)
    return order


def _folder(source_name: str) -> Path:
    from django.conf import settings

    folder = Path(settings.DATA_ROOT) / "sources" / source_name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _define_source(name: str) -> DataSource:
    from features import actions

    return actions.define_source(
        name=name,
        uri=f"sources/{name}",
        event_timestamp="event_timestamp",
        created_timestamp="created",
        owner=_owner(),
        actor=_robot(),
        now=NOW,
    )


def _entity() -> Any:
    from features import actions

    return actions.define_entity(name="entity", join_keys=["entity_id"], actor=_robot(), now=NOW)


def _owner() -> Any:
    from django.contrib.auth.models import Group

    return Group.objects.get_or_create(name="benchmarks")[0]


def _robot() -> Any:
    from audit.trail import Service

    return Service("benchmark")


def _row() -> pa.Table:
    times = pa.array([probes.ASKED], pa.timestamp("us", "UTC"))
    return pa.table({"entity_id": [0], "event_timestamp": times, "created": times, "value": [1.0]})


def main(command: str, argument: str, *names: str) -> None:
    set_up()
    if command == "order":
        print(json.dumps(served_order(argument)))
        return
    subject = Gatehouse(Path(argument))
    asked = [probe for probe in probes.ALL if probe.__name__ in names]
    print(json.dumps({probe.__name__: asdict(probe(subject)) for probe in asked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
