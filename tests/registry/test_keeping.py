"""Nothing disappears but by retention: what refers to a version keeps its bytes, and so does a legal hold."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.db import IntegrityError, models, transaction

from audit import clock
from audit.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from audit.models import Event, Report
from jobs.drain import drain
from jobs.run import enqueue
from registry import actions, artifacts
from registry.actions.conversion import Tried, record_conversion
from registry.models import Alias, ArtifactFile, Blob, ConversionOutcome, LegalHold, LoadClass, ModelVersion
from tests.builders import NOON, ROBOT, alice, audrey, charlie, paula, person, pete, registered_model
from tests.mlops import world as building
from tests.races import race
from tests.registry import world

pytestmark = pytest.mark.django_db

LATER = NOON + timedelta(days=100)


def kept_for(days: int | None, model: str = "late-arrival") -> None:
    actions.set_retention(registered_model(model), days=days, reason="Disks.", actor=pete(), now=NOON)


def worked(at: datetime = LATER) -> None:
    """The daily job has run."""
    with clock.at(at):
        enqueue("registry.remove_files", key=f"remove:{at}", payload={})
        drain()


def is_stored(version: ModelVersion) -> bool:
    return bool(storages["artifacts"].exists(artifacts.stored_name(version.artifact_digest)))


# ---------------------------------------------------------------------- retention


def test_remove_files__past_retention__says_when_and_why_and_keeps_the_record() -> None:
    version = world.version(files=[("notes.txt", world.artifact_file(b"notes", "n"))])
    kept_for(30)
    worked()
    assert not is_stored(version)
    event = Event.objects.get(name="artifact.removed")
    assert (event.service, event.subject_id, len(event.data["files"])) == ("registry", str(version.pk), 2)
    assert [file.path for file in version.files.all()] == ["model.skops", "notes.txt"]
    with pytest.raises(Unavailable, match=r"removed on 2013-07-10.*retention of 30 days"):
        artifacts.local_path(version)


def test_remove_files__done_again__changes_nothing() -> None:
    world.version()
    kept_for(30)
    worked()
    worked(LATER + timedelta(days=1))
    assert Event.objects.filter(name="artifact.removed").count() == 1


@pytest.mark.parametrize("days", [None, 101])
def test_remove_files__within_retention__stay(days: int | None) -> None:
    version = world.version()
    kept_for(days)
    worked()
    assert is_stored(version)
    with pytest.raises(Conflict, match="longer"):
        actions.remove_files(version, actor=ROBOT, now=LATER)


def _hold(version: ModelVersion) -> None:
    actions.place_hold(version, reason="Case 7.", actor=paula(), now=NOON)


def _report(version: ModelVersion) -> None:
    Report.objects.create(
        kind="dossier", subject_type="registry.modelversion", subject_id=str(version.pk), position=1, digest="0" * 64,
        generator="1", issued_by=alice(), issued_at=NOON,
    )  # fmt: skip


@pytest.mark.parametrize(("refer", "why"), [(_hold, "Case 7"), (_report, "issued")])
def test_remove_files__version_that_something_refers_to__stay(refer: Any, why: str) -> None:
    version = world.version()
    kept_for(1)
    refer(version)
    worked()
    assert is_stored(version)
    assert why in "; ".join(artifacts.references(version))
    with pytest.raises(Conflict, match=why):
        actions.remove_files(version, actor=ROBOT, now=LATER)


def test_references__champion_in_a_rollout__names_alias_route_and_rollout() -> None:
    there = building.build()
    champion = Alias.objects.get(registered_model=there.registered_model).version
    why = "; ".join(artifacts.references(champion))
    assert "it is the champion" in why
    assert "promoted" in why


def test_remove_files__bytes_that_a_kept_version_has_too__stay() -> None:
    old, new = world.version(), world.version(commit="c" * 40, now=LATER - timedelta(days=1))
    assert old.artifact_digest == new.artifact_digest
    kept_for(30)
    worked()
    assert artifacts.local_path(new) == artifacts.local_path(old)
    assert not Event.objects.filter(name="artifact.removed").exists()


def test_remove_files__bytes_of_versions_that_are_all_due__go() -> None:
    first, second = world.version(), world.version(commit="c" * 40)
    kept_for(30)
    worked()
    assert not is_stored(first)
    with pytest.raises(Unavailable, match="removed"):
        artifacts.local_path(second)


def test_register_version__bytes_that_were_removed__are_there_again() -> None:
    old = world.version()
    kept_for(30)
    worked()
    new = world.version(commit="c" * 40, now=LATER)
    assert artifacts.local_path(new).read_bytes() == world.model_bytes()
    assert artifacts.verify(old) == artifacts.verify(new) == []


def test_remove_files__bytes_that_no_version_took_up__are_nobodys_after_a_day() -> None:
    with clock.at(NOON):
        stored = artifacts.store(io.BytesIO(b"lost"))
    worked(NOON + timedelta(hours=23))
    assert storages["artifacts"].exists(artifacts.stored_name(stored.digest))
    worked(NOON + timedelta(hours=25))
    assert not storages["artifacts"].exists(artifacts.stored_name(stored.digest))
    assert Blob.objects.get(pk=stored.digest).removed_because == "Nothing was registered with it."


def test_sweep__bytes_whose_upload_ended_before_they_were_recorded__go_after_a_day(data_root: Path) -> None:
    digest = hashlib.sha256(b"half").hexdigest()
    left = Path(storages["artifacts"].path(artifacts.stored_name(digest)))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    worked()
    assert left.exists()
    os.utime(left, (left.stat().st_mtime - 90_000,) * 2)
    worked(LATER + timedelta(days=1))
    assert not left.exists()
    assert artifacts.path_of(artifacts.store(io.BytesIO(b"half")).digest, what="It").read_bytes() == b"half"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_remove_files__while_a_version_with_the_same_bytes_is_put_on_hold__they_stay_or_the_hold_comes_after() -> None:
    old, new = world.version(), world.version(commit="c" * 40)
    kept_for(30)

    def act(number: int) -> Any:
        if number:
            return actions.place_hold(new, reason="A lawsuit.", actor=audrey(), now=LATER)
        return actions.remove_files(old, actor=ROBOT, now=LATER)

    audrey()
    removed, held = sorted(race(act, threads=2), key=lambda each: isinstance(each, LegalHold))
    assert isinstance(held, LegalHold), held
    placed = Event.objects.get(name="legal_hold.placed")
    assert removed is None or (isinstance(removed, Event) and removed.pk < placed.pk), removed
    assert is_stored(new) == (removed is None) or Blob.objects.get(pk=new.artifact_digest).removed_at


def test_record_conversion__bytes_that_were_removed_meanwhile__are_there_again() -> None:
    version = world.version()
    tried = Tried(ConversionOutcome.USED, "Same.", 1e-5, content=b"onnx", rows=10, max_difference=0.0)
    stored = artifacts.store(io.BytesIO(b"onnx"))
    Blob.objects.filter(pk=stored.digest).update(removed_at=NOON, removed_because="Nobody's.")
    record_conversion(version, tried, actor=ROBOT, now=NOON)
    assert artifacts.path_of(stored.digest, what="It").read_bytes() == b"onnx"


# ---------------------------------------------------------------------- nothing else deletes


def test_files__deleted_by_anybody__are_still_there() -> None:
    version = world.version()
    _hold(version)
    rows: list[models.Model] = [version, *ArtifactFile.objects.all(), *Blob.objects.all(), *LegalHold.objects.all()]
    for row in rows:
        with pytest.raises((IntegrityError, models.ProtectedError)), transaction.atomic():
            row.delete()
        with pytest.raises(IntegrityError), transaction.atomic():
            type(row)._base_manager.filter(pk=row.pk)._raw_delete("default")
    with pytest.raises(Conflict, match="retention"):
        storages["artifacts"].delete(artifacts.stored_name(version.artifact_digest))
    assert artifacts.verify(version) == []


def test_files__changed_behind_our_back__are_refused_by_the_database() -> None:
    version = world.version()
    _hold(version)
    changes: list[tuple[Any, dict[str, Any]]] = [
        (ArtifactFile, {"path": "other"}),
        (Blob, {"bytes": 1}),
        (Blob, {"stored_at": LATER}),
        (LegalHold, {"reason": "other"}),
        (LegalHold, {"released_at": LATER, "released_by": paula()}),
        (ModelVersion, {"load_class": LoadClass.EXTERNAL}),
    ]
    for model, change in changes:
        with pytest.raises(IntegrityError), transaction.atomic():
            model.objects.update(**change)


def test_store__place_that_is_taken__is_not_written_again() -> None:
    version = world.version()
    path = Path(storages["artifacts"].path(artifacts.stored_name(version.artifact_digest)))
    before = path.stat()
    artifacts.store(io.BytesIO(world.model_bytes()))
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert before.st_mode & 0o222 == 0


# ---------------------------------------------------------------------- holds


def test_hold__placed_and_released__by_two_people_with_an_event_each() -> None:
    version = world.version()
    _hold(version)
    actions.release_hold(version, reason="Case closed.", actor=audrey(), now=LATER)
    events = Event.objects.about(version).filter(name__startswith="legal_hold.")
    assert [(event.name, event.actor, event.reason) for event in events] == [
        ("legal_hold.placed", paula(), "Case 7."),
        ("legal_hold.released", audrey(), "Case closed."),
    ]
    actions.place_hold(version, reason="Case 8.", actor=audrey(), now=LATER)
    assert version.holds.count() == 2


def test_place_hold__twice__is_a_conflict() -> None:
    version = world.version()
    _hold(version)
    with pytest.raises(Conflict, match="on hold already"):
        actions.place_hold(version, reason="x", actor=alice(), now=NOON)


@pytest.mark.parametrize("who", [charlie, lambda: person("root", is_superuser=True), lambda: ROBOT])
def test_place_hold__by_no_owner_and_no_auditor__is_refused(who: Any) -> None:
    with pytest.raises(NotPermitted):
        actions.place_hold(world.version(), reason="x", actor=who(), now=NOON)


@pytest.mark.parametrize("who", [charlie, alice, paula, pete, lambda: ROBOT])
def test_release_hold__by_no_auditor__is_refused(who: Any) -> None:
    version = world.version()
    _hold(version)
    with pytest.raises(NotPermitted, match="auditor or an administrator"):
        actions.release_hold(version, reason="x", actor=who(), now=NOON)


def test_release_hold__by_who_placed_it__is_refused() -> None:
    version = world.version()
    actions.place_hold(version, reason="x", actor=audrey(), now=NOON)
    with pytest.raises(NotPermitted, match="not audrey"):
        actions.release_hold(version, reason="x", actor=audrey(), now=NOON)
    actions.release_hold(version, reason="x", actor=person("root", is_superuser=True), now=NOON)


def test_release_hold__that_does_not_stand__is_not_found() -> None:
    with pytest.raises(NotFound):
        actions.release_hold(world.version(), reason="x", actor=audrey(), now=NOON)


# ---------------------------------------------------------------------- policies


def test_set_retention__changed__is_one_event_and_the_same_again_none() -> None:
    for days in (30, 30, None):
        kept_for(days)
    events = Event.objects.filter(name="registered_model.retention_set").order_by("id")
    assert [event.data for event in events] == [{"before": None, "after": 30}, {"before": 30, "after": None}]


@pytest.mark.parametrize("who", [alice, paula, charlie, audrey])
def test_policies__by_anybody_but_the_platform_owner__are_refused(who: Any) -> None:
    model = registered_model()
    with pytest.raises(NotPermitted):
        actions.set_retention(model, days=1, reason="x", actor=who(), now=NOON)
    with pytest.raises(NotPermitted):
        actions.set_quota(model, bytes=2**30, reason="x", actor=who(), now=NOON)


def test_policies__out_of_bounds__are_refused_by_field() -> None:
    model = registered_model()
    with pytest.raises(InvalidInput, match="days"):
        actions.set_retention(model, days=0, reason="x", actor=pete(), now=NOON)
    with pytest.raises(InvalidInput, match="bytes"):
        actions.set_quota(model, bytes=1, reason="x", actor=pete(), now=NOON)
