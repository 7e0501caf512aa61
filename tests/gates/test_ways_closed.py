"""Ways around the gates that were there once, one by one; ``tests/mlops/test_no_way_around.py`` looks for new ones."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from gates.models import CheckResult, GateRun, Policy
from registry.models import Alias, ModelVersion
from rollout.models import Endpoint, Rollout, Route
from tests.builders import NOON, alice, paula, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db


def refused(match: str) -> Any:
    return pytest.raises(IntegrityError, match=match)


def new_run(version: ModelVersion, **fields: Any) -> GateRun:
    policy = Policy.objects.in_force().get(registered_model=registered_model())
    values = {"registered_model": registered_model(), "version": version, "policy": policy, "number": 7}
    moments = {"opened_at": NOON, "deadline": NOON, "state": "open"}
    return GateRun(**{**values, **moments, "required_checks": 2, **fields})


def new_result(run: GateRun, **fields: Any) -> CheckResult:
    values = {"check_id": "auc-floor", "kind": "metric", "blocking": True, "verdict": "passed", "message": ""}
    return CheckResult(gate_run=run, **{**values, **fields})


def test_gate_run__opened_with_fewer_checks_than_its_policy_has__is_refused() -> None:
    rows.policy(rows.AUC, rows.CI)
    version = rows.version()
    with refused("requires each of its blocking checks"), transaction.atomic():
        new_run(version, required_checks=1).save()
    new_run(version).save()


def test_gate_run__of_another_models_version__is_refused() -> None:
    rows.policy(rows.AUC, rows.CI)
    with refused("starts open"), transaction.atomic():
        new_run(rows.version(registered_model("other"))).save()


def test_gate_run__that_never_ran__can_not_pass() -> None:
    rows.policy(rows.CI)
    run = rows.running()
    new_result(run, check_id="ci", kind="ci_evidence").save()
    with refused("every blocking check"), transaction.atomic():
        GateRun.objects.filter(pk=run.pk).update(state="passed")


@pytest.mark.parametrize("wrong", [{"check_id": "easy"}, {"kind": "custom"}, {"blocking": False}])
def test_check_result__that_the_policy_does_not_ask_for__is_refused(wrong: dict[str, Any]) -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "report", "blocking": False})
    run = rows.running()
    with refused("that the policy of its run has"), transaction.atomic():
        CheckResult.objects.bulk_create([new_result(run, **wrong)])
    new_result(run).save()
    new_result(run, check_id="report", blocking=False).save()


def test_policy__proposed_by_somebody_who_is_no_data_scientist__is_refused() -> None:
    of = registered_model()
    fields = {"registered_model": of, "document": {"checks": [rows.AUC]}, "content_hash": "0", "created_at": NOON}
    with refused("data science owner"), transaction.atomic():
        Policy.objects.create(number=1, created_by=paula(), **fields)
    Policy.objects.create(number=1, created_by=alice(), **fields)


@pytest.mark.parametrize(("ended", "back"), [("aborted", "canary"), ("promoted", "shadow"), ("shadow", "pending")])
def test_rollout__that_ended_or_began__does_not_go_back(ended: str, back: str) -> None:
    rollout = rows.rollout(rows.passed())
    rollout.save()
    Rollout.objects.filter(pk=rollout.pk).update(state=ended)
    with refused("starts once"), transaction.atomic():
        Rollout.objects.filter(pk=rollout.pk).update(state=back)


def test_rollout__on_the_endpoint_of_another_model__is_refused() -> None:
    passed = rows.rollout(rows.passed(rows.version(registered_model("other"))))
    passed.endpoint = rows.endpoint(registered_model())
    Endpoint.objects.update(registered_model=registered_model())
    with refused("not passed every gate"), transaction.atomic():
        passed.save()


def test_champion__of_another_model__is_refused_by_alias_and_route() -> None:
    promoted = rows.rollout(rows.passed(rows.version(registered_model("other"))))
    promoted.save()
    Rollout.objects.update(state="promoted")
    with refused("promoted version of the model"), transaction.atomic():
        Alias.objects.create(registered_model=registered_model(), name="champion", version=promoted.version, since=NOON)
    Endpoint.objects.update(registered_model=registered_model())
    with refused("the route serves only"), transaction.atomic():
        Route.objects.create(endpoint=promoted.endpoint, champion=promoted.version)
