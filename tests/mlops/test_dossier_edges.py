"""Reports over HTTP and in the portal: who may issue and read them, and what is handed out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.models import Event, Report
from audit.trail import record
from mlops.dossier.log import Log
from mlops.dossier.occurrence import Occurrence
from tests.builders import ROBOT, audrey, charlie, registered_model
from tests.mlops import reported
from tests.mlops.calls import Caller, problem
from tests.mlops.reported import settle
from tests.mlops.world import World, an_incident

pytestmark = pytest.mark.django_db

DOSSIERS = "models/delay-arrival/versions/1/dossiers/"


@pytest.fixture
def world() -> World:
    made = reported.world()
    settle()
    return made


def issued(user: User, path: str = DOSSIERS) -> tuple[Caller, dict[str, Any]]:
    caller = Caller(user)
    settle()
    answer = caller.post(path, {})
    assert answer.status_code == 201, answer.content
    settle()
    return caller, answer.json()


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_api__dossier_issued_and_fetched__the_digest_is_the_documents(world: World) -> None:
    caller, row = issued(world.scientist)
    answer = caller.get(f"{DOSSIERS}{row['position']}/")
    assert answer["Content-Disposition"].startswith("attachment")
    document = json.loads(answer.content)
    seal = document.pop("seal")
    assert seal["digest"] == row["digest"]
    written = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(written).hexdigest() == row["digest"], "names and numbers here are plain enough for json"
    listed = caller.get(DOSSIERS).json()["results"]
    assert [each["digest"] for each in listed] == [row["digest"]]


@pytest.mark.parametrize(
    ("form", "begins"), [("html", b"<!doctype"), ("pdf", b"%PDF"), ("zip", b"PK"), ("json", b'{"as_of"')]
)
def test_api__each_form__is_an_attachment(world: World, form: str, begins: bytes) -> None:
    caller, row = issued(world.scientist)
    answer = caller.get(f"{DOSSIERS}{row['position']}/", form=form)
    assert answer.content.startswith(begins)
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_api__unknown_form_or_position__refused(world: World) -> None:
    caller, row = issued(world.scientist)
    assert problem(caller.get(f"{DOSSIERS}{row['position']}/", form="docx"))[0] == 400
    assert problem(caller.get(f"{DOSSIERS}{row['position'] + 1}/"))[0] == 404
    assert problem(caller.post(DOSSIERS, {"position": 3}))[0] == 422


def test_api__strangers__do_not_see_the_model(world: World) -> None:
    _, row = issued(world.scientist)
    assert Caller(charlie()).get(f"{DOSSIERS}{row['position']}/").status_code == 404
    assert Caller(charlie()).post(DOSSIERS, {}).status_code == 404


def test_api__incident_report__issued_by_an_auditor(world: World) -> None:
    path = f"incidents/{world['incident'].pk}/reports/"
    caller, row = issued(audrey(), path)
    assert caller.get(path).json()["results"][0]["kind"] == "incident"
    assert json.loads(caller.get(f"{path}{row['position']}/").content)["kind"] == "incident"
    assert Caller(charlie()).get(path).status_code == 404


def test_api__incident_report__of_a_key_that_came_before__is_not_answered_to_who_may_not_see_it(world: World) -> None:
    path = f"incidents/{world['incident'].pk}/reports/"
    caller = Caller(world.scientist)
    assert caller.post(path, {}, idempotency_key="one").status_code == 201
    world.scientist.groups.clear()
    assert caller.post(path, {}, idempotency_key="one").status_code == 404


def test_incident_report__that_followed_from_another_models_events__does_not_tell_them(world: World) -> None:
    other = registered_model("other-model")
    cause = record("monitor.drifted", other, actor=ROBOT, reason="Theirs alone.")
    incident = an_incident(world, "follows")
    opened = Event.objects.about(incident).first()
    assert opened is not None
    own = record("incident.noted", incident, actor=ROBOT, cause=cause)
    log = Log(reported.sealed_position(), registered_model=world.registered_model.name)
    of = Occurrence(incident, log)
    of.opened = own
    assert of.chain == []
    within = Occurrence(incident, log)
    within.opened = record("incident.noted", incident, actor=ROBOT, cause=opened)
    assert within.chain[-1] == opened


def test_api__verifier__is_the_script(world: World) -> None:
    answer = Caller(charlie()).get("dossiers/verifier/")
    assert answer.content.startswith(b"#!/usr/bin/env python3")


def test_api__record_changed_behind_the_portals_back__409(world: World) -> None:
    caller, row = issued(world.scientist)
    Report.objects.create(
        kind="dossier",
        subject_type="registry.modelversion",
        subject_id=str(world["refused"].pk),
        subject_label=str(world["refused"]),
        registered_model_name="delay-arrival",
        position=row["position"],
        digest="0" * 64,
        generator=row["generator"],
        issued_by=world.scientist,
        issued_at=world["refused"].registered_at,
    )
    other = f"models/delay-arrival/versions/2/dossiers/{row['position']}/"
    assert "verify_audit" in problem(caller.get(other))[1]["detail"]


def test_portal__auditor_issues_reads_and_downloads(world: World) -> None:
    client = browser(audrey())
    page = reverse("portal:dossiers", args=["delay-arrival", 1])
    assert "None was issued yet" in client.get(page).content.decode()
    assert client.post(page).status_code == 302
    settle()
    report = Report.objects.get()
    shown = client.get(page).content.decode()
    assert report.digest in shown
    assert "filled by the system" in shown
    reading = client.get(reverse("portal:report", args=[report.pk])).content.decode()
    assert report.digest in reading
    assert "<style" not in reading
    for form in ("json", "html", "pdf", "zip"):
        answer = client.get(reverse("portal:report-file", args=[report.pk, form]))
        assert answer["Content-Disposition"].startswith("attachment"), form
    assert client.get(reverse("portal:report-file", args=[report.pk, "exe"])).status_code == 404


def test_portal__strangers__see_no_report(world: World) -> None:
    issued(world.scientist)
    report = Report.objects.get()
    client = browser(charlie())
    for address in (
        reverse("portal:report", args=[report.pk]),
        reverse("portal:report-file", args=[report.pk, "json"]),
        reverse("portal:dossiers", args=["delay-arrival", 1]),
        reverse("portal:incident-reports", args=[world["incident"].pk]),
    ):
        assert client.get(address).status_code == 404
    assert client.post(reverse("portal:dossiers", args=["delay-arrival", 1])).status_code == 404


def test_portal__post_without_the_csrf_token__refused(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.scientist)
    assert client.post(reverse("portal:dossiers", args=["delay-arrival", 1])).status_code == 403
    assert not Report.objects.exists()


def test_portal__incident_report__linked_from_its_page_and_issued(world: World) -> None:
    client = browser(world.scientist)
    page = reverse("portal:incident-reports", args=[world["incident"].pk])
    assert page in client.get(reverse("portal:incident", args=[world["incident"].pk])).content.decode()
    client.post(page)
    settle()
    assert Event.objects.filter(name="report.issued", subject_type="monitoring.incident").count() == 1
    assert "Issued" in client.get(page).content.decode()


def test_portal__version_page__leads_to_its_dossiers(world: World) -> None:
    page = browser(world.scientist).get(reverse("portal:version", args=["delay-arrival", 1])).content.decode()
    assert reverse("portal:dossiers", args=["delay-arrival", 1]) in page
