"""Whole gate runs through the queue, with real data, a real model and the real sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from audit import clock
from audit.models import Event
from engines import scoring
from features.models import ConsistencyCheck, Dataset, FeatureView, FeatureViewVersion
from gates import actions
from gates.evaluation import evaluate
from gates.models import CheckResult, GateRun
from gates.standing import standing
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import enqueue
from jobs.run import run as work_off
from registry.conversion import served_form
from registry.models import Conversion, ModelVersion
from tests.builders import NOON, ROBOT
from tests.gates import rows, world

pytestmark = pytest.mark.django_db

FLOOR = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, "use": "lower_bound"}
VERSUS = {"id": "versus", "kind": "versus_champion", "metric": "roc_auc", "not_worse_by": 0.01}
FAIRNESS = {"id": "fairness", "kind": "fairness", "by": "origin", "at_most": 0.15, "use": "lower_bound"}
LATENCY = {"id": "latency", "kind": "latency", "p95_ms": 250, "calls": 80}
QUALITY = {"id": "data-quality", "kind": "data_quality"}
TRAINED = {"id": "training-data", "kind": "training_data"}
CONSISTENT = {"id": "feature-consistency", "kind": "feature_consistency"}
EVERYTHING = (FLOOR, VERSUS, FAIRNESS, LATENCY, QUALITY, TRAINED, CONSISTENT, rows.CI)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with clock.at(world.NOW):
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scoring.shut_down()


def judge(version: ModelVersion) -> GateRun:
    """Work the queue off; the version's newest run."""
    drain()
    return version.gate_runs.order_by("-number")[0]


def verdicts(run: GateRun) -> dict[str, str]:
    return dict(run.results.values_list("check_id", "verdict"))


def policy(*checks: dict[str, Any], **fields: Any) -> None:
    rows.policy(*checks, threshold=0.25, **fields)


def crown(version: ModelVersion) -> None:
    rollout = rows.rollout(version.gate_runs.get(state="passed"))
    rollout.save()
    type(rollout).objects.filter(pk=rollout.pk).update(state="promoted")
    version.registered_model.aliases.create(name="champion", version=version, since=world.NOW)


# ---------------------------------------------------------------------- from registration to verdict


def test_registered_version__waits_for_its_evidence_then_is_judged_by_itself() -> None:
    pipeline = world.build()
    policy(*EVERYTHING)
    version = world.version(pipeline)

    assert judge(version).state == "open"
    assert standing(version).missing_evidence == ("lint", "unit")
    rows.evidence("lint", "[]")
    assert judge(version).state == "open"
    rows.evidence("unit")
    run = judge(version)

    assert (run.state, verdicts(run)) == ("passed", {check["id"]: "passed" for check in EVERYTHING})
    assert run.holdout is not None
    assert run.holdout.purpose == "holdout"
    assert run.holdout.rows > 2500
    assert run.holdout.time_from is not None
    assert run.holdout.time_from >= world.HOLDOUT
    assert run.wall_seconds is not None
    assert standing(version).may_enter_rollout


def test_judged_version__every_step_is_the_effect_of_the_one_before() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    run = judge(world.version(pipeline))

    chain = []
    event = Event.objects.about(run).last()
    while event is not None:
        chain.append(event.name)
        event = event.cause
    assert chain == ["gate_run.passed", "gate_run.running", "model_version.registered"]


def test_version__is_measured_in_the_form_in_which_it_is_served() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, LATENCY)
    version = world.version(pipeline)
    Job.objects.filter(kind="registry.convert").delete()  # lost: the gates settle the form before they measure it

    assert judge(version).state == "passed"

    made = Conversion.objects.get(version=version)
    assert made.outcome == "used"
    served = served_form(version)
    assert (served.load_class, served.digest) == ("onnx", made.blob_id)
    converted, passed = (Event.objects.get(name=name) for name in ("model_version.converted", "gate_run.passed"))
    assert converted.pk < passed.pk


def test_version_that_passed_once__keeps_its_form(settings: Any) -> None:
    settings.GATEHOUSE_ONNX = "off"
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    version = world.version(pipeline)
    run = judge(version)
    assert run.state == "passed"

    settings.GATEHOUSE_ONNX = "on"
    evaluate(run, now=world.NOW)

    assert not Conversion.objects.exists()
    assert served_form(version).load_class == "skops"


def test_worse_version__is_refused_against_the_champion_on_the_same_rows() -> None:
    pipeline = world.build()
    policy(VERSUS)
    champion = world.version(pipeline)
    judge(champion)
    crown(champion)

    run = judge(world.version(pipeline, LogisticRegression(C=1e-9), noise=0.9))

    result = run.results.get()
    assert run.state == "failed"
    assert run.champion == champion
    assert result.value is not None
    assert result.high is not None
    assert result.value < result.high < -0.01
    assert result.detail["champion_value"] > result.detail["candidate_value"]
    assert "late-arrival v1" in result.message


def test_unfair_version__is_refused() -> None:
    pipeline = world.build()
    policy({**FAIRNESS, "at_most": 0.0001, "minimum_group": 50})
    run = judge(world.version(pipeline))

    assert run.state == "failed"
    assert {group["group"] for group in run.results.get().detail["groups"]} == {"EWR", "JFK", "LGA"}


def test_slow_version__is_refused() -> None:
    pipeline = world.build(per_day=100)
    policy({**LATENCY, "p95_ms": 0.001})

    assert judge(world.version(pipeline)).state == "failed"


def test_version_trained_on_the_holdout__is_an_error() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, TRAINED)
    run = judge(world.version(pipeline, table=world.training_table(pipeline, until=world.NOW)))

    assert run.state == "error"
    assert verdicts(run) == {"auc-floor": "passed", "training-data": "error"}


def test_too_few_rows__are_inconclusive() -> None:
    pipeline = world.build(per_day=20)
    policy(FLOOR)

    assert judge(world.version(pipeline)).state == "inconclusive"


def test_version_without_a_service__is_an_error_and_says_why() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, QUALITY)
    run = judge(world.version(pipeline, service=None))

    assert verdicts(run) == {"auc-floor": "error", "data-quality": "error"}
    assert "names no feature service" in run.state_reason


def test_version_that_can_not_be_loaded__is_an_error_and_the_data_are_judged_all_the_same() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, QUALITY)
    run = judge(
        world.register(pipeline, {"no": "model"}, dataset=world.dataset(pipeline, world.training_table(pipeline)))
    )

    assert verdicts(run) == {"auc-floor": "error", "data-quality": "passed"}


def test_group_that_is_no_column__is_an_error_that_names_the_columns() -> None:
    pipeline = world.build(per_day=100)
    policy({**FAIRNESS, "by": "gender"})
    run = judge(world.version(pipeline))

    assert run.state == "error"
    assert "'gender'" in run.state_reason
    assert "origin" in run.state_reason


def test_outcomes_known_after_the_run_began__are_not_in_the_holdout() -> None:
    pipeline = world.build()
    policy(FLOOR)
    run = judge(world.version(pipeline))

    assert run.holdout is not None
    assert run.holdout.time_to is not None
    assert run.holdout.time_to <= world.NOW - timedelta(hours=4)


# ---------------------------------------------------------------------- what was served of its features


def audited(days: float, cells: int, differing: int, feature: str = "wind") -> None:
    """An audit of the weather so many days before now."""
    counts = {feature: {"cells": cells, "differing": differing, "late": 0}}
    ConsistencyCheck.objects.create(
        view_version=FeatureViewVersion.objects.get(),
        at=world.NOW - timedelta(days=days),
        cells=cells,
        differing=differing,
        features=counts,
    )


def test_candidate_of_an_inconsistent_feature__is_refused_until_audits_are_clean() -> None:
    pipeline = world.build(per_day=100)
    policy(CONSISTENT)
    audited(2, 250, 20)
    version = world.version(pipeline)
    run = judge(version)

    assert run.state == "failed"
    assert "weather@1 wind 20 of 250 differ" in run.state_reason
    audited(1, 250, 0)
    actions.open_run(version, actor=ROBOT, reason="The store was mended.", now=world.NOW)
    assert judge(version).state == "passed"


def test_candidate_of_features_never_served__is_let_through_with_these_words() -> None:
    pipeline = world.build(per_day=100)
    policy(CONSISTENT)
    audited(8, 250, 20)  # longer ago than the policy looks
    audited(1, 250, 20, feature="rain")  # which it does not take
    run = judge(world.version(pipeline))

    assert run.state == "passed"
    assert "weather@1 was served in the last 7 days" in run.results.get().message


def test_candidate_above_a_limit_that_the_view_tolerates__passes() -> None:
    pipeline = world.build(per_day=100)
    FeatureView.objects.update(consistency_limit=0.1)
    policy(CONSISTENT)
    audited(1, 250, 20)

    assert judge(world.version(pipeline)).state == "passed"


def test_consistency_of_a_version_without_a_service__is_an_error() -> None:
    pipeline = world.build(per_day=100)
    policy(CONSISTENT)

    assert judge(world.version(pipeline, service=None)).state == "error"


# ---------------------------------------------------------------------- when things break


def test_evaluation__delivered_twice__concludes_once() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    run = judge(world.version(pipeline))
    again = enqueue("gates.evaluate", key="a second bell", payload={"gate_run": run.pk})
    drain()

    again.refresh_from_db()
    assert again.state == JobState.DONE
    assert CheckResult.objects.count() == 1
    assert Event.objects.filter(name="gate_run.passed").count() == 1


def test_evaluation__worker_killed_after_the_holdout__the_next_attempt_measures_on_the_same_rows() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    version = world.version(pipeline)
    run = actions.open_run(version, actor=ROBOT, reason="", now=world.NOW)
    evaluate(GateRun.objects.get(pk=run.pk), now=world.NOW)  # measured, and then the worker was gone
    assert not CheckResult.objects.exists()
    with clock.at(world.NOW + timedelta(hours=1)):
        run = judge(version)

    assert run.state == "passed"
    assert Dataset.objects.filter(purpose="holdout").count() == 1


def test_reconcile__deadline_passed__ends_inconclusive_and_names_what_is_missing() -> None:
    rows.policy(rows.AUC, rows.CI, evidence_wait_hours=24)
    run = rows.running()
    rows.evidence("lint", "[]")
    drain()
    reconcile(at=NOON + timedelta(hours=25))

    run.refresh_from_db()
    assert run.state == "inconclusive"
    assert "no unit report" in run.state_reason
    assert verdicts(run) == {"ci": "inconclusive"}


def test_reconcile__deadline_passed_with_a_red_report__ends_failed() -> None:
    rows.policy(rows.AUC, rows.CI, evidence_wait_hours=24)
    run = rows.running()
    rows.evidence("unit", rows.RED)
    reconcile(at=NOON + timedelta(hours=25))

    run.refresh_from_db()
    assert run.state == "failed"


def test_reconcile__before_the_deadline__waits() -> None:
    rows.policy(rows.AUC, rows.CI, evidence_wait_hours=24)
    run = rows.running()
    reconcile(at=NOON + timedelta(hours=23))

    run.refresh_from_db()
    assert run.state == "open"


def test_reconcile__job_given_up__ends_the_run_as_an_error() -> None:
    run = rows.running()
    Job.objects.filter(key=actions.job_key(run)).update(state=JobState.DEAD, error="Trace\nKilled: out of memory\n")
    reconcile()

    run.refresh_from_db()
    assert run.state == "error"
    assert "Killed: out of memory" in run.state_reason


def test_reconcile__job_gone__asks_for_the_measuring_again() -> None:
    run = rows.running()
    Job.objects.all().delete()
    reconcile()

    assert Job.objects.filter(key=actions.job_key(run)).exists()


def test_reconcile__version_registered_before_the_policy__is_judged() -> None:
    version = rows.version()
    reconcile()
    assert not version.gate_runs.exists()
    rows.policy(rows.AUC, rows.CI)
    reconcile()

    assert version.gate_runs.get().state == "open"


def reconcile(*, at: Any = None) -> None:
    with clock.at(at or NOON):
        job = enqueue("gates.reconcile", key=f"reconcile {Job.objects.count()} {at}")
        work_off(job.pk, renew=False)
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error
