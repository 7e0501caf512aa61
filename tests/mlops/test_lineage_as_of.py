"""What served at a moment, from the log alone: against what the routes said, over random histories."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import clock
from mlops.lineage import Served, as_of
from mlops.lineage.as_of import Gates, Version, periods
from registry.models import Tier
from rollout import actions
from rollout.models import Rollout
from tests.builders import NOON, ROBOT, alice, audrey, charlie, group, paula, registered_model
from tests.mlops.lineage_walk import State, Walk, a_policy, a_version, an_endpoint, passed

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
EXPERIMENTAL = {"tier": Tier.EXPERIMENTAL}


def states(served: list[Served]) -> State:
    """The answer in the words of ``lineage_walk.routes``."""
    return {
        each.endpoint: (
            each.model,
            str(each.champion) if each.champion else None,
            str(each.candidate.version) if each.candidate else None,
            each.candidate.stage if each.candidate else "",
            each.candidate.share if each.candidate else 0.0,
            each.is_enabled,
            (each.fallback.name, each.fallback.score, str(each.fallback.version) if each.fallback.version else None)
            if each.fallback
            else None,
        )
        for each in served
    }


@pytest.mark.parametrize("seed", range(6))
def test_as_of__any_moment_of_a_random_history__says_what_the_routes_said(seed: int) -> None:
    models = [registered_model(f"model-{name}", **EXPERIMENTAL) for name in "ab"]
    for model in models:
        a_policy(model)
    walk = Walk(models, random.Random(seed))
    for _ in range(90):
        walk.step()
    assert len(set(walk.done)) > 6  # it was a history worth the name
    for moment, said in walk.seen:
        assert states(as_of(moment, reader=audrey())) == said
    for (_, said), (then, _) in zip(walk.seen[:-1], walk.seen[1:], strict=True):
        assert states(as_of(then - timedelta(microseconds=1), reader=audrey())) == said


def canary() -> tuple[Rollout, Rollout]:
    """At noon the first version was promoted; an hour later another went into shadow, then into canary."""
    model = registered_model(**EXPERIMENTAL)
    with clock.at(NOON):
        a_policy(model)
        an_endpoint("delay-warning", model)
        first = _proposed(a_version(model))
        actions.start(first, actor=paula(), reason="We begin.", now=NOON)
    with clock.at(NOON + HOUR):
        second = _proposed(a_version(model))
        actions.start(second, actor=ROBOT, reason="Its turn.", now=NOON + HOUR)
    with clock.at(NOON + 2 * HOUR):
        actions.advance(second, actor=ROBOT, reason="No harm in shadow.", now=NOON + 2 * HOUR)
    return first, second


def _proposed(version: object) -> Rollout:
    gate_run = passed(version)  # type: ignore[arg-type]  # a ModelVersion
    return actions.propose(gate_run.version, gate_run=gate_run, actor=ROBOT, reason="It passed.", now=clock.now())[0]


def test_as_of__during_a_canary__tells_both_with_share_evidence_and_who_let_them_in() -> None:
    first, second = canary()
    (served,) = as_of(NOON + 3 * HOUR, reader=alice())
    assert (str(served.champion), served.since) == (str(first.version), NOON)
    assert served.let_in is not None
    assert (served.let_in.by, served.let_in.is_automatic) == ("paula", False)
    policy = first.gate_run.policy
    verdicts = {"auc-floor": "passed"}
    assert served.gates == Gates(first.gate_run_id, 1, policy.number, policy.content_hash, verdicts)
    assert served.candidate is not None
    assert (served.candidate.share, served.candidate.stage) == (0.1, "canary")
    assert served.candidate.since == NOON + 2 * HOUR
    assert served.candidate.gates is not None
    assert served.candidate.gates.gate_run == second.gate_run_id
    assert served.champion is not None
    assert served.champion.artifact == first.version.artifact_digest
    assert served.champion.manifest == first.version.manifest_digest


def test_as_of__answer__rests_on_events_from_the_gates_to_the_crown() -> None:
    canary()
    (served,) = as_of(NOON, reader=alice())
    names = [event.name for event in served.events]
    assert names == [
        "gate_run.opened", "gate_run.running", "gate_run.passed", "rollout.proposed", "rollout.promoted",
        "alias.champion_moved",
    ]  # fmt: skip
    assert [event.id for event in served.events] == sorted(event.id for event in served.events)


def test_as_of__kill_switch__tells_that_nobody_answered_and_who_pulled_it() -> None:
    first, _ = canary()
    later = NOON + 5 * HOUR
    with clock.at(later):
        endpoint = first.endpoint
        actions.decide(
            endpoint, kind="stop", registered_model=endpoint.registered_model, note="Wrong.", actor=paula(), now=later
        )
    (before,) = as_of(later - HOUR, reader=alice())
    (after,) = as_of(later, reader=alice())
    assert (before.is_enabled, before.switched) == (True, None)
    assert not after.is_enabled
    assert after.switched is not None
    assert (after.switched.by, after.switched.reason) == ("paula", "Wrong.")


def test_as_of__kill_switch_decided_for_later__tells_who_decided_and_the_version_that_answered() -> None:
    first, second = canary()
    endpoint = first.endpoint
    with clock.at(NOON + 3 * HOUR):
        fallback = actions.add_fallback(
            endpoint, name="before", version=first.version, note="It was good.", actor=paula(), now=NOON + 3 * HOUR
        )
        actions.advance(second, actor=ROBOT, reason="No harm.", now=NOON + 3 * HOUR)
        actions.promote(second, actor=ROBOT, reason="Better.", now=NOON + 3 * HOUR)
        actions.decide(
            endpoint,
            kind="stop",
            registered_model=endpoint.registered_model,
            note="The sale ends.",
            actor=paula(),
            now=NOON + 3 * HOUR,
            takes_effect_at=NOON + 5 * HOUR,
            fallback=fallback,
        )
    later = NOON + 5 * HOUR
    with clock.at(later):
        actions.carry_out_due(now=later)
    (before,) = as_of(later - HOUR, reader=alice())
    (after,) = as_of(later, reader=alice())
    assert (before.is_enabled, before.fallback) == (True, None)
    assert after.switched is not None
    assert (after.switched.name, after.switched.by, after.switched.reason) == (
        "endpoint.decision_carried_out",
        "paula",
        "The sale ends.",
    )
    assert after.fallback is not None
    assert (str(after.fallback), after.fallback.version) == ("late-arrival v1 (before)", before_version(first))
    assert after.fallback.gates is not None
    assert after.fallback.gates.gate_run == first.gate_run_id
    found = periods("late-arrival", first.version.number, until=later)
    assert [(each.arm, each.share, each.since) for each in found][-1] == ("fallback", 1.0, later)
    assert periods("late-arrival", second.version.number, until=later)[-1].until == later


def before_version(rollout: Rollout) -> Version:
    version = rollout.version
    return Version("late-arrival", version.number, version.artifact_digest, version.manifest_digest)


def test_as_of__kill_switch_pulled_again_to_another_fallback__tells_the_last_pull() -> None:
    first, _ = canary()
    endpoint, later = first.endpoint, NOON + 5 * HOUR
    values: dict[str, Any] = {"kind": "stop", "registered_model": endpoint.registered_model, "actor": paula()}
    with clock.at(later):
        actions.decide(endpoint, note="Wrong.", now=later, **values)
        (own,) = as_of(later, reader=alice())
    with clock.at(later + HOUR):
        fallback = actions.add_fallback(endpoint, name="high", score=0.9, note="Warn.", actor=paula(), now=later)
        actions.decide(endpoint, note="Rather warn.", now=later, fallback=fallback, **values)
    (named,) = as_of(later + HOUR, reader=alice())
    assert (str(own.fallback), str(named.fallback)) == ("the score 0.2", "the score 0.9 (high)")
    assert named.switched is not None
    assert named.switched.reason == "Rather warn."


def test_as_of__before_anything__is_nothing() -> None:
    canary()
    assert as_of(NOON - HOUR, reader=audrey()) == []


def test_as_of__stranger__sees_no_endpoint() -> None:
    canary()
    assert as_of(NOON + HOUR, reader=charlie()) == []


def test_as_of__endpoint_that_another_team_took_over__is_theirs_from_then_on() -> None:
    canary()
    endpoint = Rollout.objects.all()[0].endpoint
    theirs = registered_model("their-model", data_science=group("theirs"), platform=group("theirs"))
    later = NOON + 9 * HOUR
    with clock.at(later):
        actions.decide(endpoint, kind="serve", registered_model=theirs, note="Try it.", actor=paula(), now=later)
    assert [each.model for each in as_of(later, reader=alice())] == []
    assert [each.model for each in as_of(later, reader=paula())] == ["their-model"]
    assert [each.model for each in as_of(later - HOUR, reader=alice())] == ["late-arrival"]


@pytest.mark.parametrize("endpoints", [1, 7])
def test_as_of__more_endpoints__asks_no_more_queries(endpoints: int) -> None:
    canary()
    with clock.at(NOON + 4 * HOUR):
        for number in range(endpoints):
            an_endpoint(f"point-{number}", registered_model())
    reader = alice()
    with CaptureQueriesContext(connection) as asked:
        assert len(as_of(NOON + 5 * HOUR, reader=reader)) == endpoints + 1
    assert len(asked) <= 6, [query["sql"] for query in asked]


def test_periods__version_that_was_canary_then_promoted__are_one_for_each_share() -> None:
    _, second = canary()
    with clock.at(NOON + 4 * HOUR):
        actions.advance(second, actor=ROBOT, reason="No harm.", now=NOON + 4 * HOUR)
    with clock.at(NOON + 6 * HOUR):
        actions.promote(second, actor=ROBOT, reason="Better.", now=NOON + 6 * HOUR)
    found = periods(second.registered_model.name, second.version.number, until=NOON + 8 * HOUR)
    assert [(each.arm, each.share, each.since, each.until) for each in found] == [
        ("canary", 0.1, NOON + 2 * HOUR, NOON + 4 * HOUR),
        ("canary", 0.5, NOON + 4 * HOUR, NOON + 6 * HOUR),
        ("champion", 1.0, NOON + 6 * HOUR, None),
    ]
    champion = periods(second.registered_model.name, 1, until=NOON + 8 * HOUR)
    assert [each.share for each in champion] == [1.0, 0.9, 0.5]
    assert champion[-1].until == NOON + 6 * HOUR
