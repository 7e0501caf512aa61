"""Signed checkpoints: one for each length of the log, kept outside, believed only when the signature holds."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction

from audit import canonical, chain, checkpoints, checks, guards, merkle, signing, verification
from audit.models import Checkpoint, Event, Link
from audit.trail import record
from jobs.drain import drain
from jobs.models import Job
from jobs.run import enqueue
from tests.audit.subjects import ROBOT, incident
from tests.builders import NOON

pytestmark = pytest.mark.django_db(transaction=True)


def write(count: int = 3, cause: str = "freshness:weather") -> list[Event]:
    thing = incident(cause)
    return [record("incident.seen", thing, actor=ROBOT, reason=f"Look {n}") for n in range(count)]


def made() -> Checkpoint:
    checkpoint = checkpoints.make(now=NOON)
    assert checkpoint is not None
    return checkpoint


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def as_superuser() -> Iterator[None]:
    """For the events and checkpoints that are there when ``unguarded`` is called."""
    yield
    sql("SET session_replication_role = DEFAULT" if connection.vendor == "postgresql" else "PRAGMA foreign_keys = ON")


def unguarded() -> None:
    for guard in guards.declared():
        on = f' ON "{guard.table}"' if connection.vendor == "postgresql" else ""
        sql(f'DROP TRIGGER IF EXISTS "{guard.name}"{on}')
    sql("SET session_replication_role = replica" if connection.vendor == "postgresql" else "PRAGMA foreign_keys = OFF")


# ---------------------------------------------------------------------- making them


def test_make__of_an_empty_log__is_nothing() -> None:
    assert checkpoints.make(now=NOON) is None
    assert not checkpoints.file().exists()


def test_make__signs_the_head_and_the_root__in_the_database_and_in_the_file() -> None:
    write(3)
    checkpoint = made()

    hashes = [bytes.fromhex(link.hash) for link in Link.objects.order_by("position")]
    assert (checkpoint.size, checkpoint.head) == (3, hashes[-1].hex())
    assert checkpoint.root == merkle.root(hashes).hex()
    (line,) = checkpoints.file().read_text().splitlines()
    assert signing.SignedCheckpoint.parse(line) == checkpoints.signed(checkpoint)
    assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    assert checkpoints.signed(checkpoint).holds({checkpoint.key_id: checkpoints.private_key().public_key()})


def test_make__twice_for_one_length__is_one() -> None:
    write(1)
    assert made() == made()
    write(1, "another")
    assert made().size == 2
    assert [each.size for each in checkpoints.read(checkpoints.file())] == [1, 2]


def test_checkpoint__changed__is_refused() -> None:
    write(1)
    made()
    for change in (lambda: Checkpoint.objects.update(size=9), lambda: Checkpoint.objects.all().delete()):
        with pytest.raises(IntegrityError, match="audit_checkpoint"), transaction.atomic():
            change()


def test_seal__by_schedule_and_on_promotion__makes_one() -> None:
    write(1)
    enqueue("audit.seal", key="slot")
    drain()
    assert Checkpoint.objects.get().size == 1

    record("rollout.promoted", incident("promoted"), actor=ROBOT)
    assert Job.objects.filter(key__contains="ask_for_checkpoint").exists()


# ---------------------------------------------------------------------- the key


def test_key__in_development__is_made_for_its_owner_only(data_root: Path) -> None:
    first = checkpoints.public_key()

    assert len(first) == 32
    assert checkpoints.public_key() == first
    assert stat.S_IMODE((data_root / "audit_key.pem").stat().st_mode) == 0o600


def test_key__given_as_pem_or_as_path__is_used(settings: Any, tmp_path: Path) -> None:
    pem = signing.new_key()
    settings.AUDIT_KEY = pem
    expected = checkpoints.public_key()
    path = tmp_path / "key.pem"
    path.write_text(pem)
    settings.AUDIT_KEY = str(path)

    assert checkpoints.public_key() == expected == signing.read_private_key(pem).public_key().public_bytes_raw()


@pytest.mark.parametrize("key", ["", "/no/such/file", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
def test_key__missing_or_unreadable_in_production__says_what_to_set(settings: Any, key: str) -> None:
    settings.AUDIT_KEY, settings.MAKES_AUDIT_KEY, settings.CHECKPOINTS = key, False, "/mnt/worm/checkpoints.jsonl"

    with pytest.raises(ImproperlyConfigured, match="GATEHOUSE_AUDIT_KEY"):
        checkpoints.private_key()
    (found,) = checks.log_is_sealed()
    assert found.id == "audit.E001"


def test_check__with_key_but_checkpoints_beside_the_data__warns(settings: Any) -> None:
    settings.AUDIT_KEY = signing.new_key()
    assert [each.id for each in checks.log_is_sealed()] == ["audit.W001"]
    settings.CHECKPOINTS = "/mnt/worm/checkpoints.jsonl"
    assert checks.log_is_sealed() == []


# ---------------------------------------------------------------------- verify_audit


def verify_audit(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_verify_audit__of_an_intact_log__ends_with_0() -> None:
    write(3)
    made()

    code, said = verify_audit()
    assert code == 0
    assert said.startswith("3 events, 1 checkpoints: intact. Head 3 ")
    code, said = verify_audit("--json")
    assert (code, json.loads(said)["intact"], json.loads(said)["problems"]) == (0, True, [])


@pytest.mark.usefixtures("as_superuser")
def test_verify_audit__end_cut_off__is_found_by_the_checkpoint() -> None:
    events = write(4)
    made()
    unguarded()
    sql("DELETE FROM audit_link WHERE position > 2")
    sql(f"DELETE FROM audit_event WHERE id > {events[1].pk}")
    assert chain.verify().is_intact  # the chain alone does not show it

    code, said = verify_audit()
    assert code == 1
    assert said.startswith("truncated: ")
    assert "the log ends at 2: the last 2 were cut off" in said


@pytest.mark.usefixtures("as_superuser")
def test_verify_audit__history_rewritten_to_its_end__is_found_by_the_copy_outside(tmp_path: Path) -> None:
    events = write(4)
    made()
    outside = tmp_path / "outside.jsonl"
    outside.write_bytes(checkpoints.file().read_bytes())
    unguarded()
    Event.objects.filter(pk=events[1].pk).update(reason="Nothing happened.")
    _forge_all_links()
    Checkpoint.objects.all()._raw_delete("default")
    checkpoints.file().unlink()
    assert "unguarded: guard_audit_event_update" in verify_audit()[1]
    guards.install()
    assert verify_audit()[0] == 0  # whoever may write everything, and the key, leaves no trace here

    code, said = verify_audit("--checkpoints", str(outside), "--json")
    assert code == 1
    (problem,) = json.loads(said)["problems"]
    assert (problem["kind"], problem["position"]) == ("edited", 4)
    assert "links from 1 on were rewritten" in problem["message"]


def _forge_all_links() -> None:

    before = ""
    for link in Link.objects.select_related("event").order_by("position"):
        digest = chain.digest_of(link.event)
        Event.objects.filter(pk=link.event_id).update(digest=digest)
        before = canonical.link(before, link.event_id, digest)
        Link.objects.filter(pk=link.pk).update(hash=before)


def test_verify_audit__checkpoint_with_a_wrong_signature__is_told_and_proves_nothing(tmp_path: Path) -> None:
    write(2)
    forged = replace(checkpoints.signed(made()), size=1)
    path = tmp_path / "forged.jsonl"
    path.write_text(forged.line() + "\n")

    code, said = verify_audit("--checkpoints", str(path))
    assert code == 1
    assert said.startswith("signature: The checkpoint of 2013-04-01T12:00:00.000000Z over 1 events has a wrong signat")


def test_verify_audit__public_key_of_somebody_else__trusts_no_checkpoint(tmp_path: Path) -> None:
    write(2)
    made()
    path = tmp_path / "key.pem"
    path.write_text(signing.as_pem(signing.read_private_key(signing.new_key()).public_key()))

    code, said = verify_audit("--public-key", str(path))
    assert code == 1
    assert "not among the trusted ones" in said
    path.write_text(signing.as_pem(checkpoints.private_key().public_key()))
    assert verify_audit("--public-key", str(path))[0] == 0


def test_verify_audit__after_the_key_was_changed__trusts_the_former_one_where_it_is_named(settings: Any) -> None:
    write(1)
    made()
    former = checkpoints.public_key().hex()
    settings.AUDIT_KEY = signing.new_key()

    assert verify_audit()[0] == 1
    settings.AUDIT_FORMER_KEYS = [former]
    assert verify_audit()[0] == 0


@pytest.mark.parametrize("line", ["{}", "x", "[]", '{"size": "1", "head": "", "root": "", "at": "", "key_id": ""}'])
def test_verify_audit__file_that_is_none__names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(line)
    with pytest.raises(CommandError, match=r"wrong.jsonl, line 1"):
        verify_audit("--checkpoints", str(path))


# ---------------------------------------------------------------------- by night


@pytest.mark.usefixtures("as_superuser")
def test_verify__by_night__records_each_problem_once() -> None:
    events = write(3)
    unguarded()
    Event.objects.filter(pk=events[1].pk).update(reason="Nothing happened.")
    sql("SET session_replication_role = DEFAULT" if connection.vendor == "postgresql" else "PRAGMA foreign_keys = ON")
    guards.install()

    for night in ("first", "second"):
        enqueue("audit.verify", key=night)
        drain()

    told = Event.objects.get(name=verification.FAILED)
    assert (told.subject_type, told.subject_id) == ("audit.event", str(events[1].pk))
    assert told.data == {"kind": "edited", "position": 2, "event": events[1].pk, "problems": 1}
    assert "was edited" in told.reason
    assert [job.result for job in Job.objects.order_by("id")] == [
        {"events": 3, "problems": 1},
        {"events": 4, "problems": 1},
    ]
