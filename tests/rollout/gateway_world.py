"""A real ``manage.py gateway`` on a database file and a data folder of its own, with an endpoint in a canary.

world = World(tmp_path)
world.build()
with world.gateway() as running:
    running.ask({"x1": [0.1], "x2": [0.2]}, entity="N1")
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow.parquet as pq
from django.conf import settings

from tests.rollout.life import ENDPOINT

BUILD = """
import django; django.setup()
from datetime import timedelta
from django.db import connection
from audit import guards
from audit.models import ApiToken
from registry.models import ModelVersion
from rollout import actions
from rollout.gateway import kits
from tests import builders
from tests.builders import NOON, ROBOT
from tests.rollout import life

with connection.cursor() as cursor:  # tests build rows without the events that tell of them (tests/conftest.py)
    for guard in guards.declared():
        if isinstance(guard, guards.Owing):
            on = f' ON "{guard.table}"' if connection.vendor == "postgresql" else ""
            cursor.execute(f'DROP TRIGGER IF EXISTS "{guard.name}"{on}')
story = life.begin()
rollout = story.candidate()
for _ in range(2):
    actions.advance(rollout, actor=ROBOT, reason="test", now=NOON)
for version in ModelVersion.objects.all():
    kits.make(version)
for user in (builders.paula(), builders.charlie()):
    print(ApiToken.objects.create(user, expiry=timedelta(days=1), scopes=["serve"])[1])
print(rollout.salt)
"""


@dataclass
class Answer:
    status: int
    body: Any

    @property
    def arm(self) -> str:
        return str(self.body["parameters"]["arm"])


@dataclass
class Running:
    """A gateway that answers."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    asked: int = 0

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def ask(self, columns: Mapping[str, list[Any]], *, entity: str, token: str | None = None) -> Answer:
        """One inference of the protocol V2."""
        inputs = [
            {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values}
            for name, values in columns.items()
        ]
        body = json.dumps({"inputs": inputs, "parameters": {"entity": entity}}).encode()
        bearer = {"Authorization": f"Bearer {self.token if token is None else token}"}
        url = f"http://127.0.0.1:{self.port}/v2/models/{ENDPOINT}/infer"
        answer = self._send(urllib.request.Request(url, body, bearer))
        self.asked += answer.status == 200
        return answer

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return _read(reply.status, reply.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return _read(refused.code, refused.read())


def _read(status: int, body: bytes) -> Answer:
    try:
        return Answer(status, json.loads(body))
    except ValueError:
        return Answer(status, body.decode())


class World:
    """Data folder and, unless it is at ``url``, the database file below ``folder``."""

    def __init__(self, folder: Path, *, url: str = "") -> None:
        self.folder = folder
        self.database = folder / "gatehouse.sqlite3"
        self.url = url or f"sqlite:///{self.database}"
        self.salt = self.token = self.stranger = ""

    def build(self) -> None:
        """Migrate, and put a candidate into its last canary step (share one half)."""
        self._python("manage.py", "migrate", "--verbosity", "0")
        self.token, self.stranger, self.salt = self._python("-c", BUILD).split()[-3:]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def gateway(self, *options: str) -> Iterator[Running]:
        """A gateway that is ready; ended in order afterwards."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = (self.folder / "gateway.log").open("ab")
        command = [sys.executable, "manage.py", "gateway", "--port", str(port), *options]
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=self._environment, stdout=log, stderr=log)
        running = Running(process, port, self.token)
        try:
            wait_for(lambda: self._is_ready(running), f"the gateway is ready: {self.folder / 'gateway.log'}")
            yield running
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, self.log()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            log.close()

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def logged(self) -> list[dict[str, Any]]:
        """The rows of the prediction log, each request once."""
        files = sorted((self.folder / "predictions" / ENDPOINT).glob("*/*.parquet"))
        rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        return list({row["request_id"]: row for row in rows}.values())

    def _is_ready(self, running: Running) -> bool:
        assert running.process.poll() is None, self.log()
        try:
            return running.get("/v2/health/ready").status == 200
        except OSError:
            return False

    @property
    def _environment(self) -> dict[str, str]:
        mine = {
            "GATEHOUSE_DATA": str(self.folder),
            "GATEHOUSE_DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "mlops.settings",
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **mine}

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def wait_for(condition: Any, what: str, *, within: float = 180.0) -> Any:
    """The first true answer of ``condition``."""
    deadline = monotonic() + within
    while monotonic() < deadline:
        if answer := condition():
            return answer
        sleep(0.05)
    raise AssertionError(f"not within {within:.0f} s: {what}")
