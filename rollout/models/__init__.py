"""The rollout's nouns: decision points, who serves them, and how a candidate earns its traffic."""

from rollout.models.endpoints import (
    Better,
    BusinessMetric,
    Decision,
    DecisionKind,
    DecisionOutcome,
    Endpoint,
    Fallback,
    FreezeWindow,
    MeasuredPer,
    Missing,
    Outcome,
    Route,
)
from rollout.models.rollouts import ACTIVE, AnalysisRun, Measurement, Rollout, RolloutState
from rollout.models.serving import GatewayProcess, SpoolSegment, TrafficPlan

__all__ = [
    "ACTIVE",
    "AnalysisRun",
    "Better",
    "BusinessMetric",
    "Decision",
    "DecisionKind",
    "DecisionOutcome",
    "Endpoint",
    "Fallback",
    "FreezeWindow",
    "GatewayProcess",
    "MeasuredPer",
    "Measurement",
    "Missing",
    "Outcome",
    "Rollout",
    "RolloutState",
    "Route",
    "SpoolSegment",
    "TrafficPlan",
]
