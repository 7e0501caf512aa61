"""The portal, walked by everybody: every page, every verb, what a stranger learns (nothing), and what lists cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import clock
from audit.models import Event
from mlops import portal
from mlops.waiting import waiting_for
from monitoring.models import Incident, Rethink
from registry.models import AUDITORS
from rollout.models import Rollout
from tests.builders import NOON, person
from tests.mlops import world as building
from tests.mlops.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(NOON + timedelta(days=40)):
        yield building.build("delay")


def browser(user: User | None = None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client


def pages(world: World) -> dict[str, str]:
    """The address of every page with a GET, by its name."""
    name = world.registered_model.name
    arguments = {
        "model": [name],
        "version": [name, world["champion"].number],
        "version-lineage": [name, world["champion"].number],
        "compare": [name],
        "gate-run": [world["refused_run"].pk],
        "policies": [name],
        "policy": [name, world["policy"].number],
        "policy-edit": [name],
        "policy-file": [name, world["policy"].number],
        "rollout": [world["rollout"].pk],
        "endpoint": [world["endpoint"].name],
        "incident": [world["incident"].pk],
        "rethink": [world["rethink"].pk],
        "event": [world["event"].pk],
        "dossiers": [name, world["champion"].number],
        "incident-reports": [world["incident"].pk],
        "feature-view": [world["feature_view"].name],
        "feature-view-version": [world["feature_view"].name, world["view_version"].number],
        "feature-service": [world["service"].name, world["service"].number],
        "data-source": [world["data_source"].name],
    }
    names = [each.name for each in portal.urlpatterns if each.name and not each.name.endswith("-verb")]
    return {each: reverse(f"portal:{each}", args=arguments.get(each)) for each in names if each not in ELSEWHERE}


def verbs(world: World) -> list[str]:
    """The address of every decision."""
    policy = [world.registered_model.name, world["policy"].number]
    return [
        *[reverse("portal:rollout-verb", args=[world["rollout"].pk, verb]) for verb in ("pause", "resume", "abort")],
        *[reverse("portal:incident-verb", args=[world["incident"].pk, verb]) for verb in ("acknowledge", "resolve")],
        *[reverse("portal:rethink-verb", args=[world["rethink"].pk, verb]) for verb in ("approve", "decline", "close")],
        *[reverse("portal:policy-verb", args=[*policy, verb]) for verb in ("confirm", "decline", "withdraw")],
        reverse("portal:gate-run-verb", args=[world["refused_run"].pk, "rerun"]),
    ]


ELSEWHERE = {"logout", "report", "report-file", "version-file", "prediction-replay"}
"""Not pages that anybody may fetch in this world: test_dossier_edges, test_files_api and test_replay_api have them."""
SAID = {"reason": "For a test.", "note": "For a test."}


def test_pages__anonymous__are_sent_to_sign_in(world: World) -> None:
    client = browser()
    for name, url in pages(world).items():
        expected = 200 if name == "login" else 302
        assert client.get(url).status_code == expected, name
    for url in verbs(world):
        assert client.post(url, SAID)["Location"].startswith("/login/"), url


def test_pages__by_members_and_auditor__are_shown(world: World) -> None:
    for user in (*world.members, person("audrey", AUDITORS), person("root", is_superuser=True)):
        client = browser(user)
        for name, url in pages(world).items():
            assert client.get(url).status_code == 200, (user, name)


def test_pages__stranger__learn_nothing_of_the_model(world: World) -> None:
    other = building.build("search")
    for user in (person("charlie", "strangers"), other.operator, other.owner):
        client = browser(user)
        for name, url in pages(world).items():
            answer = client.get(url)
            of_the_model = name in {"model", "version", "gate-run", "rollout", "incident", "rethink", "event"}
            of_the_model |= name in {"dossiers", "incident-reports", "version-lineage", "compare"}
            of_the_model |= name in {"policies", "policy", "policy-edit", "policy-file", "endpoint"}
            assert answer.status_code == (404 if of_the_model else 200), (user, name)
            assert world.registered_model.name not in answer.content.decode().replace(url, ""), (user, name)


def test_verbs__stranger__find_nothing_and_change_nothing(world: World) -> None:
    other = building.build("search")
    before = Event.objects.count()
    for user in (person("charlie", "strangers", is_staff=True), other.owner):
        for url in verbs(world):
            assert browser(user).post(url, SAID).status_code == 404, url
    assert Event.objects.count() == before


def test_verbs__auditor__are_refused_and_change_nothing(world: World) -> None:
    before = Event.objects.count()
    for url in verbs(world):
        assert browser(person("audrey", AUDITORS)).post(url, SAID).status_code == 403, url
    assert Event.objects.count() == before


def test_verbs__fetched_instead_of_posted__are_not_allowed(world: World) -> None:
    for url in verbs(world):
        assert browser(world.owner).get(url).status_code == 405, url


def test_verb__that_does_not_exist__is_not_found(world: World) -> None:
    for name in ("rollout", "incident", "rethink"):
        url = reverse(f"portal:{name}-verb", args=[world[name].pk, "promote"])
        assert browser(world.owner).post(url, SAID).status_code == 404


def test_verbs__without_a_reason__are_refused(world: World) -> None:
    before = Event.objects.count()
    for url in verbs(world):
        assert browser(world.scientist).post(url, {}).status_code == 422, url
    assert Event.objects.count() == before


def test_rethink__declined_by_the_product_owner__is_recorded(world: World) -> None:
    url = reverse("portal:rethink-verb", args=[world["rethink"].pk, "decline"])
    answer = browser(world.owner).post(url, {"note": "It is a bad month, no more."}, follow=True)
    assert "Decided" in answer.content.decode()
    assert Rethink.objects.get().state == "declined"


def test_rethink__decided_by_the_platform_engineer__is_refused(world: World) -> None:
    url = reverse("portal:rethink-verb", args=[world["rethink"].pk, "approve"])
    answer = browser(world.operator).post(url, {"note": "Mine."})
    assert answer.status_code == 403
    assert "delay-product" in answer.content.decode()
    assert Rethink.objects.get().state == "proposed"


def test_rollout__paused_and_resumed__goes_on(world: World) -> None:
    client = browser(world.operator)
    for verb, state in (("pause", "paused"), ("resume", "canary")):
        client.post(reverse("portal:rollout-verb", args=[world["rollout"].pk, verb]), {"reason": "Look."})
        assert Rollout.objects.get(pk=world["rollout"].pk).state == state


def test_incident__acknowledged_by_its_owner__shows_who_has_it(world: World) -> None:
    url = reverse("portal:incident-verb", args=[world["incident"].pk, "acknowledge"])
    answer = browser(world.scientist).post(url, {"reason": "I look."}, follow=True)
    assert "delay-dana" in answer.content.decode()
    assert Incident.objects.get().state == "acknowledged"


def test_incident__of_several_models__is_hidden_from_who_does_not_own_it(world: World) -> None:
    """A stale source names the models it feeds, also those of other teams."""
    incident = building.an_incident(
        world, "stale", registered_model=None, version=None, kind="freshness", duty="platform",
        owner=world.registered_model.platform, title="Source weather is stale", detail="It feeds delay-arrival.",
    )  # fmt: skip
    url = reverse("portal:incident", args=[incident.pk])
    assert browser(world.operator).get(url).status_code == 200
    assert browser(person("charlie", "strangers", is_staff=True)).get(url).status_code == 404


def test_waiting__is_what_each_duty_has_to_do(world: World) -> None:
    owner, scientist, operator = (waiting_for(each) for each in (world.owner, world.scientist, world.operator))
    assert [len(each.rethinks) for each in (owner, scientist, operator)] == [1, 1, 0]
    assert [len(each.incidents) for each in (owner, scientist, operator)] == [0, 1, 0]
    assert [each.dead_jobs for each in (owner, scientist, operator)] == [0, 0, 1]
    assert not waiting_for(person("audrey", AUDITORS))


def test_waiting__held_rollout__is_the_product_owners(world: World) -> None:
    building.a_look(world["rollout"], "hold")
    assert [str(each) for each in waiting_for(world.owner).held] == [str(world["rollout"])]
    assert waiting_for(world.scientist).held == []


def test_home__with_nothing_to_do__says_so() -> None:
    page = browser(person("nina", "new-team")).get("/").content.decode()
    assert "Nothing waits for you" in page
    assert "No model belongs to your groups" in page


def test_event_page__shows_the_chain_from_the_first_cause(world: World) -> None:
    opened = Event.objects.get(name="incident.opened")
    page = browser(world.scientist).get(reverse("portal:event", args=[opened.pk])).content.decode()
    assert page.index("monitor.configured") < page.index("incident.opened", page.index("Because of"))


def test_event_table__links_to_the_page_of_each_subject(world: World) -> None:
    page = browser(world.scientist).get(reverse("portal:events"), {"name": "model_version"}).content.decode()
    assert "No such" not in page
    crowned = browser(world.scientist).get(reverse("portal:events"), {"name": "alias."}).content.decode()
    assert reverse("portal:version", args=[world.registered_model.name, 1]) in crowned


def queries_of(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_home__of_more_models__takes_the_same_queries(world: World) -> None:
    user = world.scientist
    client = browser(user)

    def grow(count: int) -> None:
        for _ in range(count):
            number = Incident.objects.count()
            team = building.build(f"team{number}")
            user.groups.add(team.registered_model.data_science, team.registered_model.product)

    grow(2)
    few = queries_of(client, "/")
    grow(5)
    assert queries_of(client, "/") == few
    assert few <= 20


@pytest.mark.parametrize("name", ["model", "rollout", "events", "gate-run"])
def test_page__of_more_rows__takes_the_same_queries(world: World, name: str) -> None:
    client, url = browser(world.scientist), pages(world)[name]

    def grow(count: int) -> None:
        for _ in range(count):
            version = building.a_version(world, "More.")
            building.a_gate_run(version, "failed")
            building.a_look(world["rollout"])
            building.an_incident(world, f"more-{Incident.objects.count()}")

    grow(5)
    few = queries_of(client, url)
    grow(20)
    assert queries_of(client, url) == few
