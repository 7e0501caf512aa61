"""What is measured once in the world (a sandbox's clock, the online store, evidence), a module per kind of check."""

from gates.collect import (
    ci_evidence,
    custom,
    data_quality,
    feature_consistency,
    latency,
    leakage,
    live_drift,
    robustness,
    training_data,
)

__all__ = [
    "ci_evidence",
    "custom",
    "data_quality",
    "feature_consistency",
    "latency",
    "leakage",
    "live_drift",
    "robustness",
    "training_data",
]
