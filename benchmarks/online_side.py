"""Our side of ``online_read`` and ``materialize``: a process on a portal of its own that answers one request at a time.

    with OnlineSide("postgres", data) as side:            # an empty portal with the workload's views, on that store
        side.materialize()                                # seconds; both views, from nothing
        side.read([[1], [2, 3]]); side.bare([[1]])        # each read's seconds, by us and by the driver alone
        side.serve([[1], [2, 3]])                         # the same through granian, as an operator runs it

Requests and answers are lines of JSON. As a program it is that process.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from benchmarks import portal, workloads
from benchmarks.feast_peer import servers
from benchmarks.processes import Load, Meter, free_port, load, wait_for_port

Store = Literal["sqlite", "postgres", "redis"]
STORES: tuple[Store, ...] = ("sqlite", "postgres", "redis")
NOW = workloads.END
"""Everything is materialized and read as of the end of the workload's year."""

_WARM_UP = 50
_ROOT = Path(__file__).resolve().parents[1]


class OnlineSide:
    """See the module. ``store``: where the values are; with Redis the portal's own database is SQLite."""

    def __init__(self, store: Store, data: Path, *, workload: str = "M") -> None:
        self.store, self._data, self._workload = store, data, workload

    def __enter__(self) -> OnlineSide:
        with ExitStack() as stack:
            self._variables = stack.enter_context(_empty_portal(self.store))
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.online_side", self._workload, str(self._data)]
            self._process = stack.enter_context(_running(command, self._variables))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def materialize(self) -> dict[str, float]:
        """Wall and CPU seconds of bringing both views to the online store, which is emptied first."""
        found: dict[str, float] = self._ask("materialize")
        return found

    def fill(self) -> None:
        """The same, unless it has been done."""
        self._ask("fill")

    def read(self, keys: Sequence[Sequence[int]]) -> list[float]:
        """Seconds of each read of all ten features, with their ages and statuses."""
        return list(self._ask("read", keys=[list(each) for each in keys]))

    def bare(self, keys: Sequence[Sequence[int]]) -> list[float]:
        """Seconds of each lookup of the same records by the driver alone, their ten numbers unpacked."""
        return list(self._ask("bare", keys=[list(each) for each in keys]))

    @contextmanager
    def serving(self) -> Iterator[Callable[[Sequence[Sequence[int]]], Load]]:
        """One worker of granian; call what it yields with the keys of each request."""
        token, service, offset = self._ask("token")
        port = free_port()
        variables = self._variables | offset | {
            "GATEHOUSE_DEBUG": "off",
            "GATEHOUSE_SECRET_KEY": "only for this benchmark " * 4,
            "GATEHOUSE_ALLOWED_HOSTS": "127.0.0.1",
            "GATEHOUSE_SSL_REDIRECT": "off",
        }  # fmt: skip
        granian = [sys.executable, "-m", "granian", "--interface", "wsgi", "mlops.wsgi:application"]
        options = ["--port", str(port), "--workers", "1", "--blocking-threads", "1", "--no-access-log"]
        with subprocess.Popen(
            [*granian, *options], cwd=_ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            address, headers = f"/api/v1/features/services/{service}/online/", {"Authorization": f"Bearer {token}"}

            def serve(keys: Sequence[Sequence[int]]) -> Load:
                bodies = [json.dumps({"rows": [{"entity_id": each} for each in asked]}).encode() for asked in keys]
                return load(server.pid, port, address, bodies, headers)

            try:
                wait_for_port(port)
                serve([[number] for number in range(_WARM_UP)])
                yield serve
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait()

    def _ask(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"our side ended during {command!r}; it said why on the error output")
        return json.loads(answer)


@contextmanager
def _empty_portal(store: Store) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        url = stack.enter_context(servers.postgres()).url if store == "postgres" else None
        variables = stack.enter_context(portal.empty(url))
        if store == "redis":
            variables["GATEHOUSE_ONLINE_STORE"] = f"redis://127.0.0.1:{stack.enter_context(servers.redis())}"
        yield variables


@contextmanager
def _running(command: Sequence[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=_ROOT, env=variables, **pipes) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


# ---------------------------------------------------------------------- inside the process


class _Inside:
    """What the process does; Django is set up when this is made."""

    def __init__(self, workload: str, data: Path) -> None:
        portal.set_up()
        self._service = portal.workload_service(workload, data)
        self._versions = list(dict.fromkeys(each.view_version for each in self._service.pinned()))
        self._is_filled = False

    def fill(self) -> None:
        if not self._is_filled:
            self.materialize()

    def materialize(self) -> dict[str, float]:
        from features import online
        from features.models import Materialization
        from features.tasks import bring_up_to_date

        for version in self._versions:
            online.store().forget(version.pk)
        Materialization.objects.all().delete()
        with Meter() as meter:
            bring_up_to_date(now=NOW)
        self._is_filled = True
        return {"wall": meter.cost.wall, "cpu": meter.cost.cpu}

    def read(self, keys: Sequence[Sequence[int]]) -> list[float]:
        from features import online

        service = self._service
        asked = [[{"entity_id": each} for each in entities] for entities in keys]
        return _timed(lambda entities: online.vectors(service, entities, now=NOW), asked)

    def bare(self, keys: Sequence[Sequence[int]]) -> list[float]:
        unpack = struct.Struct("<x5d").unpack  # a byte says which of the five floats are null
        lookup = self._lookup()

        def numbers(keys: Sequence[str]) -> list[Any]:
            return [unpack(record) for record in lookup(keys) if record is not None]

        return _timed(numbers, [[str(each) for each in entities] for entities in keys])

    def token(self) -> Any:
        from django.contrib.auth.models import User
        from django.db import transaction

        from audit import clock
        from audit.scopes import SERVE
        from mlops import tokens

        with transaction.atomic():  # the token's event tells of the account as well
            user = User.objects.filter(username="bench").first() or User.objects.create_superuser("bench")
            text = tokens.issue(user=user, scopes=[SERVE], days=1, reason="A benchmark.", actor=user, now=clock.now())
        return text, self._service.name, clock.starting_at(NOW)

    def _lookup(self) -> Callable[[Sequence[str]], Iterable[bytes | None]]:
        """The records of some keys, by the store's own driver."""
        from django.conf import settings
        from django.db import connection

        views = [version.pk for version in self._versions]
        if settings.ONLINE_STORE != "database":
            return self._redis_lookup(settings.ONLINE_STORE, views)
        connection.ensure_connection()
        raw: Any = connection.connection
        select = "SELECT view_version_id, entity_key, event_us, packed FROM features_onlinevalue WHERE"
        if connection.vendor == "postgresql":
            one = f"{select} view_version_id = %s AND entity_key = ANY(%s)"
            statement = " UNION ALL ".join([one] * len(views))
            import psycopg

            def in_arrays(keys: Sequence[str]) -> list[bytes]:
                parameters = [each for view in views for each in (view, keys)]
                cursor = psycopg.Cursor(raw).execute(statement, parameters, prepare=True, binary=True)
                return [record for _, _, _, record in cursor.fetchall()]

            return in_arrays

        def listed(keys: Sequence[str]) -> list[bytes]:
            one = f"{select} view_version_id = ? AND entity_key IN ({', '.join('?' * len(keys))})"
            statement = " UNION ALL ".join([one] * len(views))
            parameters = [each for view in views for each in (view, *keys)]
            return [record for _, _, _, record in raw.execute(statement, parameters).fetchall()]

        return listed

    def _redis_lookup(self, url: str, views: Sequence[int]) -> Callable[[Sequence[str]], Iterable[bytes | None]]:
        """One MGET of one record per key and view: the same bytes, each under a key of its own."""
        from redis import Redis

        from features import online

        client: Any = Redis.from_url(url)
        if not client.exists(f"bare:{views[0]}:0"):
            for view in views:
                client.mset({f"bare:{view}:{key}": record for key, _, _, record in online.store().contents(view)})
        return lambda keys: client.mget([f"bare:{view}:{key}" for view in views for key in keys])


def _timed(work: Callable[[Any], object], asked: Sequence[Any]) -> list[float]:
    walls = []
    for each in asked:
        start = time.perf_counter()
        work(each)
        walls.append(time.perf_counter() - start)
    return walls


def main(requests: IO[str], answers: IO[str], *, workload: str, data: str) -> None:
    inside = _Inside(workload, Path(data))
    for line in requests:
        asked = json.loads(line)
        answer = getattr(inside, asked.pop("command"))(**asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what others print is no answer
    main(sys.stdin, said, workload=sys.argv[1], data=sys.argv[2])
