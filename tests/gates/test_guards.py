"""Nobody gets past the gates: not through the ORM, not by bulk, not by raw SQL."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from features.models import Dataset, FeatureService
from gates import actions
from gates.models import CheckResult, Evidence, GateRun, Policy, Preparation
from registry.models import Blob, Conversion, ModelVersion
from rollout.models import Endpoint, Rollout
from tests.builders import NOON, ROBOT, group, registered_model
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


@pytest.mark.parametrize("was", ["shadow", "paused"])
def test_rollout__whose_policy_was_replaced_on_the_way__enters_no_stage_any_more(was: str) -> None:
    rollout = rows.rollout(rows.passed())
    rollout.save()
    mine = Rollout.objects.filter(pk=rollout.pk)
    mine.update(state="shadow")
    mine.update(state=was)
    rows.policy({**rows.AUC, "at_least": 0.9})

    for state in {"shadow", "canary", "promoted"} - {was}:
        with refused(match="policy in force"), transaction.atomic():
            mine.update(state=state)
    mine.update(state="aborted")


def test_rollout__canary_that_began_under_a_policy_replaced_since__goes_on_and_is_promoted() -> None:
    rollout = rows.rollout(rows.passed())
    rollout.save()
    mine = Rollout.objects.filter(pk=rollout.pk)
    for state in ("shadow", "canary"):
        mine.update(state=state)
    rows.policy({**rows.AUC, "at_least": 0.9})

    mine.update(state="canary", step=2)
    mine.update(state="promoted")
    assert mine.get().state == "promoted"


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
    with refused(match="while its gate run is running"), transaction.atomic():
        CheckResult.objects.create(gate_run=run, check_id="auc-floor", kind="metric", blocking=True, verdict="passed")

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


def test_gate_run__what_it_is_measured_on__is_fixed_when_it_begins() -> None:
    run, other = rows.running(), rows.version()
    for change in ({"champion": other}, {"seed": 7}):
        with refused(match="is fixed when it begins"), transaction.atomic():
            GateRun.objects.filter(pk=run.pk).update(**change)


def test_gate_run__holdout__is_set_once_and_while_it_runs() -> None:
    holdout, another = holdouts()
    ended, run = rows.passed(), rows.running(rows.version())
    with refused(match="is fixed when it begins"), transaction.atomic():
        GateRun.objects.filter(pk=ended.pk).update(holdout=holdout)
    rows.prepared(run, holdout=holdout)
    for changed in (another, None):
        with refused(match="is fixed when it begins"), transaction.atomic():
            GateRun.objects.filter(pk=run.pk).update(holdout=changed)


def holdouts() -> list[Dataset]:
    service = FeatureService.objects.create(
        name="delay", number=1, owner=group("delay-science"), content_hash="5" * 64, created_at=NOON
    )
    values = {"service": service, "purpose": "holdout", "label": "late", "timestamp": "asked", "as_of": NOON, "rows": 9}
    return [
        Dataset.objects.create(digest=each * 64, uri=f"datasets/{each}.parquet", created_at=NOON, **values)
        for each in "ab"
    ]


# ---------------------------------------------------------------------- results, evidence, policies


@pytest.mark.parametrize("state", ["open", "ended"])
def test_preparation__of_a_run_that_is_not_running__is_refused(state: str) -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    if state == "ended":
        actions.give_up(run, actor=ROBOT, reason="", now=NOON)
    with refused(match="prepared while it is running"), transaction.atomic():
        rows.prepared(run)


def test_preparation__once_written__can_not_be_changed_or_deleted() -> None:
    rows.prepared(rows.running())
    with refused(match="append-only"), transaction.atomic():
        Preparation.objects.update(inputs={})
    with refused(match="can not be deleted"), transaction.atomic():
        rows.execute("DELETE FROM gates_preparation")


def test_check_result__of_a_run_that_waits__is_refused_unless_it_is_of_evidence() -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    with refused(match="while its gate run is running"), transaction.atomic():
        CheckResult.objects.create(gate_run=run, check_id="auc-floor", kind="metric", blocking=True, verdict="passed")

    CheckResult.objects.create(gate_run=run, check_id="ci", kind="ci_evidence", blocking=True, verdict="failed")


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


# ---------------------------------------------------------------------- the form that is served


def converted(version: ModelVersion, digest: str = "f" * 64, outcome: str = "used") -> Conversion:
    used = outcome == "used"
    blob = Blob.objects.get_or_create(digest=digest, defaults={"bytes": 1, "stored_at": NOON})[0] if used else None
    values = {"blob": blob, "max_difference": 0.0 if used else None, "rows": 9, "tolerance": 1e-6}
    return Conversion.objects.create(version=version, outcome=outcome, reason="", converted_at=NOON, **values)


def test_conversion__of_a_version_that_passed_as_it_was_registered__is_refused() -> None:
    run = rows.running()
    rows.prepared(run)
    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    with refused(match="in which they measured it"), transaction.atomic():
        converted(run.version)
    converted(run.version, outcome="differs")


def test_gate_run__measured_in_the_form_that_is_served__passes() -> None:
    run = rows.running()
    converted(run.version)
    rows.prepared(run, served_digest="f" * 64)
    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    assert run.state == "passed"


def test_conversion__of_a_version_that_failed__is_accepted() -> None:
    run = rows.running()
    rows.prepared(run)
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)

    assert converted(run.version).outcome == "used"


def test_gate_run__measured_in_another_form_than_is_served__can_not_pass() -> None:
    run = rows.running()
    rows.prepared(run)
    converted(run.version)
    CheckResult.objects.create(gate_run=run, check_id="auc-floor", kind="metric", blocking=True, verdict="passed")

    with refused(match="served in the form that was measured"), transaction.atomic():
        GateRun.objects.filter(pk=run.pk).update(state="passed")
