"""Two people, or a person and the machine, act on one rollout at once: one wins, the others are told. PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from audit.errors import Conflict, TransitionError
from audit.models import Event
from registry.models import Alias
from rollout import actions
from rollout.models import Rollout, RolloutState, Route
from tests import builders
from tests.builders import NOON, ROBOT
from tests.races import THREADS, race
from tests.rollout import life

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def at_the_last_step() -> tuple[life.Life, Rollout]:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(2):
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    return story, rollout


def attempts(rollout: Rollout, *verbs: Callable[..., Any]) -> list[Any]:
    """Eight threads, each with its own copy read before, taking turns in which verb they call."""
    copies = [Rollout.objects.get(pk=rollout.pk) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        verbs[number % len(verbs)](copies[number], actor=ROBOT, reason=f"Thread {number}.", now=NOON)
        return "won"

    return race(attempt)


def assert_one_won(outcomes: list[Any], *, otherwise: type[Exception]) -> None:
    assert outcomes.count("won") == 1, outcomes
    assert sum(isinstance(each, otherwise) for each in outcomes) == THREADS - 1, outcomes


def test_promote_and_roll_back__eight_at_once__one_wins_and_the_route_agrees() -> None:
    story, rollout = at_the_last_step()
    assert_one_won(attempts(rollout, actions.promote, actions.roll_back), otherwise=TransitionError)

    rollout.refresh_from_db()
    champion = rollout.version if rollout.state == RolloutState.PROMOTED else story.champion
    assert Route.objects.get().champion == champion
    assert Route.objects.get().share == 0.0
    assert Alias.objects.get().version == champion
    ends = Event.objects.about(rollout).filter(name__in=["rollout.promoted", "rollout.rolled_back"])
    assert ends.count() == 1


def test_advance__eight_at_once__is_one_step() -> None:
    rollout = life.begin().candidate()
    assert_one_won(attempts(rollout, actions.advance), otherwise=TransitionError)
    rollout.refresh_from_db()
    assert rollout.step == 1
    assert Route.objects.get().share == 0.1
    assert Event.objects.about(rollout).filter(name="rollout.canary").count() == 1


def test_start__eight_candidates_at_once__one_is_active() -> None:
    story = life.begin()
    waiting = [life.proposed(life.a_version(story.registered_model, inputs=("x1",))) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        actions.start(waiting[number], actor=ROBOT, reason="Now.", now=NOON)
        return "won"

    assert_one_won(race(attempt), otherwise=Conflict)
    assert Rollout.objects.filter(state=RolloutState.SHADOW).count() == 1


def test_start__eight_first_versions_at_once__one_is_champion_and_the_others_must_compare() -> None:
    registered_model = builders.registered_model()
    life.endpoint(registered_model)
    waiting = [life.proposed(life.a_version(registered_model)) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        actions.start(waiting[number], actor=ROBOT, reason="Now.", now=NOON)
        return "won"

    race(attempt)
    assert Rollout.objects.filter(state=RolloutState.PROMOTED).count() == 1
    assert Rollout.objects.filter(state=RolloutState.SHADOW).count() == 1
    assert Route.objects.get().champion == Alias.objects.get().version
