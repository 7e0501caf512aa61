"""An endpoint with real little models: versions that passed their gates, traffic, outcomes, and time going by.

Two numbers come with each request, ``x1`` and ``x2``; the outcome follows from both. Models are scikit-learn pipelines
in skops files, scored by the real scorer.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audit import clock
from features.models import FeatureService
from gates import actions as gates
from gates.models import CheckResult, GateRun, GateRunState, Policy
from jobs.drain import drain
from jobs.run import enqueue
from registry import artifacts
from registry.models import LoadClass, ModelVersion, RegisteredModel, TrainingRun
from rollout import actions, gateway, prediction_log
from rollout.models import Endpoint, Rollout
from tests import builders
from tests.builders import NOON, ROBOT, policy_in_force

ENDPOINT = "delay-warning"
WINDOW = timedelta(hours=2)
PLAN: dict[str, Any] = {
    "shadow": {"min_hours": 6, "min_rows": 300, "max_hours": 72},
    "canary": {
        "steps": [
            {"share": 0.1, "min_hours": 6, "min_rows": 10},
            {"share": 0.5, "min_hours": 6, "min_rows": 100},
        ],
        "horizon_hours": 96,
    },
    "look_every_hours": 6,
}


def requests(n: int, *, at: datetime, seed: int, broken: float = 0.0) -> pa.Table:
    """Requests of up to 1,000 planes; ``x2`` is missing in the share ``broken`` of them."""
    random = np.random.default_rng(seed)
    x2 = random.normal(size=n)
    x2[random.random(n) < broken] = np.nan
    return pa.table(
        {
            "request_id": [f"{at:%d%H}-{seed}-{row}" for row in range(n)],
            "tailnum": [f"N{each:03d}" for each in random.integers(0, 1000, n)],
            "x1": random.normal(size=n),
            "x2": pa.array(x2, from_pandas=True),
            "at": pa.array([at + timedelta(seconds=row) for row in range(n)], pa.timestamp("us", tz="UTC")),
        }
    )


def chance(x1: np.ndarray[Any, Any], x2: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The true probability of the outcome."""
    probability: np.ndarray[Any, Any] = 1 / (1 + np.exp(-(1.5 * x1 + 1.5 * np.nan_to_num(x2) - 1)))
    return probability


def outcomes(asked: pa.Table, *, seed: int, delay: timedelta = timedelta(hours=1)) -> pa.Table:
    """What really happened, arriving ``delay`` after each request."""
    random = np.random.default_rng(seed)
    probability = chance(asked["x1"].to_numpy(), asked["x2"].to_numpy(zero_copy_only=False))
    arrived = [at + delay for at in asked["at"].to_pylist()]
    return pa.table(
        {
            "request_id": asked["request_id"],
            "label": (random.random(len(asked)) < probability).astype(float),
            "arrived_at": pa.array(arrived, pa.timestamp("us", tz="UTC")),
            "predicted_at": asked["at"],
        }
    )


def trained(inputs: Sequence[str], *, wrong_way: bool = False) -> bytes:
    """A fitted pipeline over these columns; ``wrong_way`` learned the opposite."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x1": random.normal(size=3000), "x2": random.normal(size=3000)})
    label = random.random(3000) < chance(frame["x1"].to_numpy(), frame["x2"].to_numpy())
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    pipeline.fit(frame[list(inputs)], ~label if wrong_way else label)
    return bytes(skops.io.dumps(pipeline))


def service(name: str, request_features: Sequence[str], owner: RegisteredModel) -> FeatureService:
    """A feature service whose columns all come with the request."""
    values = {
        "request_features": list(request_features),
        "owner": owner.data_science,
        "content_hash": name,
        "created_at": NOON,
    }
    return FeatureService.objects.get_or_create(name=name, number=1, defaults=values)[0]


def a_version(
    registered_model: RegisteredModel,
    *,
    inputs: Sequence[str] = ("x1",),
    wrong_way: bool = False,
    training_run: TrainingRun | None = None,
    artifact: bytes | None = None,
) -> ModelVersion:
    """The next version, with a model that reads ``inputs`` (or whatever ``artifact`` is)."""
    stored = artifacts.store(io.BytesIO(trained(inputs, wrong_way=wrong_way) if artifact is None else artifact))
    number = registered_model.versions.count() + 1
    return ModelVersion.objects.create(
        registered_model=registered_model,
        number=number,
        artifact_digest=stored.digest,
        artifact_name="model.skops",
        artifact_bytes=stored.bytes,
        load_class=LoadClass.SKOPS,
        signature={"inputs": [{"name": name, "type": "double"} for name in inputs]},
        service=service("-".join(inputs), inputs, registered_model),
        training_run=training_run,
        registered_at=NOON,
        content_digest=f"content-{number}",
    )


def policy(registered_model: RegisteredModel) -> Policy:
    """The policy in force; the first call puts one in force."""
    return gates.in_force(registered_model) or new_policy(registered_model)


def new_policy(registered_model: RegisteredModel) -> Policy:
    """Another policy in force than before: its floor counts them."""
    floor = 0.55 + 0.001 * Policy.objects.filter(registered_model=registered_model).count()
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": floor}]}
    return policy_in_force(registered_model, document)


def passed_gates(version: ModelVersion, *, auc: float = 0.75) -> GateRun:
    """A gate run of this version that passed, measuring this AUC."""
    gate_run = open_gates(version)
    GateRun.objects.filter(pk=gate_run.pk).update(state=GateRunState.RUNNING)
    CheckResult.objects.create(
        gate_run=gate_run,
        check_id="auc-floor",
        kind="metric",
        blocking=True,
        verdict="passed",
        message="AUC is enough.",
        value=auc,
        low=auc - 0.02,
        high=auc + 0.02,
    )
    GateRun.objects.filter(pk=gate_run.pk).update(state=GateRunState.PASSED)
    gate_run.refresh_from_db()
    return gate_run


def open_gates(version: ModelVersion) -> GateRun:
    return GateRun.objects.create(
        registered_model=version.registered_model,
        version=version,
        policy=policy(version.registered_model),
        state=GateRunState.OPEN,
        number=version.gate_runs.count() + 1,
        required_checks=1,
        opened_at=NOON,
        deadline=NOON + timedelta(days=7),
    )


def proposed(version: ModelVersion, *, auc: float = 0.75) -> Rollout:
    """A rollout of this version, waiting at the endpoint."""
    gate_run = passed_gates(version, auc=auc)
    return actions.propose(version, gate_run=gate_run, actor=ROBOT, reason="It passed.", now=NOON)[0]


def endpoint(registered_model: RegisteredModel, *, plan: Mapping[str, Any] = PLAN) -> Endpoint:
    return actions.create_endpoint(
        name=ENDPOINT,
        title="Delay warning",
        registered_model=registered_model,
        entity_column="tailnum",
        outcome_window=WINDOW,
        fallback=0.2,
        plan=plan,
        actor=ROBOT,
        now=NOON,
    )


@dataclass
class Life:
    """An endpoint with a champion that reads ``x1`` only, and a clock that traffic moves."""

    registered_model: RegisteredModel
    endpoint: Endpoint
    champion: ModelVersion
    now: datetime = NOON

    def candidate(self, *, inputs: Sequence[str] = ("x1", "x2"), wrong_way: bool = False, auc: float = 0.75) -> Rollout:
        """A candidate in shadow."""
        rollout = proposed(a_version(self.registered_model, inputs=inputs, wrong_way=wrong_way), auc=auc)
        actions.start(rollout, actor=ROBOT, reason="Its turn.", now=self.now)
        return rollout

    def hour(self, *, n: int = 120, broken: float = 0.0, known: bool = True) -> pa.Table:
        """One hour: traffic, its outcomes (``known``), and what the background does. The answers."""
        seed = int((self.now - NOON) / timedelta(hours=1))
        with clock.at(self.now):
            asked = requests(n, at=self.now, seed=seed, broken=broken)
            answers = gateway.serve(ENDPOINT, asked, now=self.now, refresh=True).table
        if known:
            prediction_log.append_outcomes(ENDPOINT, outcomes(asked, seed=seed))
        self.now += timedelta(hours=1)
        self.background()
        return answers

    def background(self) -> None:
        with clock.at(self.now):
            enqueue("rollout.reconcile", key=f"reconcile@{self.now}")
            drain()

    def until_ended(self, rollout: Rollout, *, hours: int, **traffic: Any) -> Rollout:
        """Hours go by until the rollout has ended, at most ``hours``."""
        for _ in range(hours):
            self.hour(**traffic)
            rollout.refresh_from_db()
            if rollout.ended_at is not None:
                break
        return rollout


def begin(*, plan: Mapping[str, Any] = PLAN) -> Life:
    registered_model = builders.registered_model()
    at = endpoint(registered_model, plan=plan)
    champion = a_version(registered_model)
    actions.start(proposed(champion), actor=ROBOT, reason="First.", now=NOON)
    return Life(registered_model, at, champion)
