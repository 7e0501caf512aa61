"""The artifact's checks in whole gate runs: versions of a real model, in the form in which they are served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from audit import clock
from engines import scoring
from gates import kinds
from gates.models import CheckResult, GateRun
from gates.policy import parse
from jobs.drain import drain
from registry.models import ModelVersion
from tests.gates import rows, world

pytestmark = pytest.mark.django_db

# the policy's numbers are such that no machine of ours turns a verdict
LATENCY = {
    "id": "latency",
    "kind": "latency",
    "p95_ms": 5000,
    "calls": 60,
    "budget_seconds": 30,
    "control_tolerance": 9,
}
ROBUST = {"id": "robustness", "kind": "robustness"}


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with clock.at(world.NOW):
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scoring.shut_down()


def result(run: GateRun, check: str) -> CheckResult:
    found: CheckResult = run.results.get(check_id=check)
    return found


def judged_again(of: CheckResult) -> tuple[str, str]:
    check = next(each for each in parse(of.gate_run.policy.document).checks if each.id == of.check_id)
    judgement = kinds.KINDS[of.kind].judge(check, json.loads(json.dumps(of.measured)))
    return judgement.verdict, judgement.message


def gated(version: ModelVersion) -> GateRun:
    drain()
    found: GateRun = version.gate_runs.get()
    return found


def test_run__boosted_trees__pass_both_and_name_the_form_that_was_measured() -> None:
    pipeline = world.build(per_day=60)
    rows.policy(LATENCY, ROBUST)
    run = gated(world.version(pipeline, HistGradientBoostingClassifier(max_iter=20)))
    robustness = result(run, "robustness")

    assert run.state == "passed", run.state_reason
    assert robustness.measured["served"]["load_class"] == "onnx"
    assert robustness.measured["registered"]["digest"] == run.version.artifact_digest
    assert robustness.measured["parity"]["by"] == "scores"
    assert 0 < robustness.measured["parity"]["max_difference"] < 1e-5
    assert [each["column"] for each in robustness.measured["missing"]] == list(pipeline.service.vector)


def test_run__linear_model_that_refuses_nulls__fails_robustness() -> None:
    pipeline = world.build(per_day=60)
    rows.policy(ROBUST)
    run = gated(world.version(pipeline))

    assert run.state == "failed"
    assert "it answers 0 of 100 rows" in result(run, "robustness").message


def test_run__with_a_champion__is_timed_beside_it_on_a_pinned_workload() -> None:
    pipeline = world.build(per_day=60)
    policy: dict[str, Any] = {**LATENCY, "ratio_to_champion": 50}
    rows.policy(policy)
    champion = world.version(pipeline)
    rollout = rows.rollout(gated(champion))
    rollout.save()
    type(rollout).objects.update(state="promoted")
    champion.registered_model.aliases.create(name="champion", version=champion, since=world.NOW)
    run = gated(world.version(pipeline, noise=0.1))
    latency = result(run, "latency")

    assert latency.verdict == "passed", latency.message
    assert set(latency.measured["single"]) == {"candidate", "champion", "control"}
    assert latency.measured["workload"]["seed"] == run.seed
    assert latency.detail["ratio_to_champion"]["low"] > 0
    assert judged_again(latency) == (latency.verdict, latency.message)
