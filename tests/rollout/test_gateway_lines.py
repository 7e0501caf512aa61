"""The route table out of the database: whole lines, who may ask, kits of recorded rows, and broken candidates."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from django.contrib.auth.models import Group, User

from audit.models import ApiToken, Event
from features.actions import snapshot
from features.models import Dataset
from gates import frozen_scores
from gates.frozen import Scores
from gates.models import GateRun, GateRunState, Preparation
from jobs.drain import drain
from jobs.models import Job
from registry.conversion import open_scorer, served_form
from registry.models import AUDITORS, ModelVersion
from rollout import actions, prediction_log
from rollout.gateway import kit_files, kits
from rollout.gateway.asked import Asked
from rollout.gateway.lines import Lines, read_line, read_tokens
from rollout.gateway.process import Process
from rollout.gateway.table import Column
from rollout.models import Endpoint, Fallback, GatewayProcess, Rollout, RolloutState, Route
from rollout.tasks import roll_back_broken
from tests import builders
from tests.builders import NOON, ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db


def at_canary(story: life.Life) -> Rollout:
    rollout = story.candidate()
    for _ in range(2):
        actions.advance(rollout, actor=ROBOT, reason="test", now=NOON)
    return rollout


# ---------------------------------------------------------------------- lines


def test_line__a_canary__has_all_that_a_gateway_needs() -> None:
    story = life.begin()
    rollout = at_canary(story)
    line = read_line(life.ENDPOINT)
    assert line.champion is not None
    assert line.candidate is not None
    assert (line.champion.pk, line.candidate.pk) == (story.champion.pk, rollout.version_id)
    assert (line.stage, line.share, line.step, line.salt) == ("canary", 0.5, 2, rollout.salt)
    assert line.rollout == rollout.pk
    assert line.candidate.inputs == (Column("x1", "double"), Column("x2", "double"))
    assert Path(line.champion.path).read_bytes()
    assert line.fallback is not None
    assert line.fallback.score == 0.2


def test_line__a_named_fallback__is_what_answers_at_the_kill_switch() -> None:
    story = life.begin()
    named = Fallback.objects.create(
        endpoint=story.endpoint, name="first", version=story.champion, note="Worked.", created_at=NOON
    )
    Endpoint.objects.filter(pk=story.endpoint.pk).update(enabled=False)
    Route.objects.filter(endpoint=story.endpoint).update(fallback=named)
    fallback = read_line(life.ENDPOINT).fallback
    assert fallback is not None
    assert (fallback.name, fallback.score, fallback.version is not None) == ("first", 0.2, True)


def test_line__an_artifact_that_is_gone__has_no_path() -> None:
    life.begin()
    path = Path(read_line(life.ENDPOINT).champion.path)  # type: ignore[union-attr]  # it has a champion
    path.chmod(0o600)
    path.write_bytes(b"something else")
    assert read_line(life.ENDPOINT).champion.path == ""  # type: ignore[union-attr]  # as above


def test_marks__change_with_the_route_and_with_what_may_be_edited() -> None:
    story = life.begin()
    lines = Lines()
    before = lines.marks()
    assert lines.marks() == before
    type(story.endpoint).objects.filter(pk=story.endpoint.pk).update(durable=True)
    assert lines.marks() != before


def test_marks__any_number_of_endpoints__is_one_query(django_assert_num_queries: Any) -> None:
    life.begin()
    with django_assert_num_queries(1):
        Lines().marks()


# ---------------------------------------------------------------------- tokens


def a_token(user: User, *scopes: str, days: float = 1) -> str:
    token, _ = ApiToken.objects.create(user, expiry=timedelta(days=days), scopes=list(scopes))
    return str(token.digest)


def test_tokens__with_scope_and_duty_only__may_ask() -> None:
    life.begin()
    paula, charlie, audrey = builders.paula(), builders.charlie(), builders.audrey()
    audrey.groups.add(Group.objects.get(name=AUDITORS), Group.objects.get(name="delay-product"))
    mine = a_token(paula, "serve")
    a_token(paula, "read")
    a_token(charlie, "serve")
    a_token(audrey, "serve")
    now = ApiToken.objects.get(digest=mine).created
    assert list(read_tokens(now)[life.ENDPOINT]) == [mine]
    assert read_tokens(now + timedelta(days=2))[life.ENDPOINT] == {}


def test_tokens__of_a_closed_account__may_not() -> None:
    life.begin()
    paula = builders.paula()
    mine = a_token(paula, "serve")
    User.objects.filter(pk=paula.pk).update(is_active=False)
    assert mine not in read_tokens(NOON)[life.ENDPOINT]


# ---------------------------------------------------------------------- kits


def prepared(version: ModelVersion, rows: int = 300) -> pa.Table:
    """A gate run of this version that kept its holdout and scores; the holdout."""
    gate_run = life.open_gates(version)
    GateRun.objects.filter(pk=gate_run.pk).update(state=GateRunState.RUNNING)
    table = pa.table({"x1": np.linspace(-2, 2, rows), "y": np.zeros(rows)})
    assert version.service is not None
    dataset: Dataset = snapshot(
        service=version.service,
        table=table.append_column("at", pa.array([NOON] * rows, pa.timestamp("us", tz="UTC"))),
        label="y",
        timestamp="at",
        purpose="holdout",
        as_of=NOON,
        actor=ROBOT,
        now=NOON,
    )
    with open_scorer(version, columns=["x1"]) as scorer:
        found = scorer.predict(table.select(["x1"]))
    scores = Scores(found.scores, {})
    digest = frozen_scores.store(frozen_scores.StoredScores(np.zeros(rows), scores, None))
    Preparation.objects.create(
        gate_run=gate_run,
        inputs={"holdout": dataset.digest},
        inputs_hash="hash",
        served_digest=served_form(version).digest,
        scores_digest=digest,
        prepared_at=NOON,
        wall_seconds=1.0,
    )
    return table


def test_kit__of_a_prepared_version__holds_recorded_rows_that_the_gateway_reproduces(data_root: Path) -> None:
    story = life.begin()
    prepared(story.champion)
    kit = kit_files.read(kits.make(story.champion))
    assert kit is not None
    assert 100 <= len(kit) <= kit_files.MOST_ROWS
    assert list(kit.columns) == ["x1"]
    process = Process()
    try:
        process.poller.begin()
        process.models.load_due()
        champion = read_line(life.ENDPOINT).champion
        assert champion is not None
        assert process.models.is_reproduced(champion), process.models.problem(champion)
    finally:
        process.stop()


def test_kit__nothing_recorded__is_empty_and_says_why() -> None:
    story = life.begin()
    kit = kit_files.read(kits.make(story.champion))
    assert kit is not None
    assert len(kit) == 0
    assert kit.why == "No gate run kept scores of this form."


def test_kit__a_version_is_proposed__is_made_by_a_job() -> None:
    story = life.begin()
    story.candidate()
    drain()
    assert Job.objects.filter(kind="rollout.kit", state="done").exists()
    assert len(list(kits.folder().glob("*.parquet"))) == 2
    assert kits.make_missing() == []


# ---------------------------------------------------------------------- a process on a database


def test_process__a_request__is_answered_and_in_the_log(settings: Any) -> None:
    settings.GATEHOUSE_GATEWAY_AUTH = "none"
    story = life.begin()
    process = Process()
    try:
        process.poller.begin()
        process.models.load_due()
        answered = process.house("").answer(life.ENDPOINT, Asked({"x1": [0.5, -0.5]}, 2, "r", ["N1", "N2"]))
        assert answered.versions == [story.champion.number] * 2
        assert process.heartbeat.tell()
        told = GatewayProcess.objects.get()
        assert told.routes[life.ENDPOINT]["champion"] == str(story.champion)
        assert [each["kind"] for each in told.problems] == ["not_compared"]
    finally:
        process.stop()
    log = prediction_log.read(life.ENDPOINT, since=NOON, until=NOON + timedelta(days=20_000))
    assert sorted(log["request_id"].to_pylist()) == ["r:0", "r:1"]
    assert log["score"].to_pylist() == pytest.approx(answered.scores.tolist())
    assert set(log["source"].to_pylist()) == {"gateway"}


# ---------------------------------------------------------------------- broken candidates


def told(rollout: Rollout, *, seconds_ago: float = 1, is_open: bool = True) -> None:
    broken = {"failures": 5, "problem": "NaN", "rollout": rollout.pk, "version_id": rollout.version_id}
    GatewayProcess.objects.create(
        name=f"web1:{seconds_ago}",
        started_at=NOON,
        seen_at=NOON - timedelta(seconds=seconds_ago),
        routes={life.ENDPOINT: {"broken": [broken]} if is_open else {}},
    )


def test_broken__a_canary_with_an_open_breaker__is_rolled_back_once_with_the_reason() -> None:
    rollout = at_canary(life.begin())
    told(rollout)
    assert roll_back_broken(now=NOON) == [rollout]
    assert roll_back_broken(now=NOON) == []
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ROLLED_BACK
    event = Event.objects.about(rollout).get(name="rollout.rolled_back")
    assert event.service == "rollouts"
    assert "circuit breaker" in event.reason


@pytest.mark.parametrize("case", ["closed", "long ago", "in shadow"])
def test_broken__anything_less__changes_nothing(case: str) -> None:
    story = life.begin()
    rollout = story.candidate() if case == "in shadow" else at_canary(story)
    told(rollout, seconds_ago=3600 if case == "long ago" else 1, is_open=case != "closed")
    assert roll_back_broken(now=NOON) == []
