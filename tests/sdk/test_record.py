"""The record through the SDK: models changed as they were read, files, holds, cards, events, seals, reports."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import gatehouse
from audit.models import Event
from gatehouse import verify_dossier
from mlops.dossier import verify_dossier as served_verifier
from tests.builders import alice, audrey, paula, registered_model
from tests.mlops import world as building
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db


def register(tmp_path: Path, **said: Any) -> gatehouse.Version:
    registered_model()
    (artifact := tmp_path / "model.bin").write_bytes(b"weights")
    (notes := tmp_path / "notes.md").write_text("# Notes")
    return client(alice()).register_version("late-arrival", artifact, files=[notes], **said)


def test_model__changed_as_it_was_read__and_not_as_it_was_before() -> None:
    registered_model()
    portal = client(alice())
    read = portal.model("late-arrival")
    changed = portal.change_model("late-arrival", etag=read.etag, title="Late?", reason="Shorter.")

    assert (changed.title, changed.tier) == ("Late?", read.tier)
    assert changed.etag == portal.model("late-arrival").etag
    with pytest.raises(gatehouse.Conflict, match="changed since you read it"):
        portal.change_model("late-arrival", etag=read.etag, title="Mine", reason="Mine.")
    with pytest.raises(gatehouse.NotPermitted, match="delay-product"):
        portal.change_model("late-arrival", etag=changed.etag, product="delay-science", reason="Ours.")


def test_version__registered_with_files_and_claims__gives_them_back(tmp_path: Path) -> None:
    version = register(tmp_path, claims={"host": "laptop"}, environment_lock="numpy==2.0\n")
    portal = client(alice())
    manifest = portal.files("late-arrival", version.number)
    saved = portal.download("late-arrival", version.number, "notes.md", tmp_path / "back.md")

    assert version.claims == {"host": "laptop"}
    assert {file.path for file in manifest.files} == {"model.bin", "notes.md"}
    assert saved.read_text() == "# Notes"
    assert hashlib.sha256(saved.read_bytes()).hexdigest() in {file.digest for file in manifest.files}
    with pytest.raises(gatehouse.NotFound):
        portal.download("late-arrival", version.number, "../secrets", tmp_path / "x")


def test_hold__placed_by_an_owner_and_released_by_an_auditor(tmp_path: Path) -> None:
    version = register(tmp_path)
    owner = client(alice())
    hold = owner.place_hold("late-arrival", version.number, reason="A complaint.")

    assert (hold.placed_by, hold.released_at) == ("alice", None)
    with pytest.raises(gatehouse.GatehouseError):
        owner.release_hold("late-arrival", version.number, reason="Done.")
    assert client(audrey()).release_hold("late-arrival", version.number, reason="Settled.").released_by == "audrey"
    assert [each.id for each in owner.holds("late-arrival", version.number)] == [hold.id]


def test_card__written_over_the_one_that_was_read() -> None:
    registered_model()
    portal = client(paula())
    first = portal.write_card("late-arrival", {"intended_use": "Warn passengers."}, reason="The first.")
    second = portal.write_card("late-arrival", {"intended_use": "Warn."}, reason="Shorter.", etag=first.etag)

    assert (first.number, second.number, portal.card("late-arrival")) == (1, 2, second)
    with pytest.raises(gatehouse.Conflict):
        portal.write_card("late-arrival", {}, reason="Again.", etag=first.etag)


def test_events__by_model_and_name__newest_first() -> None:
    world = building.build()
    portal = client(world.scientist)
    events = portal.events(model="delay-arrival", name="rollout.canary")
    ids = Event.objects.filter(registered_model="delay-arrival", name="rollout.canary").order_by("-id")

    assert [event.id for event in events] == list(ids.values_list("pk", flat=True))
    assert len(portal.events(most=3)) == 3
    assert portal.event(events[0].id).cause == events[0].cause


def test_log__says_where_it_ends() -> None:
    building.build()
    state = client(alice()).log_state()

    assert state.position == Event.objects.count()
    assert len(state.head) == 64


def test_dossier__issued_saved_and_verified_here(tmp_path: Path) -> None:
    register(tmp_path)
    portal = client(alice())
    report = portal.issue_dossier("late-arrival", 1)
    content = portal.dossier("late-arrival", 1, report.position)
    (file := tmp_path / "dossier.json").write_bytes(content)

    assert portal.dossiers("late-arrival", 1)[0] == report
    assert json.loads(content)
    assert portal.dossier("late-arrival", 1, report.position, form="html").startswith(b"<!")
    assert next(portal.checkpoints()).size == report.position
    assert verify_dossier.main([str(file)]) == 0


def test_incident_report__issued_and_saved() -> None:
    world = building.build()
    portal = client(world.scientist)
    report = portal.issue_incident_report(world["incident"].pk)

    assert [each.digest for each in portal.incident_reports(world["incident"].pk)] == [report.digest]
    assert json.loads(portal.incident_report(world["incident"].pk, report.position))


def test_verifier__of_the_sdk__is_the_one_that_the_portal_hands_out() -> None:
    """It comes with the SDK, so that a portal is not verified by its own word; both are one text."""
    ours, theirs = (Path(str(module.__file__)).read_bytes() for module in (verify_dossier, served_verifier))

    assert ours == theirs
