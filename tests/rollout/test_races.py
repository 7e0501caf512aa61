"""Two people, or a person and the machine, act on one rollout at once: one wins, the others are told. PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audit.errors import Conflict, InvalidInput, TransitionError
from audit.models import Event
from registry.models import Alias
from rollout import actions
from rollout.judge import Conclusion, Kind, Look
from rollout.models import (
    ACTIVE,
    AnalysisRun,
    Decision,
    DecisionOutcome,
    Endpoint,
    Fallback,
    Rollout,
    RolloutState,
    Route,
)
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
    story = life.begin(plan={**life.PLAN, "queue": "every"})
    waiting = [life.proposed(life.a_version(story.registered_model, inputs=("x1",))) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        actions.start(waiting[number], actor=ROBOT, reason="Now.", now=NOON)
        return "won"

    assert_one_won(race(attempt), otherwise=Conflict)
    assert Rollout.objects.filter(state=RolloutState.SHADOW).count() == 1


def test_start__eight_first_versions_at_once__one_is_champion_and_the_others_must_compare() -> None:
    registered_model = builders.registered_model()
    life.endpoint(registered_model, plan={**life.PLAN, "queue": "every"})
    waiting = [life.proposed(life.a_version(registered_model)) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        actions.start(waiting[number], actor=ROBOT, reason="Now.", now=NOON)
        return "won"

    race(attempt)
    assert Rollout.objects.filter(state=RolloutState.PROMOTED).count() == 1
    assert Rollout.objects.filter(state=RolloutState.SHADOW).count() == 1
    assert Route.objects.get().champion == Alias.objects.get().version


# ---------------------------------------------------------------------- decisions of the product owner meanwhile


def told_of(name: str) -> int:
    return Event.objects.filter(name=name).count()


def at_most_one_active_and_the_route_agrees() -> None:
    """Whatever was decided in whichever order: one candidate at most, and none where the product owner lets none."""
    endpoint, route = Endpoint.objects.get(), Route.objects.get()
    running = list(Rollout.objects.filter(state__in=[RolloutState.SHADOW, RolloutState.CANARY]))
    assert len(list(Rollout.objects.filter(state__in=ACTIVE))) <= 1
    assert [each.pk for each in running] == ([route.rollout_id] if route.rollout_id else [])
    assert not (endpoint.rollouts_paused and running)
    assert route.share == 0.0 or route.stage == "canary"


@pytest.mark.parametrize("kind", ["pause", "stop", "freeze"])
def test_start__while_the_product_owner_decides__none_starts_after_the_decision(kind: str) -> None:
    story = life.begin(plan={**life.PLAN, "queue": "every"})
    waiting = [life.proposed(life.a_version(story.registered_model)) for _ in range(THREADS - 1)]
    paula = builders.paula()

    def attempt(number: int) -> Any:
        if number == THREADS - 1:
            endpoint = Endpoint.objects.select_related("registered_model").get()
            if kind == "freeze":
                window = {"starts_at": NOON, "ends_at": NOON + timedelta(hours=1)}
                return actions.freeze(endpoint, **window, note="Now.", actor=paula, now=NOON)
            model = endpoint.registered_model
            return actions.decide(endpoint, kind=kind, registered_model=model, note="Now.", actor=paula, now=NOON)
        actions.start(waiting[number], actor=ROBOT, reason="Now.", now=NOON)
        return "started"

    outcomes = race(attempt)
    started = outcomes.count("started")
    assert started <= 1, outcomes
    assert sum(isinstance(each, Conflict) for each in outcomes) == THREADS - 1 - started, outcomes
    at_most_one_active_and_the_route_agrees()
    if kind == "pause":
        assert Rollout.objects.filter(state=RolloutState.PAUSED).count() == started
    assert Rollout.objects.filter(state=RolloutState.PENDING).count() == THREADS - 1 - started


@pytest.mark.parametrize("kind", [Kind.ADVANCE, Kind.ROLL_BACK])
def test_looks__while_the_product_owner_pauses_and_lets_go_on__end_in_one_truth(kind: Kind) -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    paula = builders.paula()
    look = Look(1, "canary", 1, Conclusion(kind, "Because."), [], 10, 10)
    copies = [Rollout.objects.get(pk=rollout.pk) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        if number < 3:
            endpoint = Endpoint.objects.select_related("registered_model").get()
            decision = "pause" if number < 2 else "continue"
            model = endpoint.registered_model
            return actions.decide(endpoint, kind=decision, registered_model=model, note=".", actor=paula, now=NOON)
        return actions.record_look(copies[number], look, actor=ROBOT, now=NOON)

    outcomes = race(attempt)
    looks = [each for each in outcomes if isinstance(each, AnalysisRun)]
    refused = [each for each in outcomes if isinstance(each, Exception)]
    assert len(looks) <= 1, outcomes
    assert all(isinstance(each, Conflict) for each in refused), outcomes
    assert AnalysisRun.objects.count() == len(looks)
    at_most_one_active_and_the_route_agrees()


def test_serve_and_stop__with_promotions_and_roll_backs_at_once__the_route_serves_what_was_promoted() -> None:
    story, rollout = at_the_last_step()
    paula = builders.paula()
    copies = [Rollout.objects.get(pk=rollout.pk) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        if number % 4 == 0:
            return actions.promote(copies[number], actor=ROBOT, reason="Now.", now=NOON)
        if number % 4 == 1:
            return actions.roll_back(copies[number], actor=ROBOT, reason="Now.", now=NOON)
        endpoint = Endpoint.objects.select_related("registered_model").get()
        kind, model = ("serve", "stop")[number % 2], endpoint.registered_model
        return actions.decide(endpoint, kind=kind, registered_model=model, note="Now.", actor=paula, now=NOON)

    outcomes = race(attempt)
    assert all(each is None or isinstance(each, Decision | Conflict) for each in outcomes), outcomes
    rollout.refresh_from_db()
    assert rollout.state in (RolloutState.PROMOTED, RolloutState.ROLLED_BACK)
    assert Route.objects.get().champion in (story.champion, rollout.version)
    assert Alias.objects.get().version == (rollout.version if rollout.state == "promoted" else story.champion)
    assert told_of("rollout.promoted") - 1 + told_of("rollout.rolled_back") == 1
    assert not Endpoint.objects.get().enabled


def test_carry_out_due__eight_workers_and_one_who_withdraws__it_is_done_once_or_not_at_all() -> None:
    story = life.begin()
    paula = builders.paula()
    model, later = story.registered_model, NOON + timedelta(hours=1)
    values: dict[str, Any] = {"registered_model": model, "note": "At one.", "actor": paula, "now": NOON}
    decision = actions.decide(story.endpoint, kind="stop", takes_effect_at=later, **values)

    def attempt(number: int) -> Any:
        if number == 0:
            return actions.withdraw(decision, reason="No.", actor=paula, now=NOON)
        return actions.carry_out_due(now=later)

    outcomes = race(attempt)
    assert all(isinstance(each, list | DecisionOutcome | Conflict) for each in outcomes), outcomes
    outcome = DecisionOutcome.objects.get()
    assert told_of("endpoint.decision_carried_out") + told_of("endpoint.decision_withdrawn") == 1
    assert Endpoint.objects.get().enabled == (outcome.outcome == "withdrawn")


def test_propose__eight_versions_at_once__the_newest_alone_waits() -> None:
    story = life.begin()
    story.candidate()
    runs = [life.passed_gates(life.a_version(story.registered_model)) for _ in range(THREADS)]

    def attempt(number: int) -> Any:
        run = runs[number]
        return actions.propose(run.version, gate_run=run, actor=ROBOT, reason="It passed.", now=NOON)

    outcomes = race(attempt)
    assert all(isinstance(each, list) for each in outcomes), outcomes
    waiting = Rollout.objects.filter(state=RolloutState.PENDING).order_by("-version__number")
    assert waiting[0].version == runs[-1].version
    # older ones that came later wait behind it
    assert waiting[0].pk == min(each.pk for each in waiting)


def test_retire_fallback__while_the_kill_switch_is_pulled_to_it__one_of_them_is_told() -> None:
    story = life.begin()
    paula = builders.paula()
    fallback = actions.add_fallback(story.endpoint, name="careful", score=0.9, note=".", actor=paula, now=NOON)

    def attempt(number: int) -> Any:
        if number % 2:
            return actions.retire_fallback(Fallback.objects.get(), reason="No.", actor=paula, now=NOON)
        endpoint, model = Endpoint.objects.select_related("registered_model").get(), story.registered_model
        return actions.decide(
            endpoint, kind="stop", registered_model=model, note=".", fallback=fallback, actor=paula, now=NOON
        )

    outcomes = race(attempt)
    done = [each for each in outcomes if isinstance(each, Decision | Fallback)]
    assert len(done) == 1, outcomes
    assert all(isinstance(each, Decision | Fallback | Conflict | InvalidInput) for each in outcomes), outcomes
    route = Route.objects.get()
    assert (route.fallback_id is None) == (Fallback.objects.get().retired_at is not None)
