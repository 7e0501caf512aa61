"""A model's policies in the portal: what is in force, the editor, the proposal, and the two people that it takes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import clock
from audit.models import Event
from gates import actions
from gates.models import Policy
from registry.models import AUDITORS, RegisteredModel
from tests.builders import NOON, person, policy_in_force
from tests.mlops import world as building
from tests.mlops.gate_rows import DOCUMENT
from tests.mlops.world import World, a_gate_run, a_version

pytestmark = pytest.mark.django_db
TEXT = """\
apiVersion: gates/v1
threshold: 0.5
checks:
  - id: auc-floor
    kind: metric
    metric: roc_auc
    at_least: 0.7
    use: lower_bound
"""


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(NOON + timedelta(days=40)):
        yield building.build("delay")


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def words(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def shown(user: User, name: str, *arguments: Any, **query: str) -> str:
    answer = browser(user).get(reverse(f"portal:{name}", args=arguments), query)
    assert answer.status_code == 200
    return words(answer.content.decode())


def edit(world: World, user: User, text: str, act: str = "check", note: str = "") -> Any:
    url = reverse("portal:policy-edit", args=[world.registered_model.name])
    return browser(user).post(url, {"text": text, "act": act, "note": note})


def a_proposal(world: World, **changes: Any) -> Policy:
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, **changes}]}
    return actions.propose_policy(
        world.registered_model, document=document, note="It is a hard month.", actor=world.scientist, now=NOON
    )


# ---------------------------------------------------------------------- what is in force


def test_policies__in_force__is_told_in_words_with_both_people(world: World) -> None:
    text = shown(world.owner, "policies", world.registered_model.name)
    assert "AUC at least 0.65, as measured" in text
    assert "stops it" in text
    assert "Proposed by delay-dana, confirmed by delay-paula (product)" in text


def test_policies__every_kind_of_check__is_told_in_words(world: World) -> None:
    policy_in_force(world.registered_model, DOCUMENT)
    text = shown(world.owner, "policies", world.registered_model.name)
    for said in (
        "How well it predicts", "What others measured", "at most 0.005 worse than the champion's",
        "Half of answers within 5 ms", "in no segment by carrier and origin", "at most 10 points; it fails only when",
        "Unit tests passed for exactly this code", "warnings-read at least 0.3", "is reported",
    ):  # fmt: skip
        assert said in text, said
    assert "_" not in re.sub(r"warnings_read|As YAML.*?All policies", "", text)


def test_policies__of_a_form_that_is_no_longer_read__are_shown_as_written(world: World) -> None:
    document = {"checks": [{"id": "speed", "kind": "latency", "p95_ms": 5, "drift_tolerance": 0.25}]}
    old = Policy(
        registered_model=world.registered_model, number=90, document=document, content_hash="0" * 64, created_at=NOON
    )
    Policy.objects.bulk_create([old])
    text = shown(world.owner, "policy", world.registered_model.name, 90)
    assert "drift tolerance: 0.25" in text
    assert browser(world.owner).get(reverse("portal:policy-file", args=["delay-arrival", 90])).status_code == 409


def test_policies__without_any__say_who_proposes_the_first(world: World) -> None:
    other = RegisteredModel.objects.create(
        name="fresh", title="Fresh", tier="standard", created_at=NOON, product=world.registered_model.product,
        data_science=world.registered_model.data_science, platform=world.registered_model.platform,
    )  # fmt: skip
    assert "delay-science (data science) proposes the first one" in shown(world.owner, "policies", other.name)
    assert "Write the first one" in shown(world.scientist, "policies", other.name)
    assert "Still to be filled in" in shown(world.scientist, "policy-edit", other.name)


def test_policy__as_yaml__is_read_back_as_itself(world: World) -> None:
    url = reverse("portal:policy-file", args=[world.registered_model.name, 1])
    answer = browser(person("audrey", AUDITORS)).get(url)
    assert answer["Content-Type"].startswith("application/yaml")
    assert "delay-arrival-policy-1.yaml" in answer["Content-Disposition"]
    assert "asks for exactly what the other one asks" in words(
        edit(world, world.scientist, answer.content.decode()).content.decode()
    )


# ---------------------------------------------------------------------- the editor


def test_editor__starts_from_what_is_in_force_or_from_a_template(world: World) -> None:
    name = world.registered_model.name
    assert "at_least: 0.65" in shown(world.scientist, "policy-edit", name)
    template = shown(world.scientist, "policy-edit", name, start="high-stakes")
    assert "template: high-stakes" in template
    assert "Still to be filled in" in template


@pytest.mark.parametrize("start", ["nonsense", "7"])
def test_editor__from_an_unknown_start__is_not_found(world: World, start: str) -> None:
    url = reverse("portal:policy-edit", args=[world.registered_model.name])
    assert browser(world.scientist).get(url, {"start": start}).status_code == 404


def test_editor__wrong_setting__is_said_beside_its_line_and_nothing_is_lost(world: World) -> None:
    wrong = TEXT.replace("at_least: 0.7", "at_leest: 0.7 # as agreed")
    for act, status in (("check", 200), ("propose", 422)):
        answer = edit(world, world.scientist, wrong, act, note="Because <b>.")
        page = answer.content.decode()
        assert answer.status_code == status
        assert '<li class="wrong" id="line-7">7</li>' in page
        assert "at_leest" in words(re.findall(r'<li><a href="#line-7">.*?</li>', page)[0])
        assert wrong in html.unescape(page)
        assert "Because &lt;b&gt;." in page
    assert Policy.objects.count() == 1


@pytest.mark.parametrize("text", ["", "checks: [", "- a\n- b", "checks: []", "\t", "\x00", "a: &x 1\nb: *x"])
def test_editor__what_is_no_policy__is_refused_with_a_line(world: World, text: str) -> None:
    answer = edit(world, world.scientist, text, "propose", "A try.")
    assert answer.status_code == 422
    assert re.search(r'<a href="#line-\d+">Line \d+</a>', answer.content.decode())


def test_editor__lower_tier_than_the_models__is_said_at_the_template(world: World) -> None:
    answer = edit(world, world.scientist, TEXT.replace("threshold", "template: experimental@3\nthreshold"))
    assert '<li class="wrong" id="line-2">' in answer.content.decode()
    assert "experimental is for lower stakes" in words(answer.content.decode())


def test_editor__checked__tells_what_it_changes_and_would_have_meant_and_saves_nothing(world: World) -> None:
    before = Event.objects.count()
    answer = edit(world, world.scientist, TEXT.replace("0.7", "0.6"))
    text = words(answer.content.decode())
    assert answer.status_code == 200
    assert re.search(r"Auc floor|AUC floor", text)
    assert "at least 0.65 0.6 less" in text
    assert "what of the interval counts the measured value its lower end more" in text
    assert "1 looser" in text
    assert "What it would have meant" in text
    assert (Policy.objects.count(), Event.objects.count()) == (1, before)


def test_editor__may_be_tried_by_all_who_see_the_model__but_only_data_science_proposes(world: World) -> None:
    for user in (world.owner, world.operator, person("audrey", AUDITORS)):
        answer = edit(world, user, TEXT)
        assert answer.status_code == 200
        assert 'value="propose"' not in answer.content.decode()
        assert edit(world, user, TEXT, "propose", "Mine.").status_code == 403
    assert Policy.objects.count() == 1


def test_editor__proposed_without_a_reason__asks_for_it_and_keeps_the_text(world: World) -> None:
    answer = edit(world, world.scientist, TEXT, "propose")
    assert answer.status_code == 422
    assert "Say why it changes." in answer.content.decode()
    assert TEXT in html.unescape(answer.content.decode())


def test_editor__while_another_proposal_waits__says_so_and_keeps_the_text(world: World) -> None:
    waiting = a_proposal(world)
    answer = edit(world, world.scientist, TEXT, "propose", "Stricter.")
    assert answer.status_code == 409
    assert f"policy {waiting.number} waits for a second person" in words(answer.content.decode())
    assert TEXT in html.unescape(answer.content.decode())


def test_editor__endless_text_or_note__is_refused_in_a_page_of_bearable_size(world: World) -> None:
    answer = edit(world, world.scientist, "\n" * 200_000)
    assert answer.status_code == 200
    assert len(answer.content) < 1_000_000
    answer = edit(world, world.scientist, TEXT, "propose", "long " * 1000)
    assert answer.status_code == 422
    assert 'id="note-problem"' in answer.content.decode()


# ---------------------------------------------------------------------- two people


def test_policy__from_the_editor_to_force__takes_two_people(world: World) -> None:
    proposed = edit(world, world.scientist, TEXT, "propose", "Higher stakes.")
    policy = Policy.objects.get(number=2)
    assert proposed["Location"] == reverse("portal:policy", args=[world.registered_model.name, 2])
    assert actions.in_force(world.registered_model).number == 1  # type: ignore[union-attr]  # there is one
    text = shown(world.owner, "policy", world.registered_model.name, 2)
    assert "Confirm: put it in force" in text
    url = reverse("portal:policy-verb", args=[world.registered_model.name, 2, "confirm"])
    answer = browser(world.owner).post(url, {"reason": "Agreed."}, follow=True)
    assert "is in force" in words(answer.content.decode())
    assert actions.in_force(world.registered_model) == policy


def test_policy__by_who_proposed_it__can_be_withdrawn_not_confirmed(world: World) -> None:
    policy = a_proposal(world)
    world.scientist.groups.add(world.registered_model.product)
    name = world.registered_model.name
    text = shown(world.scientist, "policy", name, policy.number)
    assert "Confirm: put it in force" not in text
    assert "Who proposed it can not confirm it" in text
    confirm, withdraw = (
        reverse("portal:policy-verb", args=[name, policy.number, each]) for each in ("confirm", "withdraw")
    )
    assert browser(world.scientist).post(confirm, {"reason": "Mine."}).status_code == 403
    browser(world.scientist).post(withdraw, {"reason": "Too early."})
    assert Policy.objects.get(pk=policy.pk).decision.outcome == "withdrawn"


def test_policy__declined__stays_in_the_history_with_its_reason(world: World) -> None:
    policy = a_proposal(world)
    url = reverse("portal:policy-verb", args=[world.registered_model.name, policy.number, "decline"])
    browser(world.operator).post(url, {"reason": "0.6 is a coin."})
    text = shown(world.owner, "policies", world.registered_model.name)
    assert "declined" in text
    assert "0.6 is a coin." in text


def test_policy__seen_by_the_auditor__offers_nothing(world: World) -> None:
    policy = a_proposal(world)
    text = shown(person("audrey", AUDITORS), "policy", world.registered_model.name, policy.number)
    assert "Waits for" in text
    for offered in ("Confirm: put it in force", "Decline", "Withdraw the proposal"):
        assert offered not in text, offered


def test_policy__loosened_after_a_failed_run__is_marked_with_the_run(world: World) -> None:
    failed = a_gate_run(a_version(world, "Fewer trees."), "failed")
    policy = a_proposal(world)
    actions.confirm_policy(policy, reason="Agreed.", actor=world.owner, now=NOON)
    assert policy.loosened_after == failed
    for page in (
        browser(world.owner).get(reverse("portal:policies", args=[world.registered_model.name])),
        browser(world.owner).get(reverse("portal:policy", args=[world.registered_model.name, policy.number])),
    ):
        assert "loosened after v5 failed" in words(page.content.decode())
        assert reverse("portal:gate-run", args=[failed.pk]) in page.content.decode()


def test_policy__that_waits__tells_what_it_would_have_meant(world: World) -> None:
    text = shown(world.owner, "policy", world.registered_model.name, a_proposal(world).number)
    assert "Under this rule" in text or "can not be told" in text
    assert "less" in text


def test_proposal__waits_on_the_home_page_of_who_can_be_the_second_person(world: World) -> None:
    policy = a_proposal(world)
    link = reverse("portal:policy", args=[world.registered_model.name, policy.number])
    for user, waits in ((world.owner, True), (world.operator, True), (world.scientist, False)):
        assert (link in browser(user).get("/").content.decode()) is waits, user
    actions.decline_policy(policy, reason="No.", actor=world.operator, now=NOON)
    assert link not in browser(world.owner).get("/").content.decode()


def test_proposal__in_the_list_of_events__leads_to_its_page(world: World) -> None:
    policy = a_proposal(world)
    link = reverse("portal:policy", args=[world.registered_model.name, policy.number])
    assert link in browser(world.owner).get(reverse("portal:events"), {"name": "policy"}).content.decode()


# ---------------------------------------------------------------------- what it costs


def test_policies__with_many__cost_no_more_queries(world: World) -> None:
    counts, client = [], browser(world.owner)
    for bar in (0.66, 0.67, 0.68):
        with CaptureQueriesContext(connection) as seen:
            client.get(reverse("portal:policies", args=[world.registered_model.name]))
        counts.append(len(seen))
        policy_in_force(world.registered_model, {"checks": [{**DOCUMENT["checks"][0], "at_least": bar}]})
    assert counts[0] == counts[2] < 15
