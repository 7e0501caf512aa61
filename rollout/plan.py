"""The plan of a rollout: how long and how much at each stage, and which harm is tolerated. Documents, no Django.

Each tier has a default; an endpoint may override single values (``plan_for``). The plan in force is copied into the
rollout when it starts, so that a later change does not move the goalposts of a running one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Alpha = Annotated[float, Field(gt=0.0, le=0.2)]
Hours = Annotated[float, Field(ge=0.0)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Alphas(_Document):
    """The chance of a false alarm, split over the metrics: by the union bound the sum holds for all together."""

    errors: Alpha = 0.015
    latency: Alpha = 0.01
    loss: Alpha = 0.015
    predictions: Alpha = 0.01


class ShadowPlan(_Document):
    """What a candidate must show while nobody sees its answers."""

    min_hours: Hours = 72
    max_hours: Hours = Field(336, description="Undecided for this long: held, a person decides.")
    min_rows: int = Field(1500, gt=0, description="Shadow-scored rows with an outcome.")
    alpha: Alphas = Alphas()
    alpha_promise: Alpha = 0.01
    tolerated_loss_increase: float = Field(0.01, gt=0, description="Mean squared error (Brier) above the champion's.")
    tolerated_error_ratio: float = Field(2.0, gt=1)
    tolerated_error_rate: float = Field(0.01, gt=0, lt=1, description="A rate below this never matters.")
    tolerated_latency_ratio: float = Field(3.0, gt=1)
    tolerated_latency_ms: float = Field(20.0, ge=0, description="A slow-down below this never matters.")
    tolerated_prediction_shift: float = Field(0.1, gt=0, description="Mean difference of the scores.")
    kept_promise_tolerance: float = Field(0.04, ge=0, description="AUC below the interval that the gates measured.")
    kept_gain_tolerance: float = Field(0.015, ge=0, description="AUC gain below the interval that the gates measured.")
    timed_rows: int = Field(10, ge=0, description="Rows timed one by one per look, candidate and champion alike.")


class CanaryStep(_Document):
    """One share of the traffic, and how long and how much at least before the next."""

    share: Share
    min_hours: Hours = 24
    min_rows: int = Field(50, ge=0, description="Rows that the candidate answered at this step.")


class CanaryPlan(_Document):
    """What a candidate must show with real answers."""

    steps: tuple[CanaryStep, ...] = Field(
        (
            CanaryStep(share=0.01, min_hours=24, min_rows=5),
            CanaryStep(share=0.05, min_hours=24, min_rows=25),
            CanaryStep(share=0.25, min_hours=24, min_rows=150),
            CanaryStep(share=0.5, min_hours=48, min_rows=500),
        ),
        min_length=1,
    )
    horizon_hours: Hours = Field(600, description="Undecided for this long since the first step: held.")
    alpha: Alphas = Alphas()
    tolerated_error_ratio: float = Field(2.0, gt=1)
    tolerated_error_rate: float = Field(0.01, gt=0, lt=1, description="A rate below this never matters.")
    tolerated_latency_ratio: float = Field(2.0, gt=1)
    tolerated_latency_ms: float = Field(20.0, ge=0, description="A slow-down below this never matters.")
    tolerated_loss_increase: float = Field(0.02, gt=0)
    tolerated_prediction_shift: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _shares_grow(self) -> Self:
        shares = [step.share for step in self.steps]
        if shares != sorted(set(shares)):
            raise ValueError("the shares of the steps must grow from one step to the next")
        return self


class RolloutPlan(_Document):
    """Shadow, then the canary's steps, looked at regularly."""

    shadow: ShadowPlan = ShadowPlan()
    canary: CanaryPlan = CanaryPlan()
    look_every_hours: float = Field(12, gt=0)
    timed_rows: int = Field(2, ge=0, description="Rows timed one by one per arm and gateway call of a canary.")

    @property
    def look_every(self) -> timedelta:
        return timedelta(hours=self.look_every_hours)

    def step(self, number: int) -> CanaryStep:
        """The canary step ``number``, counted from 1."""
        return self.canary.steps[number - 1]

    def is_last(self, number: int) -> bool:
        return number >= len(self.canary.steps)


TIERS: Mapping[str, Mapping[str, Any]] = {
    "experimental": {
        "shadow": {"min_hours": 24, "min_rows": 500},
        "canary": {
            "steps": [
                {"share": 0.1, "min_hours": 12, "min_rows": 50},
                {"share": 0.5, "min_hours": 24, "min_rows": 200},
            ],
            "tolerated_loss_increase": 0.03,
        },
    },
    "standard": {},
    "high-stakes": {
        "shadow": {"min_hours": 168, "max_hours": 672, "min_rows": 3000},
        "canary": {
            "steps": [
                {"share": 0.01, "min_hours": 48, "min_rows": 10},
                {"share": 0.05, "min_hours": 48, "min_rows": 50},
                {"share": 0.1, "min_hours": 48, "min_rows": 100},
                {"share": 0.25, "min_hours": 48, "min_rows": 300},
                {"share": 0.5, "min_hours": 72, "min_rows": 1000},
            ],
            "horizon_hours": 1200,
            "tolerated_loss_increase": 0.01,
            "tolerated_error_ratio": 1.5,
        },
    },
}
"""What differs from the standard plan, per tier (``registry.models.Tier``)."""


def plan_for(tier: str, overrides: Mapping[str, Any] | None = None) -> RolloutPlan:
    """The tier's plan with an endpoint's ``overrides`` laid over it, value by value.

    Raises pydantic.ValidationError when the result is no plan, KeyError for an unknown tier.
    """
    return RolloutPlan.model_validate(_merged(TIERS[tier], overrides or {}))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``; mappings are merged, everything else (lists too) is replaced."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both else value  # type: ignore[arg-type]  # `both` says they are mappings
    return merged
