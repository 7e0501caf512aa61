import pytest

from audit.models import Event
from audit.trail import record
from gates.models import GateRun
from gates.reactions import begin_waiting_runs, open_gate_run
from gates.standing import standing
from registry.models import ModelVersion
from tests.builders import ROBOT, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db


def registered(version: ModelVersion) -> Event:
    return record("model_version.registered", version, actor=ROBOT)


def test_open_gate_run__twice__opens_one() -> None:
    rows.policy()
    event = registered(rows.version())
    open_gate_run(event)
    open_gate_run(event)

    assert GateRun.objects.count() == 1


def test_open_gate_run__model_without_a_policy__opens_none() -> None:
    open_gate_run(registered(rows.version()))

    assert not GateRun.objects.exists()


def test_begin_waiting_runs__last_missing_report__begins_only_the_runs_of_that_code() -> None:
    rows.policy(rows.AUC, rows.CI)
    mine, other = rows.running(), rows.running(rows.version(code_digest="beef" * 16))
    rows.evidence("lint", "[]")
    rows.evidence("unit")
    for event in Event.objects.filter(name="evidence.submitted"):
        begin_waiting_runs(event)

    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.state, other.state) == ("running", "open")


def test_begin_waiting_runs__evidence_of_another_model__begins_nothing() -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    for kind, payload in (("lint", "[]"), ("unit", rows.JUNIT)):
        rows.evidence(kind, payload, registered_model=registered_model("other"))
    for event in Event.objects.filter(name="evidence.submitted"):
        begin_waiting_runs(event)

    run.refresh_from_db()
    assert run.state == "open"


def test_open_gate_run__policy_that_can_not_be_read__opens_none_and_the_standing_tells() -> None:
    rows.unreadable_policy(registered_model())
    version = rows.version()
    open_gate_run(registered(version))

    assert not GateRun.objects.exists()
    assert "no longer read" in standing(version).message


def test_begin_waiting_runs__one_with_a_policy_that_can_not_be_read__ends_it_and_begins_the_others() -> None:
    rows.policy(rows.AUC, rows.CI)
    other = rows.running()
    lost = rows.run_under(rows.version(), rows.unreadable_policy(registered_model()))
    rows.evidence("lint", "[]")
    rows.evidence("unit")
    for event in Event.objects.filter(name="evidence.submitted"):
        begin_waiting_runs(event)

    lost.refresh_from_db()
    other.refresh_from_db()
    assert (lost.state, other.state) == ("error", "running")
