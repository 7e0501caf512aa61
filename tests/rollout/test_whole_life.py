"""Whole rollouts with real little models, through the gateway, the log, the queue and the database."""

from __future__ import annotations

from datetime import timedelta

import pyarrow.compute as pc
import pytest

from audit.models import Event
from registry.models import Alias
from rollout import prediction_log
from rollout.models import AnalysisRun, RolloutState, Route
from tests.builders import NOON
from tests.rollout import life

pytestmark = pytest.mark.django_db


def test_rollout__a_better_version__promotes_itself_through_shadow_and_canary() -> None:
    story = life.begin()
    rollout = story.candidate()
    story.until_ended(rollout, hours=60)

    assert rollout.state == RolloutState.PROMOTED, rollout.state_reason
    assert Alias.objects.get(registered_model=story.registered_model).version == rollout.version
    route = Route.objects.get(endpoint=story.endpoint)
    assert (route.champion, route.candidate, route.share) == (rollout.version, None, 0.0)
    names = list(Event.objects.about(rollout).values_list("name", flat=True))
    expected = ["rollout.proposed", "rollout.shadow", "rollout.canary", "rollout.canary", "rollout.promoted"]
    assert names == expected
    looks = AnalysisRun.objects.filter(rollout=rollout)
    assert [look.number for look in looks] == list(range(1, len(looks) + 1))
    assert {look.stage for look in looks} == {"shadow", "canary"}
    shadow_end = looks.filter(conclusion="advance").first()
    assert shadow_end is not None
    assert "AUC" in shadow_end.summary
    assert shadow_end.detail["disagreement"]


def test_rollout__predicts_the_opposite__is_rolled_back_in_shadow_and_nobody_saw_it() -> None:
    story = life.begin()
    rollout = story.candidate(wrong_way=True)
    story.until_ended(rollout, hours=24)

    assert rollout.state == RolloutState.ROLLED_BACK
    assert "proven" in rollout.state_reason
    ended = Event.objects.about(rollout).last()
    assert ended is not None
    assert "loss" in ended.data["failed"]
    log = prediction_log.read(life.ENDPOINT, since=NOON, until=story.now)
    assert pc.unique(log["version_id"]).to_pylist() == [story.champion.pk]


def test_rollout__promised_far_more_than_it_shows__is_rolled_back_in_shadow() -> None:
    story = life.begin()
    rollout = story.candidate(auc=0.97)
    story.until_ended(rollout, hours=24)

    assert rollout.state == RolloutState.ROLLED_BACK
    assert "Promised AUC 0.970 [0.950, 0.990], shows 0.8" in rollout.state_reason


def test_rollout__fails_only_since_the_canary__is_rolled_back_without_a_human() -> None:
    story = life.begin()
    rollout = story.candidate()
    while rollout.state == RolloutState.SHADOW:
        story.hour()
        rollout.refresh_from_db()
    answers = story.hour(broken=0.3)
    story.until_ended(rollout, hours=24, broken=0.3)

    assert rollout.state == RolloutState.ROLLED_BACK
    assert "Errors:" in rollout.state_reason
    assert pc.all(pc.is_valid(answers["score"])).as_py()
    assert Route.objects.get(endpoint=story.endpoint).share == 0.0
    assert all(event.is_automatic for event in Event.objects.about(rollout))


def test_rollout__without_traffic__waits_and_is_held_once() -> None:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(100):
        story.now += timedelta(hours=1)
        story.background()
    rollout.refresh_from_db()

    assert rollout.state == RolloutState.SHADOW
    assert rollout.is_held
    assert Event.objects.about(rollout).filter(name="rollout.held").count() == 1
    assert set(rollout.analyses.values_list("conclusion", flat=True)) == {"wait", "hold"}


def test_rollout__outcomes_never_come__never_leaves_the_shadow() -> None:
    story = life.begin()
    rollout = story.candidate()
    story.until_ended(rollout, hours=20, known=False)

    assert rollout.state == RolloutState.SHADOW
    assert set(rollout.analyses.values_list("conclusion", flat=True)) == {"wait"}
