"""Builders for the gates' tests: versions, policies and runs as rows, without any data behind them."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

from django.db import connection

from gates import actions
from gates.judge import Judgement
from gates.models import Evidence, GateRun, Policy, PolicyDecision, Preparation
from gates.preparation import Prepared
from registry.models import LoadClass, ModelVersion, RegisteredModel
from rollout.models import Endpoint, Rollout
from tests.builders import NOON, ROBOT, alice, paula, policy_in_force, registered_model

CODE = "c0de" * 16
JUNIT = '<testsuite><testcase classname="tests" name="test_a"/><testcase classname="tests" name="test_b"/></testsuite>'
RED = '<testsuite><testcase classname="tests" name="test_a"><failure/></testcase></testsuite>'
AUC: dict[str, Any] = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6}
CI: dict[str, Any] = {"id": "ci", "kind": "ci_evidence", "require": ["lint", "unit"]}
_numbers = count(1)


def version(of: RegisteredModel | None = None, **fields: Any) -> ModelVersion:
    """A version that was registered by hand: no event, no artifact."""
    number = next(_numbers)
    values = {
        "number": number,
        "artifact_digest": f"{number:064x}",
        "artifact_name": "model.skops",
        "artifact_bytes": 1,
        "load_class": LoadClass.SKOPS,
        "code_digest": CODE,
        "content_digest": f"{number:064x}",
        "registered_at": NOON,
        **fields,
    }
    return ModelVersion.objects.create(registered_model=of or registered_model(), **values)


def policy(*checks: dict[str, Any], of: RegisteredModel | None = None, **fields: Any) -> Policy:
    document = {"checks": list(checks or [AUC]), **fields}
    return policy_in_force(of or registered_model(), document)


def unreadable_policy(of: RegisteredModel) -> Policy:
    """A policy in force in a form that is no longer read, as an older Gatehouse may have left it."""
    document = {"checks": [{**AUC, "drift_tolerance": 1}]}
    number = of.policies.count() + 1
    values: dict[str, Any] = {"document": document, "content_hash": f"old {number}", "created_by": alice()}
    old = Policy.objects.create(registered_model=of, number=number, created_at=NOON, **values)
    PolicyDecision.objects.create(
        policy=old, outcome="confirmed", duty="product", reason="Then.", decided_by=paula(), decided_at=NOON
    )
    return old


def run_under(of: ModelVersion, policy: Policy, state: str = "open") -> GateRun:
    """A run that somebody else opened, of a policy with one blocking check."""
    run = GateRun.objects.create(
        registered_model=of.registered_model,
        version=of,
        policy=policy,
        state="open",
        number=of.gate_runs.count() + 1,
        required_checks=1,
        opened_at=NOON,
        deadline=NOON + timedelta(days=7),
    )
    GateRun.objects.filter(pk=run.pk).update(state=state)
    run.refresh_from_db()
    return run


def evidence(kind: str, payload: Any = JUNIT, *, code_digest: str = CODE, **fields: Any) -> Evidence:
    values = {"registered_model": registered_model(), "actor": ROBOT, "now": NOON, **fields}
    return actions.submit_evidence(kind=kind, code_digest=code_digest, payload=payload, **values)


def judged(check_id: str, verdict: Any = "passed", *, blocking: bool = True) -> Judgement:
    return Judgement(check_id, "metric", blocking, verdict, f"It {verdict}.", value=0.7, low=0.6, high=0.8, n=100)


def running(of: ModelVersion | None = None) -> GateRun:
    """A run that is being measured, under the policy in force (made if there is none)."""
    of = of or version()
    if actions.in_force(of.registered_model) is None:
        policy(of=of.registered_model)
    return actions.open_run(of, actor=ROBOT, reason="For a test.", now=NOON)


def prepared(run: GateRun, **fields: Any) -> Preparation:
    """Fix the inputs of a running run, as if nothing had been there to measure it on."""
    described = {"name": str(run.version), "form": {}, "features": [], "columns": []}
    inputs = {
        "began": NOON.isoformat(),
        "task": "binary_classification",
        "label": "late",
        "seed": run.seed,
        "candidate": described,
        "champion": None,
        "champion_is_unfair": False,
        "libraries": {},
    }
    values: dict[str, Any] = {
        "holdout": None,
        "served_digest": run.version.artifact_digest,
        "inputs": inputs,
        "scores_digest": "",
        "missing": {"holdout": "There are no rows."},
        "curves": {},
        "wall_seconds": 0.1,
        **fields,
    }
    return actions.record_preparation(run, Prepared(**values), actor=ROBOT, now=NOON)


def passed(of: ModelVersion | None = None) -> GateRun:
    run = running(of)
    actions.conclude(run, [judged("auc-floor")], actor=ROBOT, now=NOON)
    return run


def crown(gate_run: GateRun) -> None:
    """Make the version of a passed run champion, by way of a rollout that was promoted."""
    promoted = rollout(gate_run)
    promoted.save()
    Rollout.objects.filter(pk=promoted.pk).update(state="promoted")
    of = gate_run.registered_model
    of.aliases.update_or_create(name="champion", defaults={"version": gate_run.version, "since": NOON})


def endpoint(of: RegisteredModel) -> Endpoint:
    values = {
        "title": "Delay warning",
        "registered_model": of,
        "entity_column": "flight",
        "outcome_window": timedelta(hours=12),
        "created_at": NOON,
    }
    return Endpoint.objects.get_or_create(name="delay-warning", defaults=values)[0]


def rollout(gate_run: GateRun, of: ModelVersion | None = None) -> Rollout:
    """An unsaved rollout row that claims a gate run."""
    of = of or gate_run.version
    return Rollout(
        endpoint=endpoint(of.registered_model),
        registered_model=of.registered_model,
        version=of,
        gate_run=gate_run,
        plan={},
        salt="s",
        state="pending",
        created_at=NOON,
    )


def execute(sql: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
