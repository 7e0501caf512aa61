"""Frozen inputs made by hand: labels, scores and columns of a holdout."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from gates.frozen import Frozen, Json, Measure, Missing, Scores
from gates.policy import AnyCheck, parse
from stats.interval import FloatArray

BEGAN = datetime(2013, 6, 1, tzinfo=UTC)
RIVAL = "late-arrival v3"


def holdout(
    y: FloatArray,
    p: FloatArray,
    champion: FloatArray | Missing | None = None,
    *,
    threshold: float = 0.5,
    columns: dict[str, Any] | None = None,
    **fields: Any,
) -> Frozen:
    """A run's inputs: the candidate's scores, the champion's where there is one, and named columns."""
    table = pa.table({"late": y, **(columns or {})})
    rival = champion if isinstance(champion, Missing) else Scores(champion, {}) if champion is not None else None
    ci = {"id": "ci", "kind": "ci_evidence", "require": ["unit"]}
    told = {
        "document": parse({"threshold": threshold, "checks": [ci]}),
        "task": "binary_classification",
        "seed": 7,
        "began": BEGAN,
        "table": table,
        "y": y,
        "label": "late",
        "features": tuple(columns or {}),
        "inputs": tuple(columns or {}),
        "candidate": Scores(p, {}),
        "champion": rival or Missing("There is no champion."),
        "champion_name": RIVAL if champion is not None else "",
        "champion_is_unfair": False,
    }
    return Frozen(**{**told, **fields})


def kept(measure: Measure, check: AnyCheck, frozen: Frozen) -> Json:
    """What was measured, as it comes back from the database: finite JSON."""
    found: Json = json.loads(json.dumps(measure(check, frozen), allow_nan=False))
    return found


def late_flights(n: int, *, seed: int = 0, skill: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Outcomes and honest scores; less skill pulls the scores to their mean and adds noise."""
    random = np.random.default_rng(seed)
    truth = random.beta(1.5, 3.5, n)
    y = (random.random(n) < truth).astype(float)
    noise = np.random.default_rng(seed + 1).beta(1.5, 3.5, n)
    return y, skill * truth + (1 - skill) * noise
