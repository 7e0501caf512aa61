"""How strictly a model is watched: the settings of a monitor, with defaults for about 1,000 requests a day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit.errors import InvalidInput


class MonitorSettings(BaseModel):
    """Windows, tolerances, persistence and brakes of one model (monitoring research 4.2 and 4.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: int = Field(7, ge=1, le=92, description="Days of event time in one window.")
    minimum_rows: int = Field(500, ge=1, description="Fewer predictions in a window: inconclusive.")

    significance: float = Field(0.01, gt=0, lt=0.5, description="Split over the model's features (Bonferroni).")
    tolerance: float = Field(0.02, ge=0, description="Effect that never counts as drift.")
    calibrate: bool = Field(True, description="Widen the tolerance to what the training data's own windows show.")
    tolerance_cap: float = Field(0.1, ge=0, description="Calibration never widens the tolerance beyond this.")
    tolerances: dict[str, float] = Field(default_factory=dict, description="Tolerance of single features; not capped.")
    minimum_importance: float = Field(
        0.03, ge=0, le=1, description="Features below this share are noted, nothing more."
    )

    persistence: int = Field(2, ge=1, description="Windows that must show it …")
    persistence_of: int = Field(3, ge=1, description="… among this many newest ones.")
    quiet_windows: int = Field(3, ge=1, description="So many quiet windows in a row close the incident.")

    data_jump: float = Field(0.05, gt=0, lt=1, description="Growth of the share of nulls, unseen or impossible values.")
    range_margin: float = Field(
        1.0,
        ge=0,
        description="Impossible: outside the reference's range widened on each side by this many of its widths.",
    )

    confidence: float = Field(0.95, gt=0.5, lt=1)
    minimum_coverage: float = Field(0.7, gt=0, le=1, description="Share of matured predictions with a known outcome.")
    auc_tolerance: float = Field(0.02, ge=0, description="Loss of AUC against the gates' measurement that is accepted.")
    gross_auc_tolerance: float = Field(0.08, ge=0, description="A loss beyond this is confirmed by one window.")
    widest_auc_interval: float = Field(0.1, gt=0, description="A wider interval says nothing: inconclusive.")

    retrain_on: tuple[Literal["drift", "decay"], ...] = ("drift", "decay")
    cool_down_days: int = Field(14, ge=0, description="Days between the end of a retraining and the next one.")
    candidates_per_month: int = Field(6, ge=1, description="Training runs that automation may ask for in 30 days.")
    minimum_gain: float = Field(0.0, description="A candidate must beat the champion by more than this.")

    refusals: int = Field(2, ge=1, description="Retrainings refused in a row until a rethink is proposed.")
    relapse_days: int = Field(30, ge=0, description="Decay again so soon after a promoted retraining: rethink.")
    repair_share: float = Field(0.6, ge=0, le=1, description="The best candidate must win back this share of the loss.")
    rethink_due_days: int = Field(7, ge=1, description="Days in which somebody should decide a rethink.")


def parse(document: Mapping[str, Any]) -> MonitorSettings:
    """The settings that a stored or submitted document means. Raises InvalidInput naming each wrong field."""
    try:
        settings = MonitorSettings.model_validate(dict(document))
    except ValidationError as problem:
        raise InvalidInput({".".join(map(str, error["loc"])): error["msg"] for error in problem.errors()}) from problem
    if settings.persistence > settings.persistence_of:
        raise InvalidInput({"persistence": f"must be at most persistence_of ({settings.persistence_of})."})
    return settings
