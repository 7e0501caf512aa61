"""Our own gateway keeps the contract of traffic backends: a real process, a route that verbs move, its heartbeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.utils import ConnectionHandler

from audit import clock
from engines.traffic.port import Plan, Receipt, Split
from mlops.settings import SQLITE_OPTIONS
from registry.models import ModelVersion, RegisteredModel
from rollout import actions, routing
from rollout.actions.routes import reroute
from rollout.gateway import kits
from rollout.models import ACTIVE, Endpoint, Rollout
from rollout.traffic import GatewayBackend, route_of, split_of
from tests.builders import ROBOT
from tests.engines.traffic.contract import *  # noqa: F403  # the suite
from tests.rollout import life
from tests.rollout.gateway_world import Running, World

pytestmark = pytest.mark.slow

ROW = {"x1": [0.1], "x2": [0.2]}


@contextmanager
def on(database: Path) -> Iterator[None]:
    """This thread's connection leads to the world's database, the one that its gateway has."""
    before = connections["default"]
    told = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database), "OPTIONS": SQLITE_OPTIONS}
    mine = ConnectionHandler({"default": told})["default"]
    connections["default"] = mine
    try:
        yield
    finally:
        mine.close()
        connections["default"] = before


@dataclass(frozen=True)
class OnItsDatabase(GatewayBackend):
    """Whichever thread asks."""

    database: Path = Path()

    def apply(self, plan: Plan, fence: int) -> Receipt:
        with on(self.database):
            return super().apply(plan, fence)


@dataclass
class BehindGateway:
    running: Running
    backend: OnItsDatabase
    step: int = 0
    endpoint: str = life.ENDPOINT
    champion: str = "late-arrival-v1"

    @property
    def candidate(self) -> str:
        version = Rollout.objects.order_by("-pk").values_list("version__number", flat=True)[0]
        return f"late-arrival-v{version}"

    def begin(self) -> None:
        """A candidate of this test's own, in its canary."""
        endpoint = Endpoint.objects.get()
        for rollout in Rollout.objects.filter(state__in=ACTIVE):
            actions.abort(rollout, actor=ROBOT, reason="The next test.", now=clock.now())
        champion = ModelVersion.objects.get(number=1)
        story = life.Life(RegisteredModel.objects.get(), endpoint, champion, now=clock.now())
        rollout = story.candidate()
        kits.make(rollout.version)
        actions.advance(rollout, actor=ROBOT, reason="test", now=clock.now())

    def wants(self, share: float) -> tuple[Split, int]:
        self.step += 1
        endpoint = Endpoint.objects.get()
        reroute(endpoint, now=clock.now(), share=share, step=self.step)
        route = route_of(endpoint)
        return split_of(route), route.revision

    def another_rollout(self, share: float) -> tuple[Split, int]:
        self.begin()
        return self.wants(share)

    def ask(self, entities: Sequence[str]) -> Mapping[str, str]:
        answers = {entity: self.running.ask(ROW, entity=entity).body for entity in entities}
        return {entity: f"late-arrival-v{body['model_version']}" for entity, body in answers.items()}

    def rows(self, since: str) -> tuple[Sequence[Mapping[str, Any]], str]:
        read = self.backend.read(self.endpoint, since)
        return read.rows, read.place


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    built = World(tmp_path_factory.mktemp("world"))
    built.build()
    return built


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[Running]:
    with world.gateway() as gateway:
        yield gateway


@pytest.fixture
def served(world: World, running: Running, django_db_blocker: Any, settings: Any) -> Iterator[BehindGateway]:
    settings.DATA_ROOT = str(world.folder)
    storages = {**settings.STORAGES["artifacts"], "OPTIONS": {"location": str(world.folder / "artifacts")}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": storages}
    with django_db_blocker.unblock(), on(world.database):
        routing.forget()
        behind = BehindGateway(running, OnItsDatabase(database=world.database))
        behind.begin()
        yield behind
