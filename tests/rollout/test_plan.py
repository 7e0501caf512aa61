"""Plans: tier defaults, overrides value by value, and nothing that is no plan."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from registry.models import Tier
from rollout.plan import TIERS, RolloutPlan, plan_for


@pytest.mark.parametrize("tier", Tier.values)
def test_plan_for__each_tier__is_a_plan(tier: str) -> None:
    plan = plan_for(tier)
    assert RolloutPlan.model_validate(plan.model_dump(mode="json")) == plan
    assert set(TIERS) == set(Tier.values)


def test_plan_for__standard__splits_at_most_five_percent_of_alpha() -> None:
    plan = plan_for("standard")
    spent = plan.canary.alpha
    assert spent.errors + spent.latency + spent.loss + spent.predictions <= 0.05 + 1e-12
    assert [step.share for step in plan.canary.steps] == [0.01, 0.05, 0.25, 0.5]


def test_plan_for__an_override__changes_that_value_alone() -> None:
    plan = plan_for("high-stakes", {"canary": {"alpha": {"loss": 0.01}}, "timed_rows": 0})
    assert plan.canary.alpha.loss == 0.01
    assert plan.canary.alpha.errors == plan_for("high-stakes").canary.alpha.errors
    assert plan.canary.tolerated_loss_increase == plan_for("high-stakes").canary.tolerated_loss_increase
    assert plan.timed_rows == 0


@pytest.mark.parametrize(
    "overrides",
    [
        {"shadw": {}},
        {"shadow": {"min_rows": 0}},
        {"canary": {"steps": []}},
        {"canary": {"steps": [{"share": 0.5}, {"share": 0.1}]}},
        {"canary": {"steps": [{"share": 1.0}]}},
        {"canary": {"alpha": {"errors": 0.5}}},
        {"look_every_hours": 0},
    ],
)
def test_plan_for__no_plan__is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan_for("standard", overrides)
