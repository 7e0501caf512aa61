"""What follows from confirmed findings: may a retraining start, which candidate goes on, must a human rethink? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring.config import MonitorSettings

MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Circumstances:
    """What stands for or against starting a retraining of a model now.

    ``windows``: training windows its automatic pipeline declares (None: it has no such pipeline). ``asked``: training
    runs that automation asked for in the last 30 days. Texts name what is in the way; empty: nothing.
    """

    automation: bool
    windows: int | None
    open_rethink: str
    data_incident: str
    open_retraining: str
    open_training: str
    active_rollout: str
    last_ended: datetime | None
    asked: int


def brake(circumstances: Circumstances, settings: MonitorSettings, *, now: datetime) -> str:
    """Why a retraining must not start now, in words; empty when it may."""
    c = circumstances
    if not c.automation:
        return "automation is switched off for this model"
    if c.windows is None:
        return "the model has no pipeline that may train by itself"
    if c.windows == 0:
        return "its automatic pipeline declares no training window"
    if c.open_rethink:
        return f"{c.open_rethink} is not settled: until then nothing retrains by itself"
    if c.data_incident:
        return f"its data is broken ({c.data_incident}): training on it would teach the fault"
    for obstacle in (c.open_retraining, c.open_training, c.active_rollout):
        if obstacle:
            return f"{obstacle} has not ended"
    if c.last_ended and now < c.last_ended + timedelta(days=settings.cool_down_days):
        return f"cool-down until {c.last_ended + timedelta(days=settings.cool_down_days):%Y-%m-%d}"
    if c.asked + c.windows > settings.candidates_per_month:
        return f"{c.asked} automatic trainings in 30 days; at most {settings.candidates_per_month} are allowed"
    return ""


@dataclass(frozen=True)
class Judged:
    """A candidate after its gates. ``gain``: over the champion on the same rows; None: not compared."""

    position: int
    passed: bool
    gain: float | None


def best(candidates: Sequence[Judged], settings: MonitorSettings) -> Judged | None:
    """The passing candidate with the largest gain; one that is measured and gains nothing never goes on.

    A candidate that the policy did not compare counts after every measured one.
    """
    able = [each for each in candidates if each.passed and (each.gain is None or each.gain > settings.minimum_gain)]
    return max(able, key=lambda each: (each.gain is not None, each.gain or 0.0, -each.position), default=None)


@dataclass(frozen=True)
class History:
    """What was tried since the last settled rethink. ``loss``: AUC lost by the champion; ``best_gain``: what the best
    candidate of the newest retraining would win back; None where not measured."""

    refused_in_a_row: int = 0
    promoted_at: datetime | None = None
    decayed_at: datetime | None = None
    loss: float | None = None
    best_gain: float | None = None


def rethink_question(history: History, settings: MonitorSettings) -> str:
    """The question a human has to answer, or an empty text while automation may go on."""
    h = history
    if h.refused_in_a_row >= settings.refusals:
        return (
            f"{h.refused_in_a_row} retrainings in a row brought no better version. "
            "Which other data, features or target would answer the question again?"
        )
    if h.promoted_at and h.decayed_at and h.decayed_at - h.promoted_at <= timedelta(days=settings.relapse_days):
        days = (h.decayed_at - h.promoted_at).days
        return (
            f"Performance decayed again {days} days after a retraining was promoted. "
            "What changes faster than retraining can follow, and how should the model learn it?"
        )
    if h.loss is not None and h.loss > 0 and h.best_gain is not None and h.best_gain < settings.repair_share * h.loss:
        return (
            f"The best candidate wins back {max(0.0, h.best_gain):.3f} of {h.loss:.3f} AUC that was lost "
            f"({max(0.0, h.best_gain) / h.loss:.0%}; {settings.repair_share:.0%} are wanted). "
            "What does the model not see that it would need?"
        )
    return ""
