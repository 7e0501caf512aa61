"""The admin, walked by everybody: who sees what, that nothing looks editable, and that decisions are made by duty."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_q.models import Failure, OrmQ, Schedule, Success

from audit import clock
from audit.desk import Desk
from audit.models import ApiToken, Event
from audit.pages import admin_url
from jobs.models import Job
from monitoring.models import Incident, Rethink
from registry.models import AUDITORS, RegisteredModel, TrainingRun
from rollout.models import Rollout
from tests.builders import NOON, person
from tests.mlops import world as building
from tests.mlops.world import World

pytestmark = pytest.mark.django_db

SHARED = {
    "entity", "data_source", "feature_view", "view_version", "service", "transform", "dataset", "materialization",
    "consistency_check", "job", "due", "heartbeat", "external_node", "lineage_event",
}  # fmt: skip
"""Rows that belong to no model: everybody who works here sees them."""


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(NOON + timedelta(days=40)):
        yield building.build("delay")


@pytest.fixture
def other(world: World) -> World:
    """Another team's world beside ours."""
    return building.build("search")


def browser(user: User | None = None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client


def auditor() -> User:
    return person("audrey", AUDITORS, is_staff=True)


def administrator() -> User:
    return person("root", is_staff=True, is_superuser=True)


def stranger() -> User:
    return person("charlie", "strangers", is_staff=True)


def desks() -> list[Desk]:
    return [each for each in admin.site._registry.values() if isinstance(each, Desk)]


def list_url(desk: Desk) -> str:
    return reverse(f"admin:{desk.model._meta.app_label}_{desk.model._meta.model_name}_changelist")


def page_of(row: Model) -> str:
    url = admin_url(row)
    assert url is not None, row
    return url


AUDITORS_OWN = {"hold", "release"}
"""What auditors may: legal holds, which only keep."""


def decision_url(row: Model, name: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


# ---------------------------------------------------------------------- what there is


def test_site__django_q_pages__do_not_exist() -> None:
    assert not any(admin.site.is_registered(model) for model in (Failure, OrmQ, Schedule, Success))
    assert browser(administrator()).get("/admin/django_q/schedule/").status_code == 404


def test_world__has_a_row_of_every_kind_that_the_admin_shows(world: World) -> None:
    built = {type(row) for row in world.rows.values()}
    assert {desk.model for desk in desks()} == built


def test_site__every_record_is_read_only__for_everybody(world: World) -> None:
    for user in (*world.members, auditor(), administrator()):
        client = browser(user)
        for row in (world["rollout"], world["gate_run"], world["event"], world["champion"], world["policy"]):
            kind = f"admin:{row._meta.app_label}_{row._meta.model_name}"
            assert client.get(reverse(f"{kind}_add")).status_code == 403
            assert client.post(reverse(f"{kind}_change", args=[row.pk]), {}).status_code == 403
            assert client.post(reverse(f"{kind}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
            page = client.get(reverse(f"{kind}_change", args=[row.pk])).content.decode()
            assert 'name="_save"' not in page


# ---------------------------------------------------------------------- who sees what


def test_lists_and_pages__anonymous__are_sent_to_sign_in(world: World) -> None:
    client = browser()
    for url in ["/admin/", *map(list_url, desks()), *[page_of(row) for row in world.rows.values()]]:
        response = client.get(url)
        assert response.status_code == 302, url
        assert response["Location"].startswith("/admin/login/"), url


def test_lists_and_pages__somebody_who_does_not_work_here__are_sent_to_sign_in(world: World) -> None:
    client = browser(person("gus", "delay-science"))
    assert client.get("/admin/").status_code == 302
    assert client.get(list_url(desks()[0])).status_code == 302


@pytest.mark.parametrize("role", ["scientist", "operator", "owner", "auditor"])
def test_lists_and_pages__by_role__show_all_of_the_own_model(world: World, role: str) -> None:
    user = auditor() if role == "auditor" else getattr(world, role)
    client = browser(user)
    for desk in desks():
        assert client.get(list_url(desk)).status_code == 200, desk
        assert client.get(list_url(desk), {"q": "delay"}).status_code == 200, desk
    for name, row in world.rows.items():
        is_own_token = name != "token" or row.user == user  # type: ignore[attr-defined]  # an ApiToken
        assert client.get(page_of(row)).status_code == (200 if is_own_token else 302), name


def test_lists_and_pages__stranger__show_nothing_of_the_model(world: World, other: World) -> None:
    """Two strangers: one who owns nothing, and a member of another team."""
    for user in (stranger(), other.scientist):
        client = browser(user)
        for desk in desks():
            page = client.get(list_url(desk)).content.decode()
            assert world.registered_model.name not in page, desk
        for name, row in world.rows.items():
            if name in SHARED:
                assert world.registered_model.name not in client.get(page_of(row)).content.decode(), name
            else:
                assert client.get(page_of(row)).status_code == 302, name
        assert world.registered_model.name not in client.get("/admin/").content.decode()


def test_pages__auditor__see_every_team(world: World, other: World) -> None:
    client = browser(auditor())
    for each in (world, other):
        assert client.get(page_of(each["rollout"])).status_code == 200
        assert client.get(page_of(each["event"])).status_code == 200


# ---------------------------------------------------------------------- decisions

VALUES = {
    "approach": "Another approach.", "reason": "For a test.", "window": "expanding", "title": "T", "description": "D",
    "tier": "standard", "name": "new-model", "task": "regression", "days": "30", "hours": "12", "percent": "1",
    "expression": "SELECT 1 AS x", "features": "x", "event_timestamp": "at", "known_at": "at", "freshness": "6h",
    "score": "0.5", "starts_at": "2013-06-01T00:00", "ends_at": "2013-06-03T00:00",
}  # fmt: skip


def values_for(row: Model | None, world: World, user: User) -> dict[str, Any]:
    model = world.registered_model
    owners = {"data_science": model.data_science_id, "platform": model.platform_id, "product": model.product_id}
    source = world["data_source"].pk
    return {**VALUES, **owners, "registered_model": model.pk, "user": user.pk, "sources": [source], "source": source}


def all_decisions(world: World) -> Iterator[tuple[Desk, Any, Model]]:
    rows = {type(row): row for row in world.rows.values()}
    for desk in desks():
        for decision in desk.decisions:
            if not decision.for_list:
                yield desk, decision, rows[desk.model]


def test_decisions__anonymous_get_and_post__are_sent_to_sign_in(world: World) -> None:
    for _, decision, row in all_decisions(world):
        for answer in (
            browser().get(decision_url(row, decision.name)),
            browser().post(decision_url(row, decision.name)),
        ):
            assert answer.status_code == 302
            assert answer["Location"].startswith("/admin/login/")


def test_decisions__stranger__are_refused_and_change_nothing(world: World, other: World) -> None:
    for user in (stranger(), other.owner, other.scientist):
        client = browser(user)
        before = Event.objects.count()
        for _, decision, row in all_decisions(world):
            answer = client.post(decision_url(row, decision.name), values_for(row, world, user))
            assert answer.status_code in (403, 404), (decision.name, type(row), answer.status_code)
            assert client.get(decision_url(row, decision.name)).status_code in (302, 404)
        assert Event.objects.count() == before


def test_decisions__auditor__are_refused_and_change_nothing(world: World) -> None:
    client, before = browser(auditor()), Event.objects.count()
    for _, decision, row in all_decisions(world):
        if decision.name in AUDITORS_OWN:
            continue
        answer = client.post(decision_url(row, decision.name), values_for(row, world, auditor()))
        assert answer.status_code in (403, 404), (decision.name, type(row), answer.status_code)
        assert client.get(decision_url(row, decision.name)).status_code in (302, 404)
    assert Event.objects.count() == before


def test_decisions__without_a_reason__are_asked_again(world: World) -> None:
    client, before = browser(world.scientist), Event.objects.count()
    for row, name in ((world["rollout"], "pause"), (world["incident"], "acknowledge"), (world["rethink"], "decline")):
        answer = client.post(decision_url(row, name), {"reason": "  "})
        assert answer.status_code == 422
        assert "This field is required" in answer.content.decode()
    assert Event.objects.count() == before


def test_rethink_approval__by_the_product_owner__shows_the_evidence_and_is_recorded(world: World) -> None:
    client, rethink = browser(world.owner), world["rethink"]
    page = client.get(decision_url(rethink, "approve")).content.decode()
    assert "what it cost" in page
    assert rethink.evidence_digest in page
    answer = client.post(decision_url(rethink, "approve"), {"approach": "Predict per airline."})
    assert answer.status_code == 302
    decided = Rethink.objects.get(pk=rethink.pk)
    assert (decided.state, decided.approach, decided.decided_by) == ("approved", "Predict per airline.", world.owner)
    assert Event.objects.get(name="rethink.approved").actor == world.owner


def test_rethink_approval__by_the_platform_engineer__is_refused(world: World) -> None:
    answer = browser(world.operator).post(decision_url(world["rethink"], "approve"), {"approach": "Mine."})
    assert answer.status_code == 403
    assert "delay-product" in answer.content.decode()
    assert Rethink.objects.get().state == "proposed"


def test_rethink_approval__twice__tells_that_somebody_was_faster(world: World) -> None:
    client, rethink = browser(world.owner), world["rethink"]
    url = decision_url(rethink, "approve")
    client.post(url, {"approach": "First."})
    answer = client.post(url, {"approach": "Second."}, headers={"referer": f"http://testserver{page_of(rethink)}"})
    assert answer.status_code == 302
    assert "it can become" in client.get(answer["Location"]).content.decode()
    assert Rethink.objects.get().approach == "First."


def test_rollout__pause_resume_abort__by_their_duty(world: World) -> None:
    rollout = world["rollout"]
    for user, name, state in (
        (world.operator, "pause", "paused"),
        (world.scientist, "resume", "canary"),
        (world.scientist, "abort", "aborted"),
    ):
        answer = browser(user).post(decision_url(rollout, name), {"reason": "For a test."})
        assert answer.status_code == 302, answer.content.decode()[:2000]
        assert Rollout.objects.get(pk=rollout.pk).state == state
    assert browser(world.owner).post(decision_url(rollout, "pause"), {"reason": "No."}).status_code == 403


def test_incident__acknowledged_and_resolved__by_its_owner(world: World) -> None:
    incident = world["incident"]
    assert browser(world.operator).post(decision_url(incident, "acknowledge"), {"reason": "Me."}).status_code == 403
    for name, state in (("acknowledge", "acknowledged"), ("resolve", "resolved")):
        answer = browser(world.scientist).post(decision_url(incident, name), {"reason": "I have it."})
        assert answer.status_code == 302
        assert Incident.objects.get(pk=incident.pk).state == state


def test_training__requested_by_the_data_scientist__is_open(world: World) -> None:
    pipeline = world["pipeline"]
    answer = browser(world.scientist).post(
        decision_url(pipeline, "train"), {"window": "expanding", "reason": "New month."}
    )
    assert answer.status_code == 302
    run = TrainingRun.objects.first()
    assert run is not None
    assert (run.state, run.trigger, run.requested_by) == ("requested", "person", world.scientist)


def test_gates__rerun_of_a_refused_version__opens_a_second_run(world: World) -> None:
    run = world["refused_run"]
    assert browser(world.owner).post(decision_url(run, "rerun"), {"reason": "Again."}).status_code == 403
    assert browser(world.scientist).post(decision_url(run, "rerun"), {"reason": "Again."}).status_code == 302
    assert run.version.gate_runs.count() == 2


def test_job__dead__is_redelivered_by_platform_with_an_event(world: World) -> None:
    job = world["job"]
    assert browser(world.scientist).post(decision_url(job, "redeliver"), {"reason": "x"}).status_code == 403
    assert browser(world.operator).post(decision_url(job, "redeliver"), {"reason": "More memory."}).status_code == 302
    assert Job.objects.get(pk=job.pk).state == "queued"
    assert Event.objects.get(name="job.redelivered").actor == world.operator


def test_view_version__deprecated_by_its_owner(world: World) -> None:
    version = world["view_version"]
    assert browser(world.owner).post(decision_url(version, "deprecate"), {"reason": "Old."}).status_code == 403
    assert browser(world.scientist).post(decision_url(version, "deprecate"), {"reason": "Old."}).status_code == 302
    version.refresh_from_db()
    assert version.state == "deprecated"


def test_endpoint__kill_switch__is_the_product_owners(world: World) -> None:
    endpoint = world["endpoint"]
    assert browser(world.operator).post(decision_url(endpoint, "stop"), {"reason": "Stop."}).status_code == 403
    assert browser(world.owner).post(decision_url(endpoint, "stop"), {"reason": "Complaints."}).status_code == 302
    endpoint.refresh_from_db()
    assert not endpoint.enabled


def test_model__tier__is_changed_by_the_product_owner_only(world: World) -> None:
    model = world.registered_model
    values = {**values_for(model, world, world.owner), "tier": "experimental"}
    assert browser(world.scientist).post(decision_url(model, "edit"), values).status_code == 403
    assert browser(world.owner).post(decision_url(model, "edit"), values).status_code == 302
    event = Event.objects.get(name="registered_model.changed")
    assert RegisteredModel.objects.get(pk=model.pk).tier == "experimental"
    assert event.data["before"]["tier"] == "standard"


def test_model__registered__by_a_member_of_the_future_owners(world: World) -> None:
    url = reverse("admin:registry_registeredmodel_register")
    values = values_for(None, world, world.scientist)
    assert browser(stranger()).post(url, values).status_code == 403
    assert browser(world.scientist).post(url, {**values, "name": "Not A Slug"}).status_code == 422
    assert browser(world.scientist).post(url, values).status_code == 302
    assert RegisteredModel.objects.filter(name="new-model").exists()


def test_token__issued_and_revoked__by_its_user_with_events(world: World) -> None:
    client = browser(world.operator)
    issue = reverse("admin:audit_apitoken_issue")
    foreign = client.post(issue, {"user": world.owner.pk, "scopes": ["read"], "days": "30", "reason": "CI."})
    assert foreign.status_code == 422
    asked = {"user": world.operator.pk, "scopes": ["read", "register"], "days": "30", "reason": "CI."}
    assert client.post(issue, {**asked, "scopes": []}).status_code == 422
    answer = client.post(issue, asked, follow=True)
    assert "shown this once: gh_" in answer.content.decode()
    token = ApiToken.objects.get(user=world.operator)
    assert token.scopes == ["read", "register"]
    assert client.post(decision_url(token, "revoke"), {"reason": "Leaked."}).status_code == 302
    assert not ApiToken.objects.filter(user=world.operator).exists()
    assert set(Event.objects.filter(name__startswith="token.").values_list("name", flat=True)) == {
        "token.issued",
        "token.revoked",
    }


def test_users__are_the_administrators_and_changes_of_rights_are_events(world: World) -> None:
    assert browser(world.scientist).get(reverse("admin:auth_user_changelist")).status_code == 403
    client, user = browser(administrator()), world.scientist
    page = reverse("admin:auth_user_change", args=[user.pk])
    assert client.get(page).status_code == 200
    values = {
        "username": user.username, "groups": [], "is_active": "on", "is_staff": "on",
        "last_login_0": "", "last_login_1": "", "date_joined_0": "2013-04-01", "date_joined_1": "12:00",
    }  # fmt: skip
    assert client.post(page, values).status_code == 302
    event = Event.objects.get(name="user.changed")
    assert event.data["before"]["groups"] == ["delay-science"]
    assert event.data["after"]["groups"] == []


# ---------------------------------------------------------------------- lists stay cheap


def queries_of(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def many(world: World, times: int) -> None:
    """More rows of the kinds whose lists join others."""
    for position in range(times):
        building.a_dead_job(f"more-{world.team}-{Job.objects.count()}-{position}")
        building.an_incident(world, f"more-{Incident.objects.count()}")
        version = building.a_version(world, "More.")
        run = building.a_gate_run(version)
        building.a_look(building.a_rollout(world, version, run, "rolled_back"))
        TrainingRun.objects.create(
            registered_model=world.registered_model,
            pipeline=world["pipeline"],
            state="succeeded",
            trigger="person",
            requested_at=NOON,
        )


@pytest.mark.parametrize(
    "name",
    ["rollout", "look", "gate_run", "check_result", "champion", "training_run", "incident", "event", "job", "evidence"],
)
def test_list__of_more_rows__takes_the_same_queries(world: World, name: str) -> None:
    world["rollout"].move("aborted", actor=world.scientist, reason="Room for more.")
    row = world[name]
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist")
    client = browser(world.scientist)
    many(world, 5)
    client.get(url)
    few = queries_of(client, url)
    many(world, 20)
    assert queries_of(client, url) == few
    assert few <= 25


def test_admin_policy__relaxes_only_below_admin(world: World) -> None:
    client = browser(world.owner)
    assert "'unsafe-eval'" in client.get("/admin/")["Content-Security-Policy"]
    assert "'unsafe-inline'" in client.get("/admin/login/")["Content-Security-Policy"]
    for url in ("/", "/login/", "/delivery/", f"/models/{world.registered_model.name}/"):
        policy = client.get(url)["Content-Security-Policy"]
        assert "unsafe-eval" not in policy
        assert "unsafe-inline" not in policy
