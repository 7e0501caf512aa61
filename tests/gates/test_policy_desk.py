"""Policies in the admin: who is offered which decision, and what they read before it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from gates import actions
from gates.models import Policy
from tests.builders import NOON, ROBOT, alice, paula, person, pete, policy_in_force, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db

BUTTONS = {"confirm": "Put in force", "decline": "Decline", "withdraw": "Withdraw the proposal"}


def propose(at_least: float = 0.6, by: User | None = None) -> Policy:
    document = {"checks": [{**rows.AUC, "at_least": at_least}]}
    return actions.propose_policy(registered_model(), document=document, note="Why.", actor=by or alice(), now=NOON)


def page(user: User, policy: Policy, name: str = "change") -> Any:
    return signed_in(user).get(reverse(f"admin:gates_policy_{name}", args=[policy.pk]))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def offered(user: User, policy: Policy) -> set[str]:
    html = page(user, policy).content.decode()
    return {name for name in BUTTONS if reverse(f"admin:gates_policy_{name}", args=[policy.pk]) in html}


@pytest.mark.parametrize(
    ("who", "buttons"),
    [
        (alice, {"withdraw"}),
        (paula, {"confirm", "decline"}),
        (pete, {"confirm", "decline"}),
        (lambda: person("all", "delay-science", "delay-product", is_staff=True), {"confirm", "decline", "withdraw"}),
        (lambda: person("root", is_staff=True, is_superuser=True), set()),
    ],
)
def test_policy__that_waits__offers_each_what_they_may_do(who: Any, buttons: set[str]) -> None:
    assert offered(who(), propose()) == buttons


def test_policy__offers_the_second_persons_word_to_nobody_who_proposed_it() -> None:
    both = person("both", "delay-science", "delay-product", is_staff=True)

    assert offered(both, propose(by=both)) == {"withdraw"}


@pytest.mark.parametrize("who", [alice, paula, pete])
def test_policy__decided_on__offers_nothing(who: Any) -> None:
    assert offered(who(), policy_in_force(registered_model(), {"checks": [rows.AUC]})) == set()


def test_confirm__shows_what_changes_and_puts_it_in_force() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    run = rows.running(rows.version())
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)
    policy = propose(0.5)

    asked = page(paula(), policy, "confirm").content.decode()
    assert "at_least 0.6 → 0.5, looser" in asked
    assert f"Loosened after {run}, which failed" in asked
    url = reverse("admin:gates_policy_confirm", args=[policy.pk])
    assert signed_in(paula()).post(url, {"reason": "Agreed."}).status_code == 302

    assert actions.in_force(registered_model()) == policy
    told = page(alice(), policy).content.decode()
    assert "The second person" in told
    assert f"Loosened after {run}, which failed" in told


def test_list__says_where_each_stands_and_what_was_loosened_after_what() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    run = rows.running(rows.version())
    actions.conclude(run, [rows.judged("auc-floor", "error")], actor=ROBOT, now=NOON)
    propose(0.5)

    html = signed_in(alice()).get(reverse("admin:gates_policy_changelist")).content.decode()

    assert "waiting" in html
    assert "in force" in html
    assert f"after {run}, which ended error" in html


def test_list__of_many__costs_a_fixed_number_of_queries(django_assert_max_num_queries: Any) -> None:
    for number in range(8):
        policy_in_force(registered_model(), {"checks": [{**rows.AUC, "at_least": 0.5 + number / 100}]})
    client = signed_in(alice())
    url = reverse("admin:gates_policy_changelist")
    client.get(url)
    with django_assert_max_num_queries(14):
        client.get(url)
