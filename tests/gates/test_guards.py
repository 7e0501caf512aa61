"""Nobody gets past the gates: not through the ORM, not by bulk, not by raw SQL."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from gates import actions
from gates.models import CheckResult, Evidence, GateRun, Policy
from rollout.models import Endpoint, Rollout
from tests.builders import NOON, ROBOT, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db


def refused(*, match: str | None = None) -> pytest.RaisesExc[IntegrityError]:
    return pytest.raises(IntegrityError, match=match)


# ---------------------------------------------------------------------- rollouts


@pytest.fixture(params=["open", "running", "failed", "inconclusive", "error"])
def run_that_did_not_pass(request: pytest.FixtureRequest) -> GateRun:
    verdicts = {"failed": "failed", "inconclusive": "inconclusive", "error": "error"}
    if request.param == "open":
        rows.policy(rows.AUC, rows.CI)
        return rows.running()
    run = rows.running()
    if request.param in verdicts:
        actions.conclude(run, [rows.judged("auc-floor", verdicts[request.param])], actor=ROBOT, now=NOON)
    assert run.state == request.param
    return run


def test_rollout__of_a_run_that_did_not_pass__is_refused_by_create(run_that_did_not_pass: GateRun) -> None:
    with refused(match="not passed every gate"), transaction.atomic():
        rows.rollout(run_that_did_not_pass).save()


def test_rollout__of_a_run_that_did_not_pass__is_refused_by_bulk_create(run_that_did_not_pass: GateRun) -> None:
    with refused(match="not passed every gate"), transaction.atomic():
        Rollout.objects.bulk_create([rows.rollout(run_that_did_not_pass)])


def test_rollout__of_a_run_that_did_not_pass__is_refused_by_raw_sql(run_that_did_not_pass: GateRun) -> None:
    template = rows.rollout(rows.passed(rows.version(registered_model("other"))))
    template.save()
    columns = [str(field.column) for field in Rollout._meta.local_concrete_fields if field.name != "id"]
    mine = {
        "gate_run_id": run_that_did_not_pass.pk,
        "version_id": run_that_did_not_pass.version_id,
        "registered_model_id": run_that_did_not_pass.registered_model_id,
    }
    values = ", ".join(f'"{column}"' if column not in mine else str(mine[column]) for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with refused(match="not passed every gate"), transaction.atomic():
        rows.execute(f"INSERT INTO rollout_rollout ({names}) SELECT {values} FROM rollout_rollout")


def test_rollout__of_a_passed_run__is_accepted() -> None:
    rows.rollout(rows.passed()).save()

    assert Rollout.objects.count() == 1


def test_rollout__with_the_passed_run_of_another_version__is_refused() -> None:
    with refused(match="not passed every gate"), transaction.atomic():
        rows.rollout(rows.passed(), of=rows.version()).save()


def test_rollout__moved_to_a_run_that_did_not_pass__is_refused_by_update() -> None:
    rollout = rows.rollout(rows.passed())
    rollout.save()
    other = rows.running(rows.version())
    with refused(), transaction.atomic():
        Rollout.objects.filter(pk=rollout.pk).update(gate_run=other, version=other.version)
    with refused(), transaction.atomic():
        rows.execute("UPDATE rollout_rollout SET version_id = %s", other.version_id)


def test_rollout__under_a_policy_replaced_since__can_neither_be_made_nor_started() -> None:
    run = rows.passed()
    waiting = rows.rollout(run)
    waiting.save()
    rows.policy({**rows.AUC, "at_least": 0.9})

    with refused(match="policy in force"), transaction.atomic():
        Rollout.objects.filter(pk=waiting.pk).update(state="shadow")
    another = rows.rollout(run)
    another.endpoint = Endpoint.objects.create(
        name="other",
        title="Other",
        registered_model=run.registered_model,
        entity_column="flight",
        outcome_window=timedelta(hours=1),
        created_at=NOON,
    )
    with refused(match="policy in force"), transaction.atomic():
        another.save()


# ---------------------------------------------------------------------- gate runs


def test_gate_run__forged_to_passed__is_refused() -> None:
    run = rows.running()
    with refused(match="every blocking check"), transaction.atomic():
        GateRun.objects.filter(pk=run.pk).update(state="passed")
    with refused(match="every blocking check"), transaction.atomic():
        rows.execute("UPDATE gates_gaterun SET state = 'passed' WHERE id = %s", run.pk)


def test_gate_run__failed_then_forged_to_passed__is_refused() -> None:
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)
    CheckResult.objects.create(gate_run=run, check_id="forged", kind="metric", blocking=True, verdict="passed")

    with refused(match="every blocking check"), transaction.atomic():
        rows.execute("UPDATE gates_gaterun SET state = 'passed'")


def test_gate_run__born_passed__is_refused() -> None:
    run = rows.running()
    forged = GateRun(
        **{
            field.attname: getattr(run, field.attname)
            for field in GateRun._meta.local_concrete_fields
            if field.name != "id"
        }
    )
    forged.number, forged.state = 2, "passed"
    with refused(match="starts open"), transaction.atomic():
        GateRun.objects.bulk_create([forged])


def test_gate_run__required_checks_lowered__is_refused() -> None:
    run = rows.running()
    with refused(match="can not be changed"), transaction.atomic():
        rows.execute("UPDATE gates_gaterun SET required_checks = 0 WHERE id = %s", run.pk)
    with refused(), transaction.atomic():
        run.delete()


def test_gate_run__ended__stays_ended() -> None:
    run = rows.passed()
    with refused(), transaction.atomic():
        rows.execute("UPDATE gates_gaterun SET state = 'open' WHERE id = %s", run.pk)


# ---------------------------------------------------------------------- results, evidence, policies


def test_check_result__once_written__can_not_be_changed_or_deleted() -> None:
    result = CheckResult.objects.get(gate_run=rows.passed())
    result.message = "It was great."
    with refused(match="append-only"), transaction.atomic():
        result.save()
    with refused(match="append-only"), transaction.atomic():
        CheckResult.objects.update(verdict="passed")
    with refused(match="can not be deleted"), transaction.atomic():
        rows.execute("DELETE FROM gates_checkresult")


def test_evidence__once_written__can_not_be_changed_or_deleted() -> None:
    rows.evidence("unit", rows.RED)
    with refused(match="append-only"), transaction.atomic():
        Evidence.objects.update(verdict="passed")
    with refused(match="can not be deleted"), transaction.atomic():
        rows.execute("DELETE FROM gates_evidence")


def test_policy__once_adopted__can_not_be_changed_or_deleted() -> None:
    rows.policy()
    with refused(match="append-only"), transaction.atomic():
        Policy.objects.update(document={})
    with refused(match="can not be deleted"), transaction.atomic():
        Policy.objects.all()._raw_delete("default")
