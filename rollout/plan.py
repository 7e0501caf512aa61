"""The plan of a rollout: how long and how much at each stage, and which harm is tolerated. Documents, no Django.

Each tier has a default; an endpoint may override single values (``plan_for``). The plan in force is copied into the
rollout when it starts, so that a later change does not move the goalposts of a running one.

Every metric has two sizes. ``harm_from_…``: a candidate proven worse by more than this is rolled back. ``tolerated_…``:
it goes on when being worse by this much is excluded. The wider they lie apart, the sooner one of the two is certain.
``tolerated_…`` given alone means both, as in plans that were stored before there were two.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rollout.freezes import WeeklyFreeze

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Alpha = Annotated[float, Field(gt=0.0, le=0.05)]
Hours = Annotated[float, Field(ge=0.0)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


ALPHA = 0.05
"""The chance of a false alarm on any metric, over all looks of a stage."""


class Alphas(_Document):
    """The chance of a false alarm, split over the metrics: by the union bound the sum holds for all together."""

    errors: Alpha = 0.02
    latency: Alpha = 0.004
    loss: Alpha = 0.0075
    predictions: Alpha = Field(0.01, description="The mean score.")
    distribution: Alpha = Field(0.004, description="How the scores are distributed.")
    business: Alpha = Field(0.0045, description="All business metrics that guard, in equal parts.")

    @model_validator(mode="before")
    @classmethod
    def _share_the_rest(cls, given: Any) -> Any:
        """Parts that are not given share what the given ones leave of ``ALPHA``.

        A split that was stored before distribution and business had their parts gives them a fifth of its own.
        """
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        if not isinstance(given, Mapping) or not all(_is_number(part) for part in given.values()):
            return given
        missing = {name: part for name, part in defaults.items() if name not in given}
        left, asked = ALPHA - sum(given.values()), sum(missing.values())
        if asked <= left or not missing:
            return given
        if missing.keys() == {"distribution", "business"} and left < asked / 2:
            spent = sum(given.values())
            return {**{name: 0.8 * part for name, part in given.items()}, **dict.fromkeys(missing, spent / 10)}
        return {**given, **{name: part * left / asked for name, part in missing.items()}} if left > 0 else given

    @model_validator(mode="after")
    def _sum_holds(self) -> Self:
        parts = self.model_dump()
        spent = sum(parts.values())
        if spent > ALPHA + 1e-9:
            said = ", ".join(f"{name} {part:g}" for name, part in parts.items())
            raise ValueError(f"the parts sum to {spent:g}, more than {ALPHA:g}: lower another one ({said})")
        return self


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TWO_SIZES = ("loss_increase", "error_ratio", "latency_ratio", "prediction_shift", "distance")
"""What has a ``harm_from_…`` beside its ``tolerated_…``."""


def both_sizes(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage in which a tolerated size that is given alone is the one that harm begins at, too."""
    alone = [name for name in TWO_SIZES if f"tolerated_{name}" in stage and f"harm_from_{name}" not in stage]
    return {**stage, **{f"harm_from_{name}": stage[f"tolerated_{name}"] for name in alone}}


class _Stage(_Document):
    """A stage's sizes: each ``harm_from_x`` is at most ``tolerated_x``, and equals it where only that is given."""

    @model_validator(mode="before")
    @classmethod
    def _both_sizes(cls, given: Any) -> Any:
        return both_sizes(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _harm_is_not_tolerated(self) -> Self:
        for name, harm in self:
            tolerated = getattr(self, name.replace("harm_from_", "tolerated_", 1))
            if name.startswith("harm_from_") and harm > tolerated:
                other = name.replace("harm_from_", "tolerated_", 1)
                raise ValueError(f"{name}: {harm:g} is above {other} {tolerated:g}; what is harm can not be tolerated")
        return self


class ShadowPlan(_Stage):
    """What a candidate must show while nobody sees its answers."""

    min_hours: Hours = 72
    max_hours: Hours = Field(336, description="Undecided for this long: held, a person decides.")
    min_rows: int = Field(1500, gt=0, description="Shadow-scored rows with an outcome.")
    min_segment_rows: Mapping[str, Annotated[int, Field(gt=0)]] = Field(
        {},
        description="Per column of the log: rows that each of its levels with at least 1 % of the traffic needs.",
    )
    alpha: Alphas = Alphas()
    alpha_promise: Alpha = 0.01
    harm_from_loss_increase: float = Field(0.01, ge=0)
    tolerated_loss_increase: float = Field(0.01, gt=0, description="Mean squared error (Brier) above the champion's.")
    harm_from_error_ratio: float = Field(2.0, ge=1)
    tolerated_error_ratio: float = Field(2.0, gt=1)
    tolerated_error_rate: float = Field(0.01, gt=0, lt=1, description="A rate below this never matters.")
    harm_from_latency_ratio: float = Field(3.0, ge=1)
    tolerated_latency_ratio: float = Field(3.0, gt=1)
    tolerated_latency_ms: float = Field(20.0, ge=0, description="A slow-down below this never matters.")
    harm_from_prediction_shift: float = Field(0.1, ge=0)
    tolerated_prediction_shift: float = Field(0.1, gt=0, description="Mean difference of the scores.")
    kept_promise_tolerance: float = Field(0.04, ge=0, description="AUC below the interval that the gates measured.")
    kept_gain_tolerance: float = Field(0.015, ge=0, description="AUC gain below the interval that the gates measured.")
    timed_rows: int = Field(10, ge=0, description="Rows timed one by one per look, candidate and champion alike.")
    timed_seconds: float = Field(5, gt=0, description="Wall clock that timing rows one by one may take per look.")


class CanaryStep(_Document):
    """One share of the traffic, and how long and how much at least before the next."""

    share: Share
    min_hours: Hours = 24
    min_rows: int = Field(50, ge=0, description="Rows that the candidate answered at this step.")


class CanaryPlan(_Stage):
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
    horizon_rows: int | None = Field(None, gt=0, description="Undecided after so many rows of the candidate: held.")
    alpha: Alphas = Alphas()
    harm_from_error_ratio: float = Field(1.0, ge=1, description="Errors per row, times the champion's.")
    tolerated_error_ratio: float = Field(2.0, gt=1)
    tolerated_error_rate: float = Field(0.01, gt=0, lt=1, description="A rate below this never matters.")
    harm_from_latency_ratio: float = Field(1.25, ge=1)
    tolerated_latency_ratio: float = Field(2.0, gt=1)
    tolerated_latency_ms: float = Field(20.0, ge=0, description="A slow-down below this never matters.")
    harm_from_loss_increase: float = Field(0.0, ge=0)
    tolerated_loss_increase: float = Field(0.02, gt=0, description="Mean squared error (Brier) above the champion's.")
    loss_cluster: Literal["entity", "day"] = Field(
        "entity",
        description="day: rows of one day count as one observation too, where weather moves all outcomes of a day.",
    )
    harm_from_prediction_shift: float = Field(0.1, ge=0)
    tolerated_prediction_shift: float = Field(0.1, gt=0, description="Mean difference of the scores.")
    distribution: Literal["guard", "report"] = Field(
        "report", description="Whether scores that are distributed differently roll back, or are only told."
    )
    harm_from_distance: float = Field(
        0.1, ge=0, lt=1, description="Distributions closer than this (Kolmogorov-Smirnov) never roll back."
    )
    tolerated_distance: float = Field(0.2, gt=0, lt=1)
    timeout_ms: float | None = Field(
        1000, gt=0, description="The champion answers when the candidate takes longer; counts as an error. null: never."
    )
    freeze: tuple[WeeklyFreeze, ...] = Field(
        (), description="Each week: nothing starts, gets more traffic or is promoted."
    )

    @model_validator(mode="after")
    def _shares_grow(self) -> Self:
        shares = [step.share for step in self.steps]
        if shares != sorted(set(shares)):
            raise ValueError("steps: the shares must grow from one step to the next")
        return self


class RolloutPlan(_Document):
    """Shadow, then the canary's steps, looked at regularly."""

    shadow: ShadowPlan = ShadowPlan()
    canary: CanaryPlan = CanaryPlan()
    look_every_hours: float = Field(12, gt=0)
    look_every_seconds: float | None = Field(None, ge=1, description="In place of look_every_hours, where it is given.")
    timed_rows: int = Field(2, ge=0, description="Rows timed one by one per arm and gateway call of a canary.")
    queue: Literal["newest", "every"] = Field(
        "newest", description="newest: a newer version takes the place of one that waits; every: each has its turn."
    )

    @property
    def look_every(self) -> timedelta:
        if self.look_every_seconds is not None:
            return timedelta(seconds=self.look_every_seconds)
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
            "harm_from_loss_increase": 0.01,
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
            "harm_from_loss_increase": 0.0,
            "tolerated_loss_increase": 0.01,
            "harm_from_error_ratio": 1.0,
            "tolerated_error_ratio": 1.5,
        },
    },
}
"""What differs from the standard plan, per tier (``registry.models.Tier``)."""

STAGES = ("shadow", "canary")


def plan_for(tier: str, overrides: Mapping[str, Any] | None = None) -> RolloutPlan:
    """The tier's plan with an endpoint's ``overrides`` laid over it, value by value.

    Raises pydantic.ValidationError when the result is no plan, KeyError for an unknown tier.
    """
    given = dict(overrides or {})
    for stage in STAGES:
        if isinstance(given.get(stage), Mapping):
            given[stage] = both_sizes(given[stage])
    return RolloutPlan.model_validate(_merged(TIERS[tier], given))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``; mappings are merged, everything else (lists too) is replaced."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both else value  # type: ignore[arg-type]  # `both` says they are mappings
    return merged
