"""A version's dossier: what is in it, what it says where nobody knows, and that it never changes afterwards."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from audit import chain, checkpoints
from audit.errors import Conflict, NotFound, NotPermitted
from audit.models import Event, Report
from mlops import dossier
from mlops.dossier.fields import UNVERIFIED
from tests.builders import NOON, ROBOT, audrey, charlie
from tests.mlops import reported
from tests.mlops.reported import sealed_position, settle

pytestmark = pytest.mark.django_db

FIFTEEN = [
    "identity", "purpose", "ownership", "data", "development", "performance", "validation", "limitations", "approvals",
    "deployment", "monitoring", "incidents", "changes", "retirement", "proof",
]  # fmt: skip


def fields(document: dict[str, Any], section: str) -> dict[str, Any]:
    (found,) = [each for each in document["sections"] if each["key"] == section]
    return {field["key"]: field for field in found["fields"]}


def test_dossier__of_a_champion__has_the_fifteen_sections_with_what_they_serve() -> None:
    world = reported.world()
    document = dossier.build(world["champion"], position=sealed_position())
    assert [section["key"] for section in document["sections"]] == FIFTEEN
    assert all(section["evidence_for"] for section in document["sections"])
    assert b"compliant" not in dossier.canonical(document)
    assert {field["source"] for section in document["sections"] for field in section["fields"]} == {
        "system", "person", "missing",
    }  # fmt: skip
    everything = [field for section in document["sections"] for field in section["fields"]]
    assert len(everything) == document["completeness"]["fields"]


def test_dossier__what_the_log_tells__stands_in_its_sections() -> None:
    world = reported.world()
    document = dossier.build(world["champion"], position=sealed_position())
    assert fields(document, "identity")["artifact"]["value"] == world["champion"].artifact_digest
    assert fields(document, "ownership")["product"]["value"] == "delay-product"
    assert fields(document, "purpose")["tier"]["value"] == "standard"
    assert fields(document, "validation")["verdict"]["value"] == "passed"
    assert "no waivers" in fields(document, "validation")["waivers"]["value"]
    assert fields(document, "deployment")["serves"]["value"] == "yes"
    assert len(fields(document, "monitoring")["drift"]["value"]["rows"]) == 5
    assert fields(document, "incidents")["count"]["value"] == 1
    assert fields(document, "limitations")["limitations"]["source"] == "person"


def test_dossier__what_nobody_said__is_not_stated_or_unverified() -> None:
    world = reported.world()
    document = dossier.build(world["champion"], position=sealed_position())
    assert fields(document, "purpose")["ai_act_class"] == {
        "key": "ai_act_class", "label": "Class under the EU AI Act", "value": "not stated", "source": "missing",
        "evidence": [],
    }  # fmt: skip
    assert fields(document, "incidents")["reportability"]["value"] == "not stated"
    assert fields(document, "development")["environment"]["value"] == UNVERIFIED


def test_dossier__of_a_refused_version__says_so_and_where_it_stopped() -> None:
    world = reported.world()
    document = dossier.build(world["refused"], position=sealed_position())
    assert fields(document, "validation")["verdict"]["value"] == "failed"
    assert fields(document, "approvals")["digest"]["value"].startswith("none")
    assert fields(document, "retirement")["standing"]["value"] == "gates failed"


def test_dossier__the_world_moves_on__the_same_bytes_for_the_same_position() -> None:
    world = reported.world()
    position = sealed_position()
    versions = [world[name] for name in ("champion", "refused", "canary", "stopped")]
    before = [dossier.canonical(dossier.build(each, position=position)) for each in versions]
    of_incident = dossier.canonical(dossier.build_incident(world["incident"], position=position))

    reported.move_on(world)

    for version, earlier in zip(versions, before, strict=True):
        version.refresh_from_db()
        version.registered_model.refresh_from_db()
        assert dossier.canonical(dossier.build(version, position=position)) == earlier
    world["incident"].refresh_from_db()
    assert dossier.canonical(dossier.build_incident(world["incident"], position=position)) == of_incident
    later = dossier.build(world["champion"], position=sealed_position())
    assert fields(later, "ownership")["product"]["value"] == "newcomers"
    assert fields(later, "identity")["registered_by"]["value"] == "dana-married"
    assert fields(later, "incidents")["unresolved"]["value"] == 0


def test_dossier__position_before_the_version__there_is_none() -> None:
    world = reported.world()
    sealed_position()
    with pytest.raises(NotFound):
        dossier.build(world["champion"], position=1)
    with pytest.raises(NotFound):
        dossier.build(world["champion"], position=10**6)


def test_dossier__no_checkpoint_covers_the_position__says_how_to_get_one() -> None:
    world = reported.world()
    settle()
    with pytest.raises(Conflict, match="issue the report"):
        dossier.build(world["champion"], position=chain.head().position)


def test_dossier__every_event_that_a_field_names__is_proven() -> None:
    world = reported.world()
    document = dossier.build(world["champion"], position=sealed_position())
    named = {each for section in document["sections"] for field in section["fields"] for each in field["evidence"]}
    events = {each for each in named if each.startswith("event:")}
    assert events == {f"event:{event['id']}" for event in document["proof"]["events"]}
    for event in document["proof"]["events"]:
        assert sha256(event["content"].encode()).hexdigest() == event["digest"]
    signed = checkpoints.signed(checkpoints.latest())  # type: ignore[arg-type]  # there is one
    assert document["proof"]["checkpoint"]["root"] == signed.root


# ---------------------------------------------------------------------- issuing


def test_issue__by_an_auditor__one_event_with_digest_and_position() -> None:
    world = reported.world()
    settle()
    head = chain.head().position
    report = dossier.issue(world["champion"], actor=audrey(), now=NOON)
    settle()
    event = Event.objects.get(name="report.issued")
    assert (report.position, event.data["position"]) == (head, head)
    assert event.data["digest"] == report.digest == sha256(
        dossier.canonical(dossier.build(world["champion"], position=head))
    ).hexdigest()  # fmt: skip
    assert chain.head().position == head + 1


def test_issue__nothing_happened_since__the_same_report_and_no_event() -> None:
    world = reported.world()
    settle()
    first = dossier.issue(world["champion"], actor=audrey(), now=NOON)
    settle()
    assert dossier.issue(world["champion"], actor=world.scientist, now=NOON) == first
    assert Event.objects.filter(name="report.issued").count() == 1
    reported.move_on(world)
    assert dossier.issue(world["champion"], actor=world.scientist, now=NOON).position > first.position


def test_issue__by_a_stranger_or_a_service__refused() -> None:
    world = reported.world()
    settle()
    for actor in (charlie(), ROBOT):
        with pytest.raises(NotPermitted):
            dossier.issue(world["champion"], actor=actor, now=NOON)
        with pytest.raises(NotPermitted):
            dossier.issue_incident(world["incident"], actor=actor, now=NOON)
    assert not Report.objects.exists()


def test_report__asked_for_again_after_a_year__the_same_bytes_in_every_form() -> None:
    world = reported.world()
    settle()
    report = dossier.issue(world["champion"], actor=audrey(), now=NOON)
    settle()
    document = dossier.document_of(report)
    before = (dossier.sealed(report, document), dossier.render_pdf(document), dossier.archive(report))
    reported.move_on(world)
    dossier.issue(world["champion"], actor=audrey(), now=NOON)
    again = dossier.document_of(report)
    assert (dossier.sealed(report, again), dossier.render_pdf(again), dossier.archive(report)) == before


# ---------------------------------------------------------------------- an incident


def test_incident_report__resolved__who_when_and_the_cause_as_said() -> None:
    world = reported.world()
    reported.move_on(world)
    document = dossier.build_incident(world["incident"], position=sealed_position())
    assert fields(document, "incident")["title"]["value"] == "Drift of delay-arrival: delay"
    assert fields(document, "closure")["acknowledged_by"]["value"] == "dana-married"
    assert fields(document, "closure")["reportable"]["value"] == "not stated"
    words = [row[3] for row in fields(document, "root_cause")["said"]["value"]["rows"]]
    assert words == ["The carrier changed.", "It was a new timetable."]
    assert fields(document, "impact")["versions"]["value"] == str(world["champion"])


def test_incident_report__issued_by_its_owner__one_event_about_the_incident() -> None:
    world = reported.world()
    settle()
    report = dossier.issue_incident(world["incident"], actor=world.scientist, now=NOON)
    event = Event.objects.get(name="report.issued")
    assert (event.subject_type, event.data["report"]) == ("monitoring.incident", report.pk)
