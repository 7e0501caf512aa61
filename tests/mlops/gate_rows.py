"""A run of every kind of check, as it is stored after judging: what the gate report is made of."""

from __future__ import annotations

import math
from typing import Any

from gates import actions as gates
from gates.judge import Judgement
from gates.models import GateRun
from registry.models import ModelVersion
from tests.builders import NOON, ROBOT, policy_in_force
from tests.gates import rows
from tests.mlops.world import World, a_version

DOCUMENT: dict[str, Any] = {
    "threshold": 0.4,
    "checks": [
        {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.65, "use": "lower_bound"},
        {"id": "auc-vs-champion", "kind": "versus_champion", "metric": "roc_auc", "not_worse_by": 0.005},
        {
            "id": "brier-vs-champion", "kind": "versus_champion", "metric": "brier", "not_worse_by": 0.002,
            "blocking": False,
        },
        {
            "id": "segments", "kind": "slice", "metric": "roc_auc", "by": ["carrier", "origin"],
            "not_worse_than_overall_by": 0.05,
        },
        {"id": "fairness", "kind": "fairness", "by": "carrier", "at_most": 0.1, "use": "lower_bound"},
        {"id": "latency", "kind": "latency", "p50_ms": 5, "p95_ms": 20, "ratio_to_champion": 1.2},
        {"id": "robustness", "kind": "robustness"},
        {"id": "data-quality", "kind": "data_quality", "stale": 0.05},
        {"id": "training-data", "kind": "training_data", "maximum_age_days": 60},
        {"id": "leakage", "kind": "leakage"},
        {"id": "live-drift", "kind": "live_drift"},
        {"id": "feature-consistency", "kind": "feature_consistency"},
        {"id": "ci", "kind": "ci_evidence", "require": ["unit"]},
        {"id": "warnings-read", "kind": "custom", "measurement": "warnings-read", "at_least": 0.3, "blocking": False},
    ],
}  # fmt: skip


def judged_run(world: World, *, version: ModelVersion | None = None) -> GateRun:
    """A run that failed against the champion and in a segment; everything that a report can show is there."""
    policy_in_force(world.registered_model, DOCUMENT)
    version = version or a_version(world, "More trees.")
    run = begun(gates.open_run(version, actor=ROBOT, reason="It was registered.", now=NOON))
    rows.prepared(run, holdout=world["dataset"], curves=CURVES)
    for judgement in judgements():
        gates.record_result(run, judgement, measured={"kept": True}, wall_seconds=0.4)
    gates.conclude(run, actor=ROBOT, wall_seconds=14.2, now=NOON)
    return run


def begun(run: GateRun) -> GateRun:
    """The run begun, whatever evidence it still waits for."""
    if run.state == "open":
        gates.begin(run, actor=ROBOT, reason="For a test.", now=NOON)
    return run


def judgements() -> list[Judgement]:
    """One of each kind."""
    return [
        Judgement(
            "auc-floor", "metric", True, "passed", "roc_auc 0.742 [0.731, 0.753] on 9,120 rows clears at least 0.65.",
            value=0.742, low=0.731, high=0.753, n=9120, threshold="roc_auc ≥ 0.65", detail={"metric": "roc_auc"},
        ),
        Judgement(
            "auc-vs-champion", "versus_champion", True, "failed",
            "roc_auc is worse than delay-arrival v1's by 0.0143 [0.0081, 0.0205] on the same 9,120 rows.",
            value=-0.0143, low=-0.0205, high=-0.0081, n=9120, threshold="roc_auc not worse than the champion by 0.005",
            detail={"metric": "roc_auc", "champion": "delay-arrival v1", "candidate_value": 0.742,
                    "champion_value": 0.7563},
        ),
        Judgement(
            "brier-vs-champion", "versus_champion", False, "inconclusive",
            "brier worse by 0.002 can not be excluded; an equal version needs about 14,300 rows.",
            value=-0.0004, low=-0.0028, high=0.002, n=9120, threshold="brier not worse than the champion by 0.002",
            detail={"metric": "brier", "champion": "delay-arrival v1", "candidate_value": 0.1512,
                    "champion_value": 0.1508},
        ),
        Judgement(
            "segments", "slice", True, "failed", "roc_auc is clearly worse in 1 of 7 segments: carrier = HA.",
            value=0.641, low=0.598, high=0.684, n=9120, detail=_segments(),
        ),
        Judgement(
            "fairness", "fairness", True, "passed", "equal_opportunity_difference 0.062 clears at most 0.1.",
            value=0.062, low=0.031, high=0.094, n=9120, detail=_groups(),
        ),
        Judgement(
            "latency", "latency", True, "passed", "p50 3.1 ms is within 5 ms; p95 7.4 ms is within 20 ms.",
            value=7.4, low=6.8, high=8.3, n=200, threshold="p50 ≤ 5 ms, p95 ≤ 20 ms", detail=_latency(),
        ),
        Judgement(
            "robustness", "robustness", True, "passed", "The served form and the registered one are the same.",
            value=2.1e-7, n=500, detail=_robustness(),
        ),
        Judgement(
            "data-quality", "data_quality", True, "error", "Duplicates were counted by request_id, not by id.",
            n=9120, detail=_columns(),
        ),
        Judgement(
            "training-data", "training_data", True, "passed", "61,000 rows over 56.0 days up to 2013-04-01.",
            value=12.0, n=61_000, detail={"trained_from": "2013-02-04T00:00:00+00:00", "positives": 12_000},
        ),
        Judgement(
            "leakage", "leakage", False, "failed", "Alone too good to be honest: arrival_gate.", value=0.981,
            low=0.978, high=0.984, n=61_000, detail=_leakage(),
        ),
        Judgement(
            "live-drift", "live_drift", False, "failed", "1 of 3 features moved since training.", value=0.18, n=4_000,
            detail=_drift(),
        ),
        Judgement(
            "feature-consistency", "feature_consistency", True, "passed", "300 served values agree.", value=0.0, n=300,
            detail={"features": [{"feature": "delay_weather@1 delay", "at": "2013-04-01T10:00:00+00:00", "cells": 300,
                                  "differing": 0, "limit": 0.001, "clean": 300, "needed": 0, "share": 0.0}],
                    "unserved": ["delay_ratio@1"]},
        ),
        Judgement(
            "ci", "ci_evidence", True, "passed", "unit: 1 test passed.", n=1,
            detail={"code_digest": "c0de" * 16, "evidence": {"unit": 1}},
        ),
        Judgement(
            "warnings-read", "custom", False, "inconclusive", "No measurement warnings-read of v5 came yet.",
        ),
    ]  # fmt: skip


def _segments() -> dict[str, Any]:
    told = [
        ("carrier", "HA", 212, 0.641, 0.101, "failed", 0.0004),
        ("carrier", "AA", 2210, 0.738, 0.004, "passed", 1.0),
        ("carrier", "UA", 3105, 0.751, -0.009, "passed", 1.0),
        ("origin", "JFK", 3020, 0.729, 0.013, "passed", 0.8),
        ("origin", "LGA", 2944, 0.747, -0.005, "passed", 1.0),
        ("origin", "EWR", 3156, 0.744, -0.002, "passed", 1.0),
        ("carrier", "OO", 12, 0.6, 0.142, "inconclusive", None),
    ]
    return {
        "metric": "roc_auc",
        "segments": [
            {"by": by, "level": level, "n": n, "value": value, "low": value - 2 / math.sqrt(n),
             "high": value + 2 / math.sqrt(n), "worse_by": worse, "p_holm": p, "verdict": verdict}
            for by, level, n, value, worse, verdict, p in told
        ],
        "found": [
            {"condition": "distance > 2,400 and carrier is HA", "n": 180, "value": 0.61, "low": 0.55, "high": 0.67}
        ],
        "overall": {"estimate": 0.742, "low": 0.731, "high": 0.753},
    }  # fmt: skip


def _groups() -> dict[str, Any]:
    told = [("AA", 2210, 0.31, 0.24, 0.58, 0.15, True), ("UA", 3105, 0.28, 0.22, 0.56, 0.12, True),
            ("HA", 212, 0.35, 0.33, 0.62, 0.2, True), ("OO", 64, 0.2, 0.1, 0.4, 0.1, False)]  # fmt: skip
    groups = [
        {"group": group, "n": n, "judged": judged, "selection_rate": rate, "base_rate": base, "tpr": tpr, "fpr": fpr,
         "intervals": {"selection_rate": [rate - 0.03, rate + 0.03], "tpr": [tpr - 0.05, tpr + 0.05],
                       "fpr": [fpr - 0.02, fpr + 0.02]}}
        for group, n, rate, base, tpr, fpr, judged in told
    ]  # fmt: skip
    few = {"group": "YV", "n": 9, "judged": False}
    return {"by": "carrier", "measure": "equal_opportunity_difference", "groups": [*groups, few]}


def _latency() -> dict[str, Any]:
    edges = [2 + 0.4 * step for step in range(21)]
    shape = [round(60 * math.exp(-((step - 4) ** 2) / 12)) for step in range(20)]
    quantiles = {"p50": {"estimate": 3.1, "low": 3.0, "high": 3.3}, "p95": {"estimate": 7.4, "low": 6.8, "high": 8.3},
                 "p99": {"estimate": 9.1, "low": None, "high": None}}  # fmt: skip
    return {
        "quantiles": {"candidate": quantiles, "champion": quantiles, "control": quantiles},
        "batch": {"rows": 100, "quantiles": {"candidate": quantiles}},
        "ratio_to_champion": {"estimate": 1.04, "low": 1.01, "high": 1.08},
        "control_ratio": {"p50": 1.01, "p95": 1.06, "p99": 1.2},
        "control_of": "champion",
        "limits": [{"limit": "p50", "verdict": "passed"}, {"limit": "p95", "verdict": "passed"}],
        "binding": "p95",
        "histogram": {
            "edges": edges,
            "counts": {"candidate": shape, "champion": [0, *shape[:-1]], "control": shape[::1]},
        },
    }


def _robustness() -> dict[str, Any]:
    form = {"load_class": "onnx", "digest": "0" * 64}
    same = {"rows": 500, "differing": 0, "only_one": 0, "max_difference": 0.0, "relative": 0.0}
    missing = [
        {"column": "delay", "rows": 40, "answered": 40, "said": "", "died": False},
        {"column": "temperature", "rows": 40, "answered": 31, "said": "temperature is missing", "died": False},
    ]
    return {
        "served": form, "registered": {**form, "load_class": "skops"},
        "parity": {**same, "by": "scores", "max_difference": 2.1e-7},
        "determinism": {"again": same, "order": same, "alone": same},
        "missing": missing, "strange": [], "wrong": [],
    }  # fmt: skip


def _columns() -> dict[str, Any]:
    columns = [
        {"column": name, "null_share": nulls, "trained_null_share": 0.01, "null_increase": nulls - 0.01,
         "out_of_range": outside, "unseen": None, "served_missing": 0.0, "served_stale": 0.02}
        for name, nulls, outside in (("carrier", 0.01, None), ("delay", 0.31, 0.002), ("temperature", 0.01, 0.0))
    ]  # fmt: skip
    return {
        "columns": columns, "duplicates": 0.0, "ignored": ["day"], "defects": ["delay 31.0% null (trained 1.0%)"],
        "served": {"entities": 120, "why": "", "at": "2013-04-01T12:00:00+00:00"},
    }  # fmt: skip


def _leakage() -> dict[str, Any]:
    features = [
        {"feature": name, "alone": auc, "low": auc - 0.004, "high": auc + 0.004, "by": "order", "importance": share,
         "champion_importance": None, "on_holdout": auc, "is_suspect": auc > 0.95}
        for name, auc, share in (("arrival_gate", 0.981, 0.7), ("delay", 0.71, 0.2), ("temperature", 0.55, 0.1))
    ]  # fmt: skip
    return {"measure": "auc", "features": features, "in_time": [], "instants": [], "requested": []}


def _drift() -> dict[str, Any]:
    features = [
        {"feature": name, "effect": effect, "low": effect - 0.03, "moved": effect > 0.15, "importance": 0.3,
         "null_share": 0.0, "trained_null_share": 0.0, "unseen_share": None}
        for name, effect in (("delay", 0.21), ("carrier", 0.04), ("temperature", 0.06))
    ]  # fmt: skip
    return {"features": features, "requests": 4_000, "tolerance": 0.1}


def _curves() -> dict[str, Any]:
    """As ``gates.measure.curves`` gives them, of a version that ranks a little worse than its champion."""
    steps = [step / 20 for step in range(21)]
    return {
        "confidence": 0.95,
        "threshold": 0.4,
        "rows": 9120,
        "roc": {arm: _bent("fpr", "tpr", steps, power) for arm, power in (("candidate", 0.40), ("champion", 0.36))},
        "pr": {
            arm: _bent("recall", "precision", steps, power) for arm, power in (("candidate", 1.4), ("champion", 1.3))
        },
        "calibration": {"candidate": {**_bent("predicted", "observed", steps, 1.1), "n": [430] * 21}},
        "scores": {
            "edges": [step / 40 for step in range(41)],
            "candidate": {
                "negatives": [round(900 * math.exp(-step / 8)) for step in range(40)],
                "positives": [round(200 * math.exp(-((step - 20) ** 2) / 120)) for step in range(40)],
            },
        },
    }


def _bent(x: str, y: str, steps: list[float], power: float) -> dict[str, list[float]]:
    values = [step**power for step in steps]
    return {
        x: steps,
        y: values,
        "low": [max(0.0, value - 0.03) for value in values],
        "high": [min(1.0, value + 0.03) for value in values],
    }


CURVES = _curves()
