"""Whole gate runs through the queue, with real data, a real model and the real sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from django.utils import timezone
from sklearn.linear_model import LogisticRegression

from audit import clock
from audit.models import Event
from engines import scoring
from features.models import ConsistencyCheck, Dataset, FeatureViewVersion
from gates import actions
from gates.frozen import Missing
from gates.models import CheckResult, GateRun, Preparation
from gates.policy import parse
from gates.preparation import forget, frozen_of, prepare
from gates.reproduction import reproduce
from gates.standing import standing
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import enqueue, ring_due
from jobs.run import run as work_off
from registry.actions.conversion import FormPinned, record_conversion
from registry.conversion import attempt, served_form, settle
from registry.models import Conversion, ModelVersion
from tests.builders import NOON, ROBOT, registered_model
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
    rows.evidence("lint", "[]", now=world.NOW)
    assert judge(version).state == "open"
    rows.evidence("unit", now=world.NOW)
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
    assert chain == ["gate_run.passed", "gate_run.prepared", "gate_run.running", "model_version.registered"]


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


@pytest.fixture
def passed_as_skops(settings: Any) -> ModelVersion:
    """A version that passed its gates while conversion was switched off; now it is on."""
    settings.GATEHOUSE_ONNX = "off"
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    version = world.version(pipeline)
    assert judge(version).state == "passed"
    settings.GATEHOUSE_ONNX = "on"
    return ModelVersion.objects.get(pk=version.pk)


def test_version_that_passed__judged_under_another_policy__keeps_its_form(passed_as_skops: ModelVersion) -> None:
    policy({**FLOOR, "at_least": 0.61})
    actions.rerun(passed_as_skops, actor=ROBOT, reason="Another policy.", now=world.NOW)
    run = judge(passed_as_skops)

    assert (run.number, run.state) == (2, "passed")
    assert run.preparation.inputs["candidate"]["form"]["load_class"] == "skops"
    assert not Conversion.objects.exists()


def test_version_that_passed__converted_later__keeps_its_form(passed_as_skops: ModelVersion) -> None:
    with pytest.raises(FormPinned, match="stays so"):
        record_conversion(passed_as_skops, attempt(passed_as_skops), actor=ROBOT, now=world.NOW)
    assert settle(passed_as_skops, now=world.NOW) is None
    job = enqueue("registry.convert", key="too late", payload={"version": passed_as_skops.pk})
    drain()

    job.refresh_from_db()
    assert (job.state, job.result) == (JobState.DONE, {"outcome": None})
    assert not Conversion.objects.exists()
    assert served_form(passed_as_skops).load_class == "skops"


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
    policy({**FAIRNESS, "at_most": 0.0001, "use": "point", "minimum_group": 50})
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


# ---------------------------------------------------------------------- what it is measured on


def test_preparation__names_all_that_the_verdicts_depend_on() -> None:
    pipeline = world.build(per_day=100)
    policy(VERSUS)
    champion = world.version(pipeline, LogisticRegression(C=0.01))
    judge(champion)
    crown(champion)
    version = world.version(pipeline, commit="c0ffee")
    run = judge(version)
    inputs = run.preparation.inputs

    assert run.holdout is not None
    assert version.dataset is not None
    assert inputs["policy"] == {"number": 1, "hash": run.policy.content_hash}
    assert inputs["holdout"] == inputs["champion_holdout"] == run.holdout.digest
    own = inputs["candidate"]
    assert (own["artifact"], own["code"], own["commit"]) == (version.artifact_digest, rows.CODE, "c0ffee")
    assert own["training_dataset"] == version.dataset.digest
    assert own["form"] == {"load_class": "onnx", "digest": served_form(version).digest}
    assert own["columns"] == list(pipeline.service.vector)
    assert inputs["champion"]["name"] == str(champion)
    assert inputs["began"] == world.NOW.isoformat()
    assert {"python", "numpy", "onnxruntime"} < set(inputs["libraries"])
    assert run.preparation.served_digest == own["form"]["digest"]
    assert run.preparation.missing == {}


def test_champion_of_another_service__is_scored_on_its_own_features_and_they_are_kept() -> None:
    pipeline = world.build(per_day=100)
    policy(VERSUS)
    champion = world.version(pipeline)
    judge(champion)
    crown(champion)
    fewer = world.service("weather.wind", request_features=["distance"])
    table = world.training_table(pipeline).drop_columns(["carrier_size"])
    columns = list(fewer.vector)
    fitted = LogisticRegression().fit(table.select(columns).to_pandas(), table.column("late").to_numpy())
    run = judge(world.register(pipeline, fitted, service=fewer, dataset=world.dataset_of(fewer, table)))

    inputs = run.preparation.inputs
    assert run.preparation.missing == {}
    assert inputs["champion_holdout"] != inputs["holdout"]
    assert Dataset.objects.get(digest=inputs["champion_holdout"]).service == champion.service
    assert reproduce(run).is_identical


def test_champion_that_can_not_be_scored__is_an_error_of_the_comparison_alone() -> None:
    pipeline = world.build(per_day=100)
    policy(rows.CI)
    rows.evidence("lint", "[]", now=world.NOW)
    rows.evidence("unit", now=world.NOW)
    champion = world.version(pipeline, service=None)
    judge(champion)
    crown(champion)
    policy(FLOOR, VERSUS)
    run = judge(world.version(pipeline, LogisticRegression(C=0.01)))

    assert verdicts(run) == {"auc-floor": "passed", "versus": "error"}
    assert "names no feature service" in run.preparation.missing["champion"]


def test_frozen_of__another_document__has_the_same_rows_and_scores() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    run = judge(world.version(pipeline))
    document = parse({"threshold": 0.9, "checks": [FLOOR]})
    own, other = frozen_of(run), frozen_of(run, document)

    assert (own.document.threshold, other.document.threshold) == (0.25, 0.9)
    assert other.candidate is own.candidate
    assert other.began == world.NOW
    assert isinstance(other.table, pa.Table)
    assert isinstance(own.champion, Missing)


def test_result__keeps_the_numbers_that_were_judged_and_how_long_it_took() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, TRAINED)
    run = judge(world.version(pipeline))

    for result in run.results.all():
        assert result.measured, result.check_id
        assert (result.wall_seconds or 0) > 0


# ---------------------------------------------------------------------- when things break


def test_jobs__delivered_again__conclude_once() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    run = judge(world.version(pipeline))
    again = [
        enqueue("gates.prepare", key="a second bell", payload={"gate_run": run.pk}),
        enqueue("gates.check", key="and a third", payload={"gate_run": run.pk, "check": "auc-floor"}),
    ]
    drain()

    for job in again:
        job.refresh_from_db()
        assert job.state == JobState.DONE
    assert CheckResult.objects.count() == 1
    assert Event.objects.filter(name="gate_run.passed").count() == 1


def test_preparation__worker_killed_in_it__the_next_attempt_has_the_same_rows() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR)
    version = world.version(pipeline)
    run = actions.open_run(version, actor=ROBOT, reason="", now=world.NOW)
    lost = prepare(GateRun.objects.get(pk=run.pk), world.NOW)  # gathered, and then the worker was gone
    assert not Preparation.objects.exists()
    with clock.at(world.NOW + timedelta(hours=1)):
        run = judge(version)

    assert run.state == "passed"
    assert Dataset.objects.filter(purpose="holdout").count() == 1
    assert (run.preparation.inputs_hash, run.preparation.scores_digest) == (lost.inputs_hash, lost.scores_digest)


def test_check__worker_killed_in_it__only_that_one_is_done_again() -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, TRAINED)
    version = world.version(pipeline)
    run = actions.open_run(version, actor=ROBOT, reason="", now=world.NOW)
    work_off(Job.objects.get(key=actions.job_key(run)).pk, renew=False)
    work_off(Job.objects.get(key=actions.check_key(run, "auc-floor")).pk, renew=False)
    before = run.results.values("pk", "check_id", "wall_seconds").get()
    long_ago = timezone.now() - timedelta(hours=1)
    killed = {"state": JobState.RUNNING, "attempts": 1, "claim": "gone", "rung_at": long_ago, "lease_until": long_ago}
    Job.objects.filter(key=actions.check_key(run, "training-data")).update(**killed)
    ring_due()

    assert judge(version).state == "passed"
    assert run.results.values("pk", "check_id", "wall_seconds").order_by("pk")[0] == before
    attempts = Job.objects.filter(kind="gates.check").values_list("payload__check", "attempts")
    assert dict(attempts) == {"auc-floor": 1, "training-data": 2}


def test_latency__is_measured_alone_after_all_others() -> None:
    pipeline = world.build(per_day=100)
    policy(LATENCY, FLOOR, TRAINED)
    run = judge(world.version(pipeline))

    assert list(run.results.order_by("id").values_list("check_id", flat=True))[-1] == "latency"
    assert Job.objects.filter(kind="gates.check").latest("id").payload["check"] == "latency"


def test_engine_that_does_not_answer__is_asked_again_then_an_error_of_that_check_alone(settings: Any) -> None:
    pipeline = world.build(per_day=100)
    policy(FLOOR, TRAINED)
    version = world.version(pipeline)
    run = actions.open_run(version, actor=ROBOT, reason="", now=world.NOW)
    work_off(Job.objects.get(key=actions.job_key(run)).pk, renew=False)
    forget()
    scores = Path(settings.DATA_ROOT, "gate-scores")
    scores.rename(scores.with_name("elsewhere"))  # the disk is gone
    drain()
    jobs = Job.objects.filter(kind="gates.check")
    assert set(jobs.values_list("state", "attempts")) == {(JobState.QUEUED, 1)}

    jobs.update(attempts=3, not_before=world.NOW)
    work_off(jobs.get(payload__check="auc-floor").pk, renew=False)
    scores.with_name("elsewhere").rename(scores)
    work_off(jobs.get(payload__check="training-data").pk, renew=False)

    run.refresh_from_db()
    assert verdicts(run) == {"auc-floor": "error", "training-data": "passed"}
    assert run.state == "error"
    assert "could not be measured" in run.state_reason


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


def test_reconcile__jobs_of_checks_gone__asks_for_those_again() -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "second"})
    run = rows.running()
    rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.0)
    reconcile()

    assert list(Job.objects.filter(kind="gates.check").values_list("key", flat=True)) == [
        actions.check_key(run, "second")
    ]


@pytest.mark.parametrize(("blocking", "end"), [(True, "error"), (False, "passed")])
def test_reconcile__job_of_a_check_given_up__is_an_error_of_that_check_alone(blocking: bool, end: str) -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "second", "blocking": blocking}, {**rows.AUC, "id": "third"})
    run = rows.running()
    rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.0)
    key = actions.check_key(run, "second")
    Job.objects.create(kind="gates.check", key=key, state=JobState.DEAD, error="Trace\nMemoryError\n")
    reconcile()

    run.refresh_from_db()
    assert (run.state, verdicts(run)) == ("running", {"auc-floor": "passed", "second": "error"})
    assert "MemoryError" in run.results.get(check_id="second").message
    actions.record_result(run, rows.judged("third"), measured={}, wall_seconds=1.0)
    reconcile()
    run.refresh_from_db()
    assert run.state == end


def test_reconcile__a_policy_that_can_not_be_read__stops_nothing_else() -> None:
    stale = rows.unreadable_policy(registered_model("aaa"))
    lost = rows.run_under(rows.version(stale.registered_model), stale)
    unjudged = rows.version(rows.unreadable_policy(registered_model("bbb")).registered_model)
    fine = rows.version()
    rows.policy()
    reconcile()

    lost.refresh_from_db()
    assert lost.state == "error"
    assert "can not be read any more" in lost.state_reason
    assert not unjudged.gate_runs.exists()
    assert "no longer read" in standing(unjudged).message
    assert fine.gate_runs.get().state == "running"


def test_reconcile__all_results_written_and_nobody_concluded__does_it() -> None:
    run = rows.running()
    rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.0)
    reconcile()

    run.refresh_from_db()
    assert run.state == "passed"


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
