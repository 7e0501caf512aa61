"""Several people propose and decide on one model's policies at once: one wins, the others are told. PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from audit.errors import Conflict, TransitionError
from audit.models import Event
from gates import actions
from gates.models import GateRun, Policy, PolicyDecision
from tests.builders import NOON, ROBOT, alice, paula, pete, registered_model
from tests.gates import rows
from tests.races import THREADS, race

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def propose(at_least: float) -> Policy:
    document = {"checks": [{**rows.AUC, "at_least": at_least}]}
    return actions.propose_policy(registered_model(), document=document, note="", actor=alice(), now=NOON)


def test_propose__eight_at_once__one_waits_and_the_others_are_told() -> None:
    alice()
    registered_model()

    outcomes = race(lambda number: propose(0.5 + number / 100))

    assert sum(isinstance(each, Policy) for each in outcomes) == 1, outcomes
    assert sum(isinstance(each, Conflict) for each in outcomes) == THREADS - 1, outcomes
    assert (Policy.objects.count(), Event.objects.filter(name="policy.proposed").count()) == (1, 1)


def test_propose__the_same_eight_times_at_once__is_one_policy() -> None:
    alice()
    registered_model()

    outcomes = race(lambda number: propose(0.6))

    assert {getattr(each, "pk", each) for each in outcomes} == {Policy.objects.get().pk}
    assert Event.objects.filter(name="policy.proposed").count() == 1


def test_decide__eight_at_once__one_word_stands() -> None:
    registered_model()
    people: list[tuple[Any, Any]] = [
        (actions.confirm_policy, paula()),
        (actions.decline_policy, pete()),
        (actions.withdraw_policy, alice()),
    ]
    number = propose(0.6).pk
    copies = [Policy.objects.get(pk=number) for _ in range(THREADS)]

    def attempt(thread: int) -> Any:
        verb, who = people[thread % len(people)]
        return verb(copies[thread], reason=f"Thread {thread}.", actor=who, now=NOON)

    outcomes = race(attempt)

    assert sum(isinstance(each, PolicyDecision) for each in outcomes) == 1, outcomes
    assert sum(isinstance(each, Conflict) for each in outcomes) == THREADS - 1, outcomes
    decided = ("policy.confirmed", "policy.declined", "policy.withdrawn")
    assert Event.objects.filter(name__in=decided).count() == 1


def test_confirm__while_evidence_begins_the_waiting_runs__is_never_rolled_back() -> None:
    rows.policy(rows.AUC, rows.CI)
    runs = [rows.running() for _ in range(THREADS - 1)]
    policy, second = propose(0.9), paula()

    def attempt(thread: int) -> Any:
        if thread == 0:
            return actions.confirm_policy(policy, reason="Agreed.", actor=second, now=NOON)
        run = GateRun.objects.get(pk=runs[thread - 1].pk)
        actions.begin(run, actor=ROBOT, reason="All evidence is there.", now=NOON)
        return "begun"

    outcomes = race(attempt)

    assert sum(isinstance(each, PolicyDecision) for each in outcomes) == 1, outcomes
    assert all(isinstance(each, (PolicyDecision, TransitionError)) or each == "begun" for each in outcomes), outcomes
    assert actions.in_force(policy.registered_model) == policy
    assert GateRun.objects.filter(state="running", policy__number=1).count() == outcomes.count("begun")
    assert not GateRun.objects.filter(state="open").exists()
