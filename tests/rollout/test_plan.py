"""Plans: tier defaults, overrides value by value, two sizes of harm, old plans as they were meant."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from registry.models import Tier
from rollout.plan import ALPHA, TIERS, TWO_SIZES, CanaryPlan, RolloutPlan, plan_for

STORED = json.loads((Path(__file__).parent / "stored" / "plans_before_two_sizes.json").read_text())
"""Each tier's plan as rollouts stored it before there were two sizes and alpha for business and distribution."""


def spent(plan: CanaryPlan) -> float:
    return float(sum(plan.alpha.model_dump().values()))


def told(overrides: dict[str, Any]) -> str:
    """What is said of overrides that make no plan: where, and what."""
    with pytest.raises(ValidationError) as problem:
        plan_for("standard", overrides)
    return "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in problem.value.errors())


@pytest.mark.parametrize("tier", Tier.values)
def test_plan_for__each_tier__is_a_plan(tier: str) -> None:
    plan = plan_for(tier)
    assert RolloutPlan.model_validate(plan.model_dump(mode="json")) == plan
    assert set(TIERS) == set(Tier.values)


@pytest.mark.parametrize("tier", Tier.values)
def test_plan_for__each_tier__splits_at_most_five_percent_of_alpha(tier: str) -> None:
    assert spent(plan_for(tier).canary) <= ALPHA + 1e-12
    assert [step.share for step in plan_for("standard").canary.steps] == [0.01, 0.05, 0.25, 0.5]


@pytest.mark.parametrize("tier", Tier.values)
def test_plan_for__each_tier__begins_to_harm_before_it_stops_to_tolerate(tier: str) -> None:
    canary = plan_for(tier).canary
    for name in TWO_SIZES:
        assert getattr(canary, f"harm_from_{name}") <= getattr(canary, f"tolerated_{name}")
    assert canary.harm_from_error_ratio == 1.0


def test_plan_for__an_override__changes_that_value_alone() -> None:
    plan = plan_for("high-stakes", {"canary": {"horizon_hours": 100}, "timed_rows": 0})
    assert plan.canary.horizon_hours == 100
    assert plan.canary.alpha == plan_for("high-stakes").canary.alpha
    assert plan.canary.tolerated_loss_increase == plan_for("high-stakes").canary.tolerated_loss_increase
    assert plan.timed_rows == 0


def test_plan_for__part_of_alpha__leaves_the_other_parts_what_remains() -> None:
    alpha = plan_for("standard", {"canary": {"alpha": {"loss": 0.02}}}).canary.alpha
    assert alpha.loss == 0.02
    assert sum(alpha.model_dump().values()) == pytest.approx(ALPHA)
    assert alpha.errors == pytest.approx(5 * alpha.latency)


def test_plan_for__tolerated_size_alone__is_both_sizes() -> None:
    canary = plan_for("high-stakes", {"canary": {"tolerated_loss_increase": 0.05}}).canary
    assert (canary.harm_from_loss_increase, canary.tolerated_loss_increase) == (0.05, 0.05)
    both = plan_for("standard", {"canary": {"tolerated_loss_increase": 0.05, "harm_from_loss_increase": 0.01}}).canary
    assert (both.harm_from_loss_increase, both.tolerated_loss_increase) == (0.01, 0.05)


@pytest.mark.parametrize("tier", sorted(STORED))
def test_plan__stored_before_there_were_two_sizes__is_read_as_it_was_meant(tier: str) -> None:
    plan = RolloutPlan.model_validate(STORED[tier])
    for stage in ("shadow", "canary"):
        now, then = getattr(plan, stage), STORED[tier][stage]
        for name in TWO_SIZES:
            if f"tolerated_{name}" in then:
                assert (
                    getattr(now, f"harm_from_{name}") == getattr(now, f"tolerated_{name}") == then[f"tolerated_{name}"]
                )
        for name, value in then.items():
            if name not in ("alpha", "steps"):
                assert getattr(now, name) == value
    assert [step.model_dump() for step in plan.canary.steps] == STORED[tier]["canary"]["steps"]
    assert plan.canary.distribution == "report"


@pytest.mark.parametrize("tier", sorted(STORED))
def test_plan__stored_split_of_alpha__makes_room_for_the_new_parts(tier: str) -> None:
    alpha = RolloutPlan.model_validate(STORED[tier]).canary.alpha
    assert sum(alpha.model_dump().values()) == pytest.approx(ALPHA)
    assert alpha.errors == pytest.approx(0.8 * STORED[tier]["canary"]["alpha"]["errors"])


def test_plan__looks_every_few_seconds__where_it_says_so() -> None:
    assert plan_for("standard").look_every == timedelta(hours=12)
    assert plan_for("standard", {"look_every_seconds": 5}).look_every == timedelta(seconds=5)


def test_plan__canary__has_a_time_out_a_horizon_of_rows_and_weekly_freezes() -> None:
    canary = plan_for(
        "standard",
        {
            "canary": {
                "timeout_ms": None,
                "horizon_rows": 10_000,
                "freeze": [{"starts": "fri 16:00", "ends": "mon 08:00", "zone": "Europe/Amsterdam"}],
            }
        },
    ).canary
    assert (canary.timeout_ms, canary.horizon_rows, canary.freeze[0].starts) == (None, 10_000, "fri 16:00")
    assert plan_for("standard").canary.timeout_ms == 1000


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"shadw": {}}, "shadw"),
        ({"shadow": {"min_rows": 0}}, "shadow.min_rows"),
        ({"shadow": {"min_segment_rows": {"origin": 0}}}, "shadow.min_segment_rows.origin"),
        ({"canary": {"steps": []}}, "canary.steps"),
        ({"canary": {"steps": [{"share": 0.5}, {"share": 0.1}]}}, "steps: the shares must grow"),
        ({"canary": {"steps": [{"share": 1.0}]}}, "canary.steps.0.share"),
        ({"canary": {"alpha": {"errors": 0.5}}}, "canary.alpha.errors"),
        ({"canary": {"alpha": {"errors": 0.04, "loss": 0.03}}}, "canary.alpha: Value error, the parts sum to"),
        ({"canary": {"alpha": {"errors": "much"}}}, "canary.alpha.errors"),
        (
            {"canary": {"harm_from_loss_increase": 0.05}},
            "harm_from_loss_increase: 0.05 is above tolerated_loss_increase",
        ),
        ({"shadow": {"harm_from_error_ratio": 3}}, "harm_from_error_ratio: 3 is above tolerated_error_ratio 2"),
        ({"canary": {"distribution": "guess"}}, "canary.distribution"),
        ({"canary": {"loss_cluster": "week"}}, "canary.loss_cluster"),
        ({"canary": {"timeout_ms": 0}}, "canary.timeout_ms"),
        ({"canary": {"horizon_rows": 0}}, "canary.horizon_rows"),
        ({"canary": {"freeze": [{"starts": "someday", "ends": "mon 08:00"}]}}, "canary.freeze.0.starts"),
        ({"look_every_hours": 0}, "look_every_hours"),
        ({"look_every_seconds": 0.1}, "look_every_seconds"),
    ],
)
def test_plan_for__no_plan__is_refused_by_the_name_of_its_field(overrides: dict[str, Any], field: str) -> None:
    assert field in told(overrides)
