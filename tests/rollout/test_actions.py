"""The verbs: who may, what they refuse, and what they leave behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.errors import (
    AlreadyExists,
    Conflict,
    GateNotPassed,
    InvalidInput,
    NotPermitted,
    TransitionError,
)
from audit.models import Event
from gates import actions as gates
from registry.models import Alias
from rollout import actions, standstill
from rollout.judge import Conclusion, Kind, Look, Measured
from rollout.models import AnalysisRun, Decision, Endpoint, Rollout, RolloutState, Route
from tests import builders
from tests.builders import NOON, ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db


def route() -> Route:
    return Route.objects.get(endpoint__name=life.ENDPOINT)


def names_of(rollout: Rollout) -> list[str]:
    return list(Event.objects.about(rollout).values_list("name", flat=True))


def a_look(kind: Kind, *, number: int = 1, stage: str = "shadow", step: int = 0) -> Look:
    measured = [Measured("loss", "passed", "Loss is fine.", value=0.1, n=10, harm=-1.0, no_harm=5.0, needed=4.2)]
    return Look(number, stage, step, Conclusion(kind, "Because of the numbers."), measured, 10, 10)


# ---------------------------------------------------------------------- endpoints


def test_create_endpoint__for_a_model_without_champion__has_an_empty_route() -> None:
    endpoint = life.endpoint(builders.registered_model())
    assert route().champion is None
    assert [event.name for event in Event.objects.about(endpoint)] == ["endpoint.created"]


def test_create_endpoint__for_a_model_with_a_champion__serves_it_at_once() -> None:
    story = life.begin()
    second = actions.create_endpoint(
        name="boarding",
        title="Boarding",
        registered_model=story.registered_model,
        entity_column="tailnum",
        outcome_window=life.WINDOW,
        actor=builders.paula(),
        now=NOON,
    )
    assert Route.objects.get(endpoint=second).champion == story.champion


@pytest.mark.parametrize(
    ("field", "value"),
    [("plan", {"canary": {"stps": []}}), ("outcome_window", timedelta(0)), ("name", "Not A Slug")],
)
def test_create_endpoint__bad_input__names_the_field(field: str, value: Any) -> None:
    values: dict[str, Any] = {"name": "desk", "plan": {}, "outcome_window": life.WINDOW, field: value}
    with pytest.raises(InvalidInput) as refusal:
        actions.create_endpoint(
            title="Desk",
            registered_model=builders.registered_model(),
            entity_column="tailnum",
            actor=ROBOT,
            now=NOON,
            **values,
        )
    assert list(refusal.value.errors) == [field]
    assert not Endpoint.objects.exists()


def test_create_endpoint__twice__is_refused() -> None:
    life.endpoint(builders.registered_model())
    with pytest.raises(AlreadyExists):
        life.endpoint(builders.registered_model())


@pytest.mark.parametrize("who", [builders.alice, builders.pete, builders.charlie, builders.audrey])
def test_decide__without_the_product_duty__is_refused(who: Any) -> None:
    story = life.begin()
    with pytest.raises(NotPermitted, match="delay-product"):
        actions.decide(
            story.endpoint, kind="stop", registered_model=story.registered_model, note="No.", actor=who(), now=NOON
        )
    assert not Decision.objects.exists()


def test_decide__by_the_machine__is_refused() -> None:
    story = life.begin()
    with pytest.raises(NotPermitted, match="person"):
        actions.decide(
            story.endpoint, kind="stop", registered_model=story.registered_model, note="No.", actor=ROBOT, now=NOON
        )


@pytest.mark.parametrize(("kind", "note", "field"), [("stop", "  ", "note"), ("hold", "Because.", "kind")])
def test_decide__bad_input__names_the_field(kind: str, note: str, field: str) -> None:
    story = life.begin()
    with pytest.raises(InvalidInput) as refusal:
        actions.decide(
            story.endpoint,
            kind=kind,
            registered_model=story.registered_model,
            note=note,
            actor=builders.paula(),
            now=NOON,
        )
    assert list(refusal.value.errors) == [field]


def test_decide__stop_twice__is_a_conflict_and_one_decision() -> None:
    story = life.begin()
    values: dict[str, Any] = {"registered_model": story.registered_model, "actor": builders.paula(), "now": NOON}
    actions.decide(story.endpoint, kind="stop", note="Wrong alarms.", **values)
    with pytest.raises(Conflict, match="stopped already"):
        actions.decide(story.endpoint, kind="stop", note="Again.", **values)
    assert Decision.objects.count() == 1
    assert not story.endpoint.enabled


def test_decide__another_model_serves__ends_candidates_and_waits_for_its_champion() -> None:
    story = life.begin()
    rollout = story.candidate()
    other = builders.registered_model("late-departure")
    actions.decide(
        story.endpoint, kind="serve", registered_model=other, note="New product.", actor=builders.paula(), now=NOON
    )
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ABORTED
    assert (route().champion, route().candidate) == (None, None)
    assert story.endpoint.registered_model == other


# ---------------------------------------------------------------------- proposing and starting


def test_propose__twice_for_one_gate_run__is_one_rollout_and_one_event() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    gate_run = life.passed_gates(version)
    both = [
        actions.propose(version, gate_run=gate_run, actor=ROBOT, reason="It passed.", now=NOON)[0] for _ in range(2)
    ]
    assert both[0] == both[1]
    assert names_of(both[0]) == ["rollout.proposed"]


def test_propose__the_version_that_serves__proposes_nothing() -> None:
    story = life.begin()
    again = life.passed_gates(story.champion)
    assert actions.propose(story.champion, gate_run=again, actor=ROBOT, reason="Again.", now=NOON) == []


def test_propose__gates_not_passed__is_refused() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    with pytest.raises(GateNotPassed):
        actions.propose(version, gate_run=life.open_gates(version), actor=ROBOT, reason="Now.", now=NOON)
    others = story.champion.gate_runs.get()
    with pytest.raises(GateNotPassed):
        actions.propose(version, gate_run=others, actor=ROBOT, reason="Now.", now=NOON)


def test_start__a_newer_policy_is_in_force__is_refused() -> None:
    story = life.begin()
    rollout = life.proposed(life.a_version(story.registered_model))
    life.new_policy(story.registered_model)
    with pytest.raises(GateNotPassed, match="run the gates again"):
        actions.start(rollout, actor=ROBOT, reason="Now.", now=NOON)


def test_start__the_first_version__is_champion_on_its_gates_alone() -> None:
    story = life.begin()
    first = Rollout.objects.get(version=story.champion)
    assert names_of(first) == ["rollout.proposed", "rollout.promoted"]
    assert "nothing to compare with" in first.state_reason
    assert Alias.objects.get().version == story.champion
    assert route().champion == story.champion


def test_start__another_is_active__is_a_conflict() -> None:
    story = life.begin()
    story.candidate()
    second = life.proposed(life.a_version(story.registered_model))
    with pytest.raises(Conflict, match="one candidate at a time"):
        actions.start(second, actor=ROBOT, reason="Now.", now=NOON)
    second.refresh_from_db()
    assert second.state == RolloutState.PENDING


def test_start__in_shadow__routes_the_candidate_without_a_share_and_freezes_the_plan() -> None:
    story = life.begin()
    rollout = story.candidate()
    assert (route().stage, route().share, route().candidate) == ("shadow", 0.0, rollout.version)
    assert rollout.incumbent == story.champion
    assert rollout.plan["look_every_hours"] == 6


# ---------------------------------------------------------------------- steps


def test_advance__step_by_step__raises_the_share_and_stops_at_the_last() -> None:
    story = life.begin()
    rollout = story.candidate()
    shares = []
    for _ in range(2):
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
        shares.append(route().share)
    assert shares == [0.1, 0.5]
    with pytest.raises(TransitionError, match="last step"):
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    steps = Event.objects.about(rollout).filter(name="rollout.canary").order_by("id")
    assert [event.data["step"] for event in steps] == [1, 2]


def test_promote__before_the_last_step__is_refused() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    with pytest.raises(TransitionError, match="last canary step"):
        actions.promote(rollout, actor=ROBOT, reason="Now.", now=NOON)


def test_advance__by_a_person_while_the_rules_decide__is_refused() -> None:
    story = life.begin()
    rollout = story.candidate()
    with pytest.raises(Conflict, match="not held"):
        actions.advance(rollout, actor=builders.paula(), reason="I want it.", now=NOON)
    with pytest.raises(NotPermitted):
        actions.advance(rollout, actor=builders.alice(), reason="I want it.", now=NOON)


def test_advance__by_the_product_owner_when_held__is_possible() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.record_look(rollout, a_look(Kind.HOLD), actor=ROBOT, now=NOON)
    actions.advance(rollout, actor=builders.paula(), reason="We have seen enough.", now=NOON)
    assert rollout.state == RolloutState.CANARY
    assert names_of(rollout)[-2:] == ["rollout.held", "rollout.canary"]


def test_abort__in_canary__leaves_the_champion_serving() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    actions.abort(rollout, actor=builders.pete(), reason="Maintenance.", now=NOON)
    answers = story.hour()
    assert set(answers["version"].to_pylist()) == {story.champion.number}
    assert (route().champion, route().share, route().stage) == (story.champion, 0.0, "")
    assert Alias.objects.get().version == story.champion
    with pytest.raises(TransitionError, match="it has ended"):
        rollout.move(RolloutState.CANARY, actor=ROBOT, reason="Again.")


@pytest.mark.parametrize("who", [builders.alice, builders.pete])
def test_pause_and_resume__by_science_or_platform__takes_traffic_off_and_back_for_the_same_entities(who: Any) -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    before = route()
    actions.pause(rollout, actor=who(), reason="Looking into it.", now=NOON)
    assert (route().share, route().candidate) == (0.0, None)
    actions.resume(rollout, actor=who(), reason="All clear.", now=NOON + timedelta(hours=3))
    after = route()
    assert (after.share, after.salt, after.step, after.candidate) == (before.share, before.salt, 1, rollout.version)
    assert after.revision == before.revision + 2
    assert rollout.step_since == NOON
    assert standstill.counted(rollout, NOON, now=NOON + timedelta(hours=5)) == timedelta(hours=2)
    assert names_of(rollout)[-2:] == ["rollout.paused", "rollout.resumed"]


@pytest.mark.parametrize("who", [builders.paula, builders.charlie, builders.audrey])
@pytest.mark.parametrize("verb", [actions.pause, actions.abort])
def test_pause_and_abort__without_the_duty__are_refused(who: Any, verb: Any) -> None:
    story = life.begin()
    rollout = story.candidate()
    actor: User = who()
    with pytest.raises(NotPermitted):
        verb(rollout, actor=actor, reason="I want to.", now=NOON)
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.SHADOW


@pytest.mark.parametrize("verb", [actions.pause, actions.abort])
def test_pause_and_abort__without_a_reason__are_refused(verb: Any) -> None:
    story = life.begin()
    with pytest.raises(InvalidInput, match="reason"):
        verb(story.candidate(), actor=ROBOT, reason=" ", now=NOON)


# ---------------------------------------------------------------------- a policy that took force on the way


def test_advance__from_the_shadow_under_a_replaced_policy__aborts_and_judges_the_version_again() -> None:
    story = life.begin()
    rollout = story.candidate()
    policy = life.new_policy(story.registered_model)
    actions.record_look(rollout, a_look(Kind.ADVANCE), actor=ROBOT, now=NOON)
    rollout.refresh_from_db()

    assert rollout.state == RolloutState.ABORTED
    assert f"{policy} is in force now" in rollout.state_reason
    assert "judged again" in rollout.state_reason
    assert (route().candidate, route().champion) == (None, story.champion)
    run = rollout.version.gate_runs.get(policy=policy)
    assert run.state == "running"
    told = Event.objects.about(rollout).last()
    assert told is not None
    assert told.data["instead_of"] == "advance"


def test_advance__under_a_policy_by_which_it_failed_already__aborts_and_asks_for_no_second_run() -> None:
    story = life.begin()
    rollout = story.candidate()
    policy = life.new_policy(story.registered_model)
    run = gates.rerun(rollout.version, actor=ROBOT, reason="Again.", now=NOON)
    gates.give_up(run, actor=ROBOT, reason="No.", now=NOON)
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)

    assert rollout.state == RolloutState.ABORTED
    assert rollout.version.gate_runs.filter(policy=policy).count() == 1


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_resume__under_a_replaced_policy__aborts_and_judges_the_version_again(stage: str) -> None:
    story = life.begin()
    rollout = story.candidate()
    if stage == "canary":
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    actions.pause(rollout, actor=ROBOT, reason="Wait.", now=NOON)
    policy = life.new_policy(story.registered_model)
    actions.resume(rollout, actor=builders.pete(), reason="Go on.", now=NOON)

    assert rollout.state == RolloutState.ABORTED
    assert rollout.version.gate_runs.filter(policy=policy).count() == 1
    told = Event.objects.about(rollout).last()
    assert told is not None
    assert told.data["asked_by"] == "pete"


def test_canary__that_began_before_the_policy_was_replaced__goes_on_to_the_promotion() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    life.new_policy(story.registered_model)
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    actions.promote(rollout, actor=ROBOT, reason="Fine.", now=NOON)

    assert Alias.objects.get().version == rollout.version


# ---------------------------------------------------------------------- looks


@pytest.mark.parametrize(
    ("kind", "state"),
    [(Kind.WAIT, "shadow"), (Kind.HOLD, "shadow"), (Kind.ADVANCE, "canary"), (Kind.ROLL_BACK, "rolled_back")],
)
def test_record_look__each_conclusion__is_written_and_carried_out(kind: Kind, state: str) -> None:
    story = life.begin()
    rollout = story.candidate()
    analysis = actions.record_look(rollout, a_look(kind), actor=ROBOT, now=NOON)
    rollout.refresh_from_db()
    assert rollout.state == state
    assert analysis.conclusion == kind
    assert analysis.measurements.get().no_harm == 5.0


def test_record_look__twice__is_written_once() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.record_look(rollout, a_look(Kind.WAIT), actor=ROBOT, now=NOON)
    with pytest.raises(TransitionError, match="somebody else"):
        actions.record_look(rollout, a_look(Kind.WAIT), actor=ROBOT, now=NOON)
    assert AnalysisRun.objects.count() == 1


def test_record_look__paused_meanwhile__writes_nothing() -> None:
    story = life.begin()
    rollout = story.candidate()
    looking = Rollout.objects.get(pk=rollout.pk)
    actions.pause(rollout, actor=ROBOT, reason="Wait.", now=NOON)
    with pytest.raises(TransitionError, match="somebody was faster"):
        actions.record_look(looking, a_look(Kind.ADVANCE), actor=ROBOT, now=NOON)
    assert not AnalysisRun.objects.exists()
    assert route().share == 0.0


def test_hold__at_every_later_look__says_so_once_per_stage() -> None:
    story = life.begin()
    rollout = story.candidate()
    for number in (1, 2):
        actions.record_look(rollout, a_look(Kind.HOLD, number=number), actor=ROBOT, now=NOON)
    actions.advance(rollout, actor=builders.paula(), reason="Go on.", now=NOON)
    actions.record_look(rollout, a_look(Kind.HOLD, number=3, stage="canary", step=1), actor=ROBOT, now=NOON)
    held = Event.objects.about(rollout).filter(name="rollout.held").order_by("id")
    assert [event.data["stage"] for event in held] == ["shadow", "canary"]


# ---------------------------------------------------------------------- what the database refuses


def test_database__a_rollout_without_passed_gates__is_refused() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    with pytest.raises(IntegrityError, match="passed every gate"), transaction.atomic():
        Rollout.objects.create(
            endpoint=story.endpoint,
            registered_model=story.registered_model,
            version=version,
            gate_run=life.open_gates(version),
            state=RolloutState.PENDING,
            plan={},
            salt="x",
            created_at=NOON,
        )


def test_database__a_champion_that_was_never_promoted__is_refused_on_route_and_alias() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    with pytest.raises(IntegrityError, match="only promoted champions"), transaction.atomic():
        Route.objects.filter(endpoint=story.endpoint).update(champion=version)
    with pytest.raises(IntegrityError, match="only a promoted version"), transaction.atomic():
        Alias.objects.update(version=version)


def test_database__a_candidate_without_an_active_rollout__is_refused() -> None:
    story = life.begin()
    rollout = life.proposed(life.a_version(story.registered_model))
    with pytest.raises(IntegrityError, match="active rollout"), transaction.atomic():
        Route.objects.filter(endpoint=story.endpoint).update(candidate=rollout.version, rollout=rollout, share=1.0)


def test_database__looks_and_decisions__can_not_be_rewritten() -> None:
    story = life.begin()
    actions.record_look(story.candidate(), a_look(Kind.WAIT), actor=ROBOT, now=NOON)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        AnalysisRun.objects.update(conclusion="promote")
