"""A real gateway process: granian, the protocol, the spool, the loop; and a start without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from rollout.assignment import bucket
from tests.postgres_cluster import DATABASE, running_cluster, server_binaries
from tests.rollout.gateway_world import Running, World, wait_for
from tests.rollout.life import ENDPOINT

pytestmark = pytest.mark.slow

ROW = {"x1": [0.1], "x2": [0.2]}
ROLL_BACK = """
    UPDATE rollout_route SET revision = revision + 1, candidate_id = NULL, rollout_id = NULL, stage = '', share = 0,
    step = 0, salt = ''
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    built = World(tmp_path)
    built.build()
    return built


def entity(world: World, *, canary: bool) -> str:
    names = (f"N{each:03d}" for each in range(1000))
    return next(name for name in names if (bucket(name, salt=world.salt) < 0.5) == canary)


def test_gateway__serves_rolls_back_and_logs__all_of_it(world: World) -> None:
    sticky = entity(world, canary=True)
    with world.gateway() as running:
        assert running.ask(ROW, entity=sticky, token="").status == 401
        assert running.ask(ROW, entity=sticky, token=world.stranger).status in (401, 403)
        assert [running.ask(ROW, entity=sticky).arm for _ in range(5)] == ["canary"] * 5
        assert running.ask(ROW, entity=entity(world, canary=False)).arm == "champion"
        assert f'endpoint="{ENDPOINT}",arm="canary",status="ok"' in running.get("/metrics").body

        world.sql(ROLL_BACK)
        wait_for(lambda: running.ask(ROW, entity=sticky).arm == "champion", "the roll-back is seen")
        assert {running.ask(ROW, entity=sticky).arm for _ in range(50)} == {"champion"}
        asked = running.asked
        told = wait_for(
            lambda: world.sql("SELECT routes, problems FROM rollout_gatewayprocess WHERE ended_at IS NULL"),
            "it tells of itself",
        )
        assert ENDPOINT in told[0][0]
    assert len(world.logged()) == asked
    assert not list((world.folder / "spool").glob("*.s*ed")), "all of it was taken in"
    (ended,) = world.sql("SELECT ended_at FROM rollout_gatewayprocess")[0]
    assert ended is not None


def test_gateway__a_candidate_that_keeps_failing__is_rolled_back_by_itself(world: World) -> None:
    sticky = entity(world, canary=True)
    broken: dict[str, list[Any]] = {"x1": [0.1], "x2": [None]}
    with world.gateway() as running:
        answers = [running.ask(broken, entity=sticky) for _ in range(6)]
        assert [each.body["parameters"]["answered_by"] for each in answers] == ["champion"] * 6
        wait_for(
            lambda: world.sql("SELECT state FROM rollout_rollout ORDER BY id DESC")[0][0] == "rolled_back",
            "the rollout is taken back",
        )
        ((reason,),) = world.sql("SELECT state_reason FROM rollout_rollout WHERE state = 'rolled_back'")
        assert "circuit breaker" in reason
        wait_for(lambda: running.ask(ROW, entity=sticky).arm == "champion", "the route is followed")


def test_gateway__the_database_stops__goes_on_and_follows_when_it_is_back(tmp_path: Path) -> None:
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    with running_cluster(binaries) as cluster:
        world = World(tmp_path, url=cluster.url)
        world.build()
        sticky = entity(world, canary=True)
        with world.gateway("--no-ingest") as running:
            before = running.ask(ROW, entity=sticky)
            cluster.stop()
            wait_for(lambda: _is_away(running), "the gateway has noticed")
            answers = [running.ask(ROW, entity=sticky) for _ in range(20)]
            assert {each.arm for each in answers} == {before.arm} == {"canary"}
            cluster.resume()
            with psycopg.connect(host=str(cluster.folder), user=DATABASE, dbname=DATABASE) as connection:
                connection.execute(ROLL_BACK)
            wait_for(lambda: running.ask(ROW, entity=sticky).arm == "champion", "the route is followed again")


def _is_away(running: Running) -> bool:
    (line,) = [
        each for each in running.get("/metrics").body.splitlines() if each.startswith("gatehouse_database_away{")
    ]
    return bool(line.endswith(" 1"))


def test_gateway__started_without_a_database__serves_the_last_good_copy(world: World) -> None:
    sticky = entity(world, canary=True)
    with world.gateway("--no-ingest") as running:
        before = running.ask(ROW, entity=sticky)
    for file in world.folder.glob("gatehouse.sqlite3*"):
        file.rename(file.with_name(f"away-{file.name}"))
    world.database.mkdir()  # what can not be opened
    with world.gateway("--no-ingest") as running:
        again = running.ask(ROW, entity=sticky)
        assert running.ask(ROW, entity=sticky, token=world.stranger).status in (401, 403)
    assert again.status == 200
    assert again.arm == "canary"
    assert again.body["outputs"] == before.body["outputs"]
    assert list((world.folder / "spool").iterdir())
