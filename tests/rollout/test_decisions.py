"""What a product owner decides: who may, now or later, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from audit import clock
from audit.errors import AlreadyExists, Conflict, InvalidInput, NotPermitted
from audit.models import Event
from jobs.drain import drain
from jobs.run import enqueue
from registry.models import ModelVersion
from rollout import actions, gateway, standstill
from rollout.judge import Conclusion, Kind, Look, Measured
from rollout.models import Decision, DecisionOutcome, Endpoint, Fallback, Rollout, RolloutState, Route
from tests import builders
from tests.builders import NOON, ROBOT, alice, charlie, paula, pete
from tests.rollout import life

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
WEEKLY = {"canary": {**life.PLAN["canary"], "freeze": [{"starts": "mon 13:00", "ends": "mon 15:00"}]}}
Verb = Callable[[life.Life, Any], Any]


def route() -> Route:
    return Route.objects.select_related("fallback").get(endpoint__name=life.ENDPOINT)


def endpoint() -> Endpoint:
    return Endpoint.objects.select_related("registered_model").get(name=life.ENDPOINT)


def told(name: str) -> list[Event]:
    return list(Event.objects.filter(name=name).order_by("id"))


def decide(kind: str, *, at: datetime = NOON, due: datetime | None = None, **values: Any) -> Decision:
    values = {"actor": paula(), "note": "We want it so.", "registered_model": endpoint().registered_model, **values}
    return actions.decide(endpoint(), kind=kind, now=at, takes_effect_at=due, **values)


def freeze(*, since: datetime = NOON, hours: int = 10, **values: Any) -> Any:
    values = {"actor": paula(), "note": "Christmas.", **values}
    return actions.freeze(endpoint(), starts_at=since, ends_at=since + hours * HOUR, now=NOON, **values)


def add_fallback(name: str = "careful", **values: Any) -> Fallback:
    answer: dict[str, Any] = {} if "version" in values else {"score": 0.9}
    values = {"actor": paula(), "note": "Rather warn.", **answer, **values}
    return actions.add_fallback(endpoint(), name=name, now=NOON, **values)


def a_look(kind: Kind, *, number: int = 1, stage: str = "shadow", step: int = 0) -> Look:
    measured = [Measured("loss", "passed", "Loss is fine.", value=0.1, n=10, harm=-1.0, no_harm=5.0, needed=4.2)]
    return Look(number, stage, step, Conclusion(kind, "Nothing speaks against it."), measured, 10, 10)


def looked(rollout: Rollout, kind: Kind, *, at: datetime = NOON) -> Rollout:
    rollout.refresh_from_db()
    number = rollout.analyses.count() + 1
    look = a_look(kind, number=number, stage=rollout.state, step=rollout.step)
    actions.record_look(rollout, look, actor=ROBOT, now=at)
    rollout.refresh_from_db()
    return rollout


def background(at: datetime) -> None:
    with clock.at(at):
        enqueue("rollout.reconcile", key=f"reconcile@{at}")
        drain()


def promoted(story: life.Life) -> ModelVersion:
    """A second version becomes champion, so that the first is an earlier one."""
    rollout = story.candidate()
    for _ in range(2):
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    actions.promote(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    return rollout.version


# ---------------------------------------------------------------------- whose decision it is

VERBS: dict[str, Verb] = {
    "stop": lambda story, actor: decide("stop", actor=actor),
    "pause": lambda story, actor: decide("pause", actor=actor),
    "serve": lambda story, actor: decide("serve", actor=actor),
    "schedule": lambda story, actor: decide("stop", due=NOON + HOUR, actor=actor),
    "freeze": lambda story, actor: freeze(actor=actor),
    "fallback": lambda story, actor: add_fallback(actor=actor),
    "withdraw": lambda story, actor: actions.withdraw(
        decide("stop", due=NOON + HOUR), reason="No.", actor=actor, now=NOON
    ),
    "unfreeze": lambda story, actor: actions.unfreeze(freeze(), reason="No.", actor=actor, now=NOON),
    "retire": lambda story, actor: actions.retire_fallback(add_fallback("old"), reason="No.", actor=actor, now=NOON),
}


@pytest.mark.parametrize("verb", VERBS)
def test_product_verbs__by_anybody_but_a_product_owner__are_refused(verb: str) -> None:
    story = life.begin()
    for who in (alice(), pete(), charlie(), builders.audrey(), ROBOT):
        with pytest.raises(NotPermitted), transaction.atomic():
            VERBS[verb](story, who)
    VERBS[verb](story, paula())


@pytest.mark.parametrize("verb", ["stop", "freeze", "fallback"])
def test_product_verbs__without_a_note__are_refused(verb: str) -> None:
    life.begin()
    call: Any = {"stop": lambda **note: decide("stop", **note), "freeze": freeze, "fallback": add_fallback}[verb]
    with pytest.raises(InvalidInput, match="Say why"):
        call(note=" ")


# ---------------------------------------------------------------------- fallbacks and the kill switch


def test_stop__to_a_named_score__is_on_the_route_and_in_its_event_until_released() -> None:
    life.begin()
    fallback = add_fallback()
    decide("stop", fallback=fallback)

    assert not endpoint().enabled
    assert route().fallback == fallback
    event = told("endpoint.decided")[-1]
    named = {"name": "careful", "score": 0.9, "version": None}
    assert (event.data["fallback"], event.data["route"]["fallback"]) == (named, named)
    decide("resume")
    assert (route().fallback, endpoint().enabled) == (None, True)
    assert told("endpoint.decided")[-1].data["route"]["fallback"] is None


def test_stop__without_a_named_one__tells_the_endpoints_own_score() -> None:
    life.begin()
    decide("stop")
    assert told("endpoint.decided")[-1].data["route"]["fallback"] == {"name": "", "score": 0.2, "version": None}


def test_stop__to_an_earlier_champion__is_told_by_its_bytes() -> None:
    story = life.begin()
    promoted(story)
    decide("stop", fallback=add_fallback("before", version=story.champion))
    version = told("endpoint.decided")[-1].data["route"]["fallback"]["version"]
    assert (version["version"], version["artifact"]) == (1, story.champion.artifact_digest)


def test_stop__while_stopped__is_a_conflict_but_to_another_fallback_changes_what_answers() -> None:
    life.begin()
    decide("stop")
    with pytest.raises(Conflict, match="stopped already"):
        decide("stop")
    other = add_fallback()
    decide("stop", fallback=other)
    assert route().fallback == other
    with pytest.raises(Conflict, match="stopped already"):
        decide("stop", fallback=other)


def test_decide__a_fallback_that_may_not_answer__names_the_field() -> None:
    story = life.begin()
    elsewhere = actions.create_endpoint(
        name="elsewhere",
        title="Elsewhere",
        registered_model=story.registered_model,
        entity_column="tailnum",
        outcome_window=HOUR,
        actor=ROBOT,
        now=NOON,
    )
    theirs = actions.add_fallback(elsewhere, name="theirs", score=0.1, note="So.", actor=paula(), now=NOON)
    with pytest.raises(InvalidInput, match="fallback: elsewhere/theirs is not of"):
        decide("stop", fallback=theirs)
    mine = add_fallback()
    with pytest.raises(InvalidInput, match="Only the kill switch"):
        decide("pause", fallback=mine)
    actions.retire_fallback(mine, reason="No.", actor=paula(), now=NOON)
    with pytest.raises(InvalidInput, match="is retired"):
        decide("stop", fallback=mine)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"score": None}, "score"),
        ({"score": 1.5}, "score"),
        ({"score": float("nan")}, "score"),
        ({"name": "Not A Slug"}, "name"),
    ],
)
def test_add_fallback__bad_input__names_the_field(values: dict[str, Any], field: str) -> None:
    life.begin()
    with pytest.raises(InvalidInput) as refusal:
        add_fallback(**values)
    assert list(refusal.value.errors) == [field]


def test_add_fallback__a_version_that_was_never_promoted__is_refused() -> None:
    story = life.begin()
    candidate = story.candidate().version
    with pytest.raises(InvalidInput, match="never promoted"):
        add_fallback(version=candidate)


def test_add_fallback__a_name_that_is_taken__is_refused_until_it_is_retired() -> None:
    life.begin()
    first = add_fallback()
    with pytest.raises(AlreadyExists):
        add_fallback(score=0.5)
    actions.retire_fallback(first, reason="Better one.", actor=paula(), now=NOON)
    add_fallback(score=0.5)
    assert [event.name for event in Event.objects.about(first)] == ["fallback.added", "fallback.retired"]
    assert told("fallback.added")[0].registered_model == "late-arrival"


def test_retire_fallback__while_it_answers_or_a_decision_waits_for_it__is_refused() -> None:
    life.begin()
    fallback = add_fallback()
    waiting = decide("stop", due=NOON + HOUR, fallback=fallback)
    with pytest.raises(Conflict, match="withdraw it first"):
        actions.retire_fallback(fallback, reason="No.", actor=paula(), now=NOON)
    actions.withdraw(waiting, reason="No.", actor=paula(), now=NOON)
    decide("stop", fallback=fallback)
    with pytest.raises(Conflict, match="answers now"):
        actions.retire_fallback(fallback, reason="No.", actor=paula(), now=NOON)
    decide("resume")
    actions.retire_fallback(fallback, reason="No.", actor=paula(), now=NOON)
    with pytest.raises(Conflict, match="retired already"):
        actions.retire_fallback(fallback, reason="No.", actor=paula(), now=NOON)


def test_serve__another_model_while_a_version_of_this_one_answers_as_fallback__is_refused() -> None:
    story = life.begin()
    other = builders.registered_model("late-departure")
    decide("stop", fallback=add_fallback(version=story.champion))
    with pytest.raises(Conflict, match="release the kill switch"):
        decide("serve", registered_model=other)
    with pytest.raises(IntegrityError, match="answers as the fallback"), transaction.atomic():
        Endpoint.objects.update(registered_model=other)


def test_feature_service__of_a_named_fallback__can_not_be_retired() -> None:
    story = life.begin()
    promoted(story)
    service = story.champion.service
    assert service is not None
    add_fallback("before", version=story.champion)
    with pytest.raises(Conflict, match=r"delay-warning/before \(fallback\)"):
        actions.retire_feature_service(service, actor=alice(), reason="Old.", now=NOON)


# ---------------------------------------------------------------------- what the database refuses


def test_database__a_fallback_of_another_endpoint_or_a_retired_one__is_refused_on_the_route() -> None:
    story = life.begin()
    retired = add_fallback("retired")
    actions.retire_fallback(retired, reason="No.", actor=paula(), now=NOON)
    mine = add_fallback("mine")
    decide("stop")
    for fallback in (retired,):
        with pytest.raises(IntegrityError, match="a fallback is of the endpoint itself"), transaction.atomic():
            Route.objects.filter(endpoint=story.endpoint).update(fallback=fallback)
    decide("resume")
    with pytest.raises(IntegrityError, match="only while the kill switch"), transaction.atomic():
        Route.objects.filter(endpoint=story.endpoint).update(fallback=mine)


def test_database__a_fallback_version_that_was_never_promoted__is_refused() -> None:
    story = life.begin()
    version = story.candidate().version
    with pytest.raises(IntegrityError, match="was promoted"), transaction.atomic():
        Fallback.objects.create(endpoint=story.endpoint, name="x", version=version, note="Why not.", created_at=NOON)


def test_database__a_fallback_that_answers__can_not_be_retired_or_changed() -> None:
    life.begin()
    fallback = add_fallback()
    decide("stop", fallback=fallback)
    with pytest.raises(IntegrityError, match="answers can not be retired"), transaction.atomic():
        Fallback.objects.update(retired_at=NOON)
    with pytest.raises(IntegrityError, match="can not be changed"), transaction.atomic():
        Fallback.objects.update(score=0.0)


def test_database__a_decision_by_somebody_else__is_refused() -> None:
    story = life.begin()
    values = {"endpoint": story.endpoint, "registered_model": story.registered_model, "note": "Mine.", "kind": "stop"}
    for who in (alice(), pete(), charlie()):
        with pytest.raises(IntegrityError, match="product group"), transaction.atomic():
            Decision.objects.create(decided_by=who, decided_at=NOON, takes_effect_at=NOON, **values)


def test_database__a_candidate_at_an_endpoint_whose_rollouts_are_paused__is_refused() -> None:
    story = life.begin()
    rollout = story.candidate()
    decide("pause")
    with pytest.raises(IntegrityError, match="paused rollouts"), transaction.atomic():
        Rollout.objects.filter(pk=rollout.pk).update(state=RolloutState.CANARY, step=1)
    with pytest.raises(IntegrityError, match="paused rollouts"), transaction.atomic():
        Route.objects.update(candidate=rollout.version, rollout=rollout, share=1.0, stage="canary")


def test_database__an_outcome_of_a_decision_that_was_at_once__is_refused() -> None:
    life.begin()
    decision = decide("stop")
    with pytest.raises(IntegrityError, match="made for later"), transaction.atomic():
        DecisionOutcome.objects.create(decision=decision, outcome="withdrawn", at=NOON)


# ---------------------------------------------------------------------- later


def test_schedule__before_its_time__changes_nothing_and_is_told() -> None:
    life.begin()
    decision = decide("stop", due=NOON + HOUR)
    assert endpoint().enabled
    assert decision.is_waiting
    event = told("endpoint.decided")[-1]
    assert event.data["takes_effect_at"] == (NOON + HOUR).isoformat()
    assert "route" not in event.data
    assert actions.carry_out_due(now=NOON + HOUR - timedelta(seconds=1)) == []


def test_schedule__when_due__is_carried_out_once_for_the_person_who_decided() -> None:
    life.begin()
    fallback = add_fallback()
    decision = decide("stop", due=NOON + HOUR, fallback=fallback)
    outcomes = [actions.carry_out_due(now=NOON + HOUR) for _ in range(2)]
    assert [len(each) for each in outcomes] == [1, 0]
    assert (endpoint().enabled, route().fallback) == (False, fallback)
    (event,) = told("endpoint.decision_carried_out")
    assert event.cause == told("endpoint.decided")[-1]
    assert (event.service, event.data["decided_by"], event.data["route"]["enabled"]) == ("rollouts", "paula", False)
    decision.refresh_from_db()
    assert decision.outcome.outcome == "carried_out"


def test_schedule__in_the_background__stops_and_releases_in_the_order_of_their_times() -> None:
    life.begin()
    decide("resume", due=NOON + 2 * HOUR)
    decide("stop", due=NOON + HOUR)
    background(NOON + 3 * HOUR)
    assert endpoint().enabled
    kinds = [event.data["kind"] for event in told("endpoint.decision_carried_out")]
    assert kinds == ["stop", "resume"]


@pytest.mark.parametrize("at", [NOON, NOON - HOUR])
def test_schedule__for_a_time_that_has_passed__names_the_field(at: datetime) -> None:
    life.begin()
    with pytest.raises(InvalidInput, match="takes_effect_at"):
        decide("stop", due=at)


def test_schedule__somebody_who_lost_the_duty__is_refused_when_due() -> None:
    life.begin()
    decide("stop", due=NOON + HOUR)
    paula().groups.clear()
    User.objects.get(username="paula").groups.clear()
    (outcome,) = actions.carry_out_due(now=NOON + HOUR)
    assert outcome.outcome == "refused"
    assert "may not do this" in outcome.note
    assert endpoint().enabled
    (event,) = told("endpoint.decision_refused")
    assert event.reason == outcome.note


def test_schedule__of_somebody_who_left__is_refused_when_due() -> None:
    life.begin()
    decide("stop", due=NOON + HOUR)
    User.objects.filter(username="paula").update(is_active=False)
    (outcome,) = actions.carry_out_due(now=NOON + HOUR)
    assert outcome.outcome == "refused"


def test_schedule__what_is_so_already_when_due__is_refused_with_the_reason() -> None:
    life.begin()
    decide("stop", due=NOON + HOUR)
    decide("stop")
    (outcome,) = actions.carry_out_due(now=NOON + HOUR)
    assert (outcome.outcome, outcome.note) == ("refused", "delay-warning is stopped already.")


def test_schedule__serve_another_model__ends_candidates_only_then() -> None:
    story = life.begin()
    rollout = story.candidate()
    other = builders.registered_model("late-departure")
    decide("serve", due=NOON + HOUR, registered_model=other)
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.SHADOW
    actions.carry_out_due(now=NOON + HOUR)
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ABORTED
    assert endpoint().registered_model == other
    assert told("endpoint.decision_carried_out")[0].registered_model == "late-departure"


def test_withdraw__before_and_after__is_told_or_refused() -> None:
    life.begin()
    decision = decide("stop", due=NOON + HOUR)
    actions.withdraw(decision, reason="Not needed.", actor=paula(), now=NOON)
    assert actions.carry_out_due(now=NOON + HOUR) == []
    assert endpoint().enabled
    assert told("endpoint.decision_withdrawn")[0].reason == "Not needed."
    with pytest.raises(Conflict, match="withdrawn"):
        actions.withdraw(decision, reason="Again.", actor=paula(), now=NOON)
    with pytest.raises(Conflict, match="at once"):
        actions.withdraw(decide("stop"), reason="No.", actor=paula(), now=NOON)


# ---------------------------------------------------------------------- pause and continue


def test_pause__takes_the_candidate_off_and_continue_lets_it_go_on_where_it_was() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    before = route()
    decide("pause", at=NOON + HOUR)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.paused_by_product) == (RolloutState.PAUSED, True)
    assert (route().candidate, route().share) == (None, 0.0)
    with pytest.raises(Conflict, match="waits for the product owner"):
        actions.resume(rollout, actor=alice(), reason="I want it.", now=NOON + HOUR)
    decide("continue", at=NOON + 3 * HOUR)
    rollout.refresh_from_db()
    after = route()
    assert (rollout.state, rollout.step, rollout.paused_at) == (RolloutState.CANARY, 1, None)
    assert (after.candidate, after.share, after.salt) == (before.candidate, before.share, before.salt)
    assert standstill.counted(rollout, NOON, now=NOON + 5 * HOUR) == 3 * HOUR


def test_pause__lets_none_start__and_continue_does() -> None:
    story = life.begin()
    decide("pause")
    waiting = life.proposed(life.a_version(story.registered_model))
    with pytest.raises(Conflict, match="product owner"):
        actions.start(waiting, actor=ROBOT, reason="Now.", now=NOON)
    background(NOON + HOUR)
    waiting.refresh_from_db()
    assert waiting.state == RolloutState.PENDING
    with clock.at(NOON + 2 * HOUR):
        decide("continue", at=NOON + 2 * HOUR)
        drain()
    waiting.refresh_from_db()
    assert waiting.state == RolloutState.SHADOW


def test_continue__leaves_what_somebody_else_had_paused() -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.pause(rollout, actor=alice(), reason="A bug.", now=NOON)
    decide("pause")
    decide("continue")
    background(NOON + HOUR)
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.PAUSED


def test_continue__while_frozen__goes_on_when_the_freeze_ends() -> None:
    story = life.begin()
    rollout = story.candidate()
    decide("pause")
    freeze(hours=5)
    decide("continue", at=NOON + HOUR)
    for hours, state in ((2, RolloutState.PAUSED), (6, RolloutState.SHADOW)):
        background(NOON + hours * HOUR)
        rollout.refresh_from_db()
        assert rollout.state == state


@pytest.mark.parametrize(("first", "again"), [("pause", "pause"), (None, "continue"), (None, "resume")])
def test_decide__what_is_so_already__is_a_conflict(first: str | None, again: str) -> None:
    life.begin()
    if first:
        decide(first)
    with pytest.raises(Conflict):
        decide(again)


def test_abort__of_what_the_product_owner_paused__is_open_to_those_with_the_duty() -> None:
    story = life.begin()
    rollout = story.candidate()
    decide("pause")
    rollout.refresh_from_db()
    actions.abort(rollout, actor=pete(), reason="Never mind.", now=NOON)
    assert rollout.state == RolloutState.ABORTED


# ---------------------------------------------------------------------- freezes


def test_freeze__lets_no_candidate_start_until_it_ends() -> None:
    story = life.begin()
    freeze(hours=5)
    waiting = life.proposed(life.a_version(story.registered_model))
    with pytest.raises(Conflict, match=r"freeze of delay-warning to end at 2013-04-01 17:00 UTC \(Christmas.\)"):
        actions.start(waiting, actor=ROBOT, reason="Now.", now=NOON + HOUR)
    background(NOON + HOUR)
    waiting.refresh_from_db()
    assert waiting.state == RolloutState.PENDING
    background(NOON + 5 * HOUR)
    waiting.refresh_from_db()
    assert waiting.state == RolloutState.SHADOW


def test_freeze__a_weekly_one_of_the_plan__holds_candidates_too() -> None:
    story = life.begin(plan={**life.PLAN, **WEEKLY, "queue": "every"})
    waiting = life.proposed(life.a_version(story.registered_model))
    with pytest.raises(Conflict, match="15:00 UTC"):
        actions.start(waiting, actor=ROBOT, reason="Now.", now=NOON + 2 * HOUR)
    actions.start(waiting, actor=ROBOT, reason="Now.", now=NOON + 3 * HOUR)


@pytest.mark.parametrize("kind", [Kind.ADVANCE, Kind.PROMOTE])
def test_record_look__a_step_earned_in_a_freeze__waits_says_so_once_and_is_taken_after(kind: Kind) -> None:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(2 if kind == Kind.PROMOTE else 0):
        actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    before = rollout.state
    freeze()
    for hours in (1, 2):
        looked(rollout, kind, at=NOON + hours * HOUR)
    assert rollout.state == before
    assert {each.conclusion for each in rollout.analyses.all()} == {"wait"}
    (said,) = told("rollout.waits")
    assert "Nothing speaks against it." in said.reason
    assert "waits for the freeze of delay-warning to end at 2013-04-01 22:00 UTC" in said.reason
    looked(rollout, kind, at=NOON + 10 * HOUR)
    assert rollout.state == (RolloutState.PROMOTED if kind == Kind.PROMOTE else RolloutState.CANARY)


@pytest.mark.parametrize("block", ["freeze", "pause", "stop"])
def test_roll_back_and_abort__never_wait(block: str) -> None:
    story = life.begin()
    rollout = story.candidate()
    freeze() if block == "freeze" else decide(block)
    rollout.refresh_from_db()
    if block != "pause":  # a paused one has no traffic: it can only be aborted
        looked(rollout, Kind.ROLL_BACK)
        assert rollout.state == RolloutState.ROLLED_BACK
        return
    actions.abort(rollout, actor=pete(), reason="Enough.", now=NOON)
    assert rollout.state == RolloutState.ABORTED


def test_freeze__a_held_rollout__waits_for_its_end_too() -> None:
    story = life.begin()
    rollout = looked(story.candidate(), Kind.HOLD)
    window = freeze()
    with pytest.raises(Conflict, match="freeze"):
        actions.advance(rollout, actor=paula(), reason="I want it.", now=NOON)
    actions.unfreeze(window, reason="We do it now.", actor=paula(), now=NOON)
    actions.advance(rollout, actor=paula(), reason="I want it.", now=NOON)
    assert rollout.state == RolloutState.CANARY


def test_unfreeze__twice_or_too_late__is_refused() -> None:
    life.begin()
    window = freeze(hours=2)
    with pytest.raises(Conflict, match="ended already"):
        actions.unfreeze(window, reason="No.", actor=paula(), now=NOON + 2 * HOUR)
    actions.unfreeze(window, reason="No.", actor=paula(), now=NOON + HOUR)
    with pytest.raises(Conflict, match="ended already"):
        actions.unfreeze(window, reason="No.", actor=paula(), now=NOON + HOUR)
    assert [event.data["freeze"] for event in told("endpoint.unfrozen")] == [window.pk]


@pytest.mark.parametrize(("since", "hours"), [(NOON, 0), (NOON, -1), (NOON - 9 * HOUR, 3)])
def test_freeze__that_is_none__names_the_field(since: datetime, hours: int) -> None:
    life.begin()
    with pytest.raises(InvalidInput, match="ends_at"):
        freeze(since=since, hours=hours)


# ---------------------------------------------------------------------- time that does not count


def test_counted__pauses_freezes_and_stops_that_overlap__count_once() -> None:
    story = life.begin()
    rollout = story.candidate()
    freeze(since=NOON + 2 * HOUR, hours=3)  # 2 to 5
    actions.pause(rollout, actor=alice(), reason="A bug.", now=NOON + 4 * HOUR)  # 4 to 9
    actions.unfreeze(
        story.endpoint.freezes.get(), reason="No.", actor=paula(), now=NOON + 5 * HOUR - timedelta(seconds=1)
    )
    decide("stop", at=NOON + 6 * HOUR)  # 6 to 8
    decide("resume", at=NOON + 6 * HOUR, due=NOON + 8 * HOUR)
    actions.carry_out_due(now=NOON + 8 * HOUR)
    rollout.refresh_from_db()
    running = standstill.counted(rollout, NOON, now=NOON + 10 * HOUR)
    assert running == 2 * HOUR  # 0 to 2; from 4 on it is paused
    actions.resume(rollout, actor=alice(), reason="Mended.", now=NOON + 9 * HOUR)
    assert standstill.counted(rollout, NOON, now=NOON + 10 * HOUR) == 3 * HOUR


def test_counted__an_open_pause_or_stop__counts_until_now() -> None:
    story = life.begin()
    rollout = story.candidate()
    decide("stop", at=NOON + HOUR)
    assert standstill.counted(rollout, NOON, now=NOON + 5 * HOUR) == HOUR
    assert standstill.counted(rollout, None, now=NOON) == timedelta(0)
    assert standstill.counted(rollout, NOON + HOUR, now=NOON) == timedelta(0)


def test_horizon__of_a_candidate_that_was_frozen__comes_as_much_later() -> None:
    story = life.begin(plan={**life.PLAN, "shadow": {"min_hours": 6, "min_rows": 10**6, "max_hours": 24}})
    rollout = story.candidate()
    freeze(since=NOON + HOUR, hours=24)
    conclusions = {}
    for hours in (12, 36, 54):
        background(NOON + hours * HOUR)
        last = rollout.analyses.order_by("-number").first()
        assert last is not None
        conclusions[hours] = last.conclusion
    assert conclusions == {12: "wait", 36: "wait", 54: "hold"}


# ---------------------------------------------------------------------- the queue


def test_propose__a_newer_version__takes_the_place_of_one_that_waits() -> None:
    story = life.begin()
    running = story.candidate()
    older = life.proposed(life.a_version(story.registered_model))
    newer = life.proposed(life.a_version(story.registered_model))
    for each in (running, older, newer):
        each.refresh_from_db()
    assert (running.state, older.state, newer.state) == ("shadow", "aborted", "pending")
    assert older.state_reason == (
        "late-arrival v4 passed its gates while late-arrival v3 still waited, and takes its place."
    )
    event = Event.objects.about(older).last()
    assert event is not None
    assert (event.name, event.data["superseded_by"], event.service) == ("rollout.aborted", newer.pk, "rollouts")


def test_propose__where_the_plan_gives_every_version_its_turn__they_wait_in_order() -> None:
    story = life.begin(plan={**life.PLAN, "queue": "every"})
    running = story.candidate()
    waiting = [life.proposed(life.a_version(story.registered_model)) for _ in range(2)]
    actions.abort(running, actor=pete(), reason="Enough.", now=NOON)
    background(NOON + HOUR)
    for each in waiting:
        each.refresh_from_db()
    assert [each.state for each in waiting] == ["shadow", "pending"]


def test_propose__an_older_version_that_passed_late__waits_behind_the_newer_one() -> None:
    story = life.begin()
    story.candidate()
    old, new = (life.a_version(story.registered_model) for _ in range(2))
    first, second = life.proposed(new), life.proposed(old)
    for each in (first, second):
        each.refresh_from_db()
    assert (first.state, second.state) == ("pending", "pending")


# ---------------------------------------------------------------------- what it costs


@pytest.mark.parametrize("verb", [actions.roll_back, actions.abort])
def test_end__of_a_canary__updates_the_route_first_and_once(verb: Any) -> None:
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    with CaptureQueriesContext(connection) as queries:
        verb(rollout, actor=ROBOT, reason="Worse.", now=NOON)
    written = [each["sql"] for each in queries if each["sql"].startswith(("UPDATE", "INSERT", "DELETE"))]
    assert '"rollout_route"' in written[0]
    assert sum('"rollout_route"' in sql for sql in written) == 1
    before = [each["sql"] for each in queries].index(written[0])
    asked = [each["sql"] for each in queries][:before]
    assert [sql for sql in asked if sql.startswith("SELECT") and '"rollout_rollout"' not in sql] == []
    assert len(asked) <= 3  # the transaction begins, the rollout is locked


# ---------------------------------------------------------------------- what the gateway does with it


@pytest.mark.parametrize("sort", ["score", "version"])
def test_gateway__while_the_kill_switch_is_pulled__answers_by_the_named_fallback(sort: str) -> None:
    story = life.begin()
    second = promoted(story)
    named = add_fallback() if sort == "score" else add_fallback("before", version=story.champion)
    decide("stop", fallback=named)
    asked = life.requests(20, at=NOON, seed=1)
    stopped = gateway.serve(life.ENDPOINT, asked, now=NOON, refresh=True).table
    assert set(stopped["answered_by"].to_pylist()) == {"fallback"}
    if sort == "score":
        assert set(stopped["score"].to_pylist()) == {0.9}
    else:
        assert set(stopped["version"].to_pylist()) == {story.champion.number}
        assert len(set(stopped["score"].to_pylist())) > 1
    decide("resume")
    again = gateway.serve(life.ENDPOINT, life.requests(5, at=NOON, seed=2), now=NOON, refresh=True).table
    assert set(again["version"].to_pylist()) == {second.number}
