"""Judgements: measured numbers and a rule in, a verdict with its numbers out. Pure; every number is measured elsewhere.

A module per kind of check; no data is inconclusive, could-not-measure is error, and only ``passed`` opens a gate.
"""

from gates.judge import (
    ci_evidence,
    custom,
    data_quality,
    fairness,
    feature_consistency,
    latency,
    leakage,
    live_drift,
    metric,
    robustness,
    slices,
    training_data,
    versus_champion,
)
from gates.judge.verdicts import Conclusion, Judgement, VerdictName, clears, conclude, could_not

__all__ = [
    "Conclusion",
    "Judgement",
    "VerdictName",
    "ci_evidence",
    "clears",
    "conclude",
    "could_not",
    "custom",
    "data_quality",
    "fairness",
    "feature_consistency",
    "latency",
    "leakage",
    "live_drift",
    "metric",
    "robustness",
    "slices",
    "training_data",
    "versus_champion",
]
