"""What follows from measurements: harm ends it at once, proof promotes, and no data does neither."""

from __future__ import annotations

import dataclasses

import pytest

from rollout.judge import Kind, Measured, Progress, conclude_canary, conclude_shadow
from rollout.plan import plan_for

PLAN = plan_for("standard")
LAST = len(PLAN.canary.steps)
PLENTY = Progress(hours=100, rows=5000, stage_hours=100)
METRICS = ("errors", "latency", "loss", "predictions")


def measured(**verdicts: str) -> list[Measured]:
    """Four guard metrics, passed unless said otherwise."""
    return [Measured(name, verdicts.get(name, "passed"), f"{name} says so.", n=100) for name in METRICS]


def with_verdict(metric: str, verdict: str) -> list[Measured]:
    return [dataclasses.replace(each, verdict=verdict) if each.metric == metric else each for each in measured()]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("step", range(1, LAST + 1))
def test_canary__harm_on_any_metric__rolls_back_at_any_step(metric: str, step: int) -> None:
    nothing_yet = Progress(hours=0, rows=0, stage_hours=0)
    found = conclude_canary(with_verdict(metric, "failed"), nothing_yet, PLAN, step=step)
    assert found.kind == Kind.ROLL_BACK
    assert found.summary == f"{metric} says so."


def test_canary__minimum_reached_and_no_harm__takes_the_next_step() -> None:
    found = conclude_canary(measured(loss="inconclusive"), PLENTY, PLAN, step=1)
    assert found.kind == Kind.ADVANCE


@pytest.mark.parametrize(("hours", "rows"), [(23.9, 5000), (100, 4)])
def test_canary__too_little_time_or_rows__waits(hours: float, rows: int) -> None:
    found = conclude_canary(measured(), Progress(hours, rows, stage_hours=hours), PLAN, step=1)
    assert found.kind == Kind.WAIT


@pytest.mark.parametrize("metric", METRICS)
def test_canary__last_step_with_one_metric_undecided__waits(metric: str) -> None:
    found = conclude_canary(with_verdict(metric, "inconclusive"), PLENTY, PLAN, step=LAST)
    assert found.kind == Kind.WAIT
    assert found.summary == f"{metric} says so."


def test_canary__last_step_with_harm_excluded_on_all__promotes() -> None:
    assert conclude_canary(measured(), PLENTY, PLAN, step=LAST).kind == Kind.PROMOTE


def test_canary__undecided_at_the_horizon__holds() -> None:
    late = Progress(hours=500, rows=5000, stage_hours=PLAN.canary.horizon_hours)
    found = conclude_canary(measured(loss="inconclusive"), late, PLAN, step=LAST)
    assert found.kind == Kind.HOLD
    assert "loss says so." in found.summary


def test_canary__undecided_after_the_rows_of_its_horizon__holds() -> None:
    plan = plan_for("standard", {"canary": {"horizon_rows": 20_000}})
    before = Progress(hours=100, rows=5000, stage_hours=100, stage_rows=19_999)
    undecided = measured(loss="inconclusive")
    assert conclude_canary(undecided, before, plan, step=LAST).kind == Kind.WAIT
    found = conclude_canary(undecided, dataclasses.replace(before, stage_rows=20_000), plan, step=LAST)
    assert found.kind == Kind.HOLD
    assert found.summary == "Undecided after 20,000 rows of the candidate: loss says so."
    assert conclude_canary(measured(loss="failed"), before, plan, step=1).kind == Kind.ROLL_BACK


def test_canary__beyond_the_horizon_with_harm_excluded__promotes_after_all() -> None:
    late = Progress(hours=700, rows=5000, stage_hours=700)
    assert conclude_canary(measured(), late, PLAN, step=LAST).kind == Kind.PROMOTE


@pytest.mark.parametrize("step", [1, LAST])
def test_canary__no_traffic__never_passes(step: int) -> None:
    nothing = Progress(hours=1000, rows=0, stage_hours=1000)
    found = conclude_canary(
        [Measured(each, "inconclusive", "Nothing.", n=0) for each in METRICS], nothing, PLAN, step=step
    )
    assert found.kind == Kind.HOLD


def test_canary__no_outcome_at_all__does_not_take_the_next_step() -> None:
    without_loss = [*measured()[:2], Measured("loss", "inconclusive", "No outcomes.", n=0)]
    assert conclude_canary(without_loss, PLENTY, PLAN, step=1).kind == Kind.WAIT


@pytest.mark.parametrize("step", [1, LAST])
def test_canary__a_metric_that_can_not_be_measured__is_no_pass(step: int) -> None:
    broken = [*measured(), Measured("split", "error", "The split is broken.", n=100)]
    assert conclude_canary(broken, PLENTY, PLAN, step=step).kind == Kind.HOLD


def test_canary__harm_while_the_split_is_broken__is_no_proof_and_held() -> None:
    broken = [*with_verdict("errors", "failed"), Measured("split", "error", "The split is broken.", n=100)]
    concluded = conclude_canary(broken, PLENTY, PLAN, step=1)
    assert (concluded.kind, "The split is broken." in concluded.summary) == (Kind.HOLD, True)


@pytest.mark.parametrize("step", [1, LAST])
def test_canary__nothing_measured__waits(step: int) -> None:
    assert conclude_canary([], PLENTY, PLAN, step=step).kind == Kind.WAIT


def test_canary__a_report_only_metric_fails__is_ignored() -> None:
    reported = Measured("agreement", "failed", "They disagree.", n=100, guards=False)
    assert conclude_canary([*measured(), reported], PLENTY, PLAN, step=LAST).kind == Kind.PROMOTE


def test_shadow__harm__rolls_back_at_once() -> None:
    found = conclude_shadow(measured(loss="failed"), Progress(1, 1, 1), PLAN.shadow)
    assert found.kind == Kind.ROLL_BACK


def test_shadow__all_proven_harmless__advances_after_the_minimum() -> None:
    assert conclude_shadow(measured(), PLENTY, PLAN.shadow).kind == Kind.ADVANCE
    too_early = Progress(hours=71, rows=5000, stage_hours=71)
    assert conclude_shadow(measured(), too_early, PLAN.shadow).kind == Kind.WAIT
    too_few = Progress(hours=100, rows=1499, stage_hours=100)
    assert conclude_shadow(measured(), too_few, PLAN.shadow).kind == Kind.WAIT


def test_shadow__undecided__waits_and_holds_at_its_maximum() -> None:
    undecided = measured(loss="inconclusive")
    assert conclude_shadow(undecided, PLENTY, PLAN.shadow).kind == Kind.WAIT
    late = Progress(hours=336, rows=5000, stage_hours=336)
    assert conclude_shadow(undecided, late, PLAN.shadow).kind == Kind.HOLD
