"""A live model to watch: a champion with its training data, gates, endpoint and traffic; the values that matter given.

Windows, traffic and outcomes are made with a seed; nothing else is random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import models

from audit import clock
from audit.models import Event
from audit.trail import because_of
from features import actions as features
from features.models import Dataset, FeatureService
from gates import actions as gates
from gates.models import CheckResult, GateRun, GateRunState, Policy
from jobs.drain import drain
from jobs.run import enqueue
from monitoring import reactions
from monitoring.actions import monitors
from monitoring.models import Monitor, Retraining
from registry.models import Alias, ModelVersion, RegisteredModel, RunState, TrainingPipeline, TrainingRun
from rollout import prediction_log
from rollout.models import Endpoint, Rollout, RolloutState, Route
from tests import builders
from tests.builders import NOON, ROBOT, policy_in_force

WEEK = timedelta(days=7)
START = NOON + timedelta(days=1)
"""When the champion of the scene began to serve."""
IMPORTANCE = {"delay": 0.6, "carrier": 0.38, "temperature": 0.02}
AUC_CHECK: dict[str, Any] = {"kind": "metric", "id": "auc-floor", "metric": "roc_auc", "at_least": 0.6}
GAIN_CHECK: dict[str, Any] = {"kind": "versus_champion", "id": "auc-gain", "metric": "roc_auc", "not_worse_by": 0.01}


@dataclass(frozen=True)
class Scene:
    registered_model: RegisteredModel
    service: FeatureService
    endpoint: Endpoint
    version: ModelVersion
    monitor: Monitor


def live(*, auc: float | None = 0.75, dataset: bool = True, **settings: Any) -> Scene:
    """A champion since START whose gates measured ``auc``, watched with ``settings`` over the test's defaults."""
    registered_model = builders.registered_model()
    service = features.define_service(
        name="delay-inputs",
        features=[],
        request_features=list(IMPORTANCE),
        owner=registered_model.data_science,
        actor=ROBOT,
        now=NOON,
    )
    endpoint = Endpoint.objects.create(
        name="delay-warning",
        title="Delay warning",
        registered_model=registered_model,
        entity_column="flight",
        outcome_window=timedelta(hours=36),
        created_at=NOON,
    )
    Route.objects.create(endpoint=endpoint)
    data = training_data(service) if dataset else None
    version = a_version(registered_model, service=service, dataset=data, importance=IMPORTANCE)
    serve(version, passed_gates(version, auc=auc), since=START)
    monitor = monitors.configure(
        registered_model=registered_model,
        settings={"minimum_rows": 300, **settings},
        actor=ROBOT,
        reason="test",
        now=NOON,
    )
    return Scene(registered_model, service, endpoint, version, monitor)


def a_version(
    registered_model: RegisteredModel,
    *,
    service: FeatureService | None = None,
    dataset: Dataset | None = None,
    training_run: TrainingRun | None = None,
    importance: Mapping[str, float] | None = None,
    inputs: Sequence[str] = (),
) -> ModelVersion:
    """The next version; ``inputs`` are the columns it takes (none said: all of its service)."""
    number = registered_model.versions.count() + 1
    return ModelVersion.objects.create(
        registered_model=registered_model,
        number=number,
        artifact_digest=f"{number:064x}",
        artifact_name="model.skops",
        artifact_bytes=1,
        load_class="skops",
        service=service,
        dataset=dataset,
        training_run=training_run,
        importance=dict(importance or {}),
        signature={"inputs": [{"name": name, "type": "double"} for name in inputs]} if inputs else {},
        registered_at=NOON,
        content_digest=f"{number:064x}",
    )


def policy(registered_model: RegisteredModel) -> Policy:
    """One blocking AUC floor, and the gain over the champion as a report."""
    document = {"checks": [AUC_CHECK, {**GAIN_CHECK, "blocking": False}]}
    return gates.in_force(registered_model) or policy_in_force(registered_model, document)


def a_gate_run(version: ModelVersion) -> GateRun:
    return GateRun.objects.create(
        registered_model=version.registered_model,
        version=version,
        policy=policy(version.registered_model),
        number=version.gate_runs.count() + 1,
        required_checks=1,
        state=GateRunState.OPEN,
        opened_at=NOON,
        deadline=NOON + timedelta(days=3),
    )


def passed_gates(version: ModelVersion, *, auc: float | None = 0.75, gain: float | None = None) -> GateRun:
    return judged_gates(version, "passed", auc=auc, gain=gain)


def judged_gates(
    version: ModelVersion, verdict: str, *, auc: float | None = 0.75, gain: float | None = None
) -> GateRun:
    """A gate run that ended with ``verdict``; ``gain`` is the measured AUC difference to the champion."""
    run = a_gate_run(version)
    run.move(GateRunState.RUNNING, actor=ROBOT, reason="test")
    of_run = {"gate_run": run, "message": f"AUC {auc}"}
    CheckResult.objects.create(
        **of_run, check_id=AUC_CHECK["id"], kind="metric", blocking=True, verdict=verdict, value=auc
    )
    if gain is not None:
        low, high = gain - 0.005, gain + 0.005
        values = {"value": gain, "low": low, "high": high, "verdict": "passed"}
        CheckResult.objects.create(
            **of_run, check_id=GAIN_CHECK["id"], kind="versus_champion", blocking=False, **values
        )
    run.move(verdict, actor=ROBOT, reason=f"test: {verdict}")
    return run


def serve(version: ModelVersion, gate_run: GateRun, *, since: datetime) -> Rollout:
    """Make a version champion of its model's endpoint, through a rollout that the database accepts."""
    endpoint = Endpoint.objects.get(registered_model=version.registered_model)
    rollout = Rollout.objects.create(
        endpoint=endpoint,
        registered_model=version.registered_model,
        version=version,
        gate_run=gate_run,
        plan={},
        salt=f"salt-{gate_run.pk}",
        state=RolloutState.PENDING,
        created_at=since,
    )
    rollout.move(RolloutState.PROMOTED, actor=ROBOT, reason="test", ended_at=since)
    Alias.objects.update_or_create(
        registered_model=version.registered_model, name=Alias.CHAMPION, defaults={"version": version, "since": since}
    )
    return rollout


def pipeline(registered_model: RegisteredModel, service: FeatureService, *windows: str) -> TrainingPipeline:
    return TrainingPipeline.objects.create(
        registered_model=registered_model,
        name="hgb",
        entry_point="tests.none",
        code_path="tests/monitoring",
        service=service,
        entity_frame="requests",
        outcomes="outcomes",
        label="late",
        windows=[{"name": name} if name == "expanding" else {"name": name, "days": 28} for name in windows],
        time_limit=timedelta(minutes=1),
    )


def inputs(rows: int, *, seed: int, delay: float = 0.0, temperature: float = 0.0, nulls: float = 0.0) -> dict[str, Any]:
    """Feature columns; ``delay`` and ``temperature`` shift theirs by so many standard deviations."""
    random = np.random.default_rng(seed)
    delays = random.normal(delay, 1.0, rows)
    return {
        "delay": pa.array(delays, mask=random.random(rows) < nulls),
        "carrier": pa.array(random.choice(["UA", "AA", "B6"], rows, p=[0.5, 0.3, 0.2])),
        "temperature": pa.array(random.normal(temperature, 1.0, rows)),
    }


def training_data(service: FeatureService, *, rows: int = 8_000, days: int = 56) -> Dataset:
    end = NOON - timedelta(days=14)
    moments = [end - timedelta(days=days) * (1 - k / rows) for k in range(rows)]
    late = np.random.default_rng(5).random(rows) < 0.3
    table = pa.table(
        {
            **inputs(rows, seed=1),
            "asked_at": pa.array(moments, pa.timestamp("us", "UTC")),
            "late": pa.array(late.astype(float)),
        }
    )
    return features.snapshot(
        service=service,
        table=table,
        label="late",
        timestamp="asked_at",
        purpose="training",
        as_of=NOON,
        actor=ROBOT,
        now=NOON,
    )


def serve_week(
    scene: Scene,
    week: int,
    *,
    rows: int = 1_000,
    skill: float = 1.0,
    known: float = 1.0,
    score_shift: float = 0.0,
    version: ModelVersion | None = None,
    since: datetime = START,
    **moved: float,
) -> None:
    """Log a week's predictions and their outcomes. ``skill`` 1 gives an AUC of about .76, 0 gives .5.

    ``known`` is the share of outcomes that arrive (3 hours after the request).
    """
    served_by = version or scene.version
    random = np.random.default_rng(100 + week)
    start = since + week * WEEK
    moments = [start + WEEK * (k / rows) for k in range(rows)]
    ids = [f"{served_by.pk}-{week}-{k}" for k in range(rows)]
    late = random.random(rows) < 0.3
    raw = random.normal(0, 1, rows) + skill * late + score_shift
    prediction_log.append(
        scene.endpoint.name,
        pa.table(
            {
                **_log_columns(scene, served_by, ids, moments, 1 / (1 + np.exp(-raw + 1))),
                **inputs(rows, seed=200 + week, **moved),
            }
        ),
    )
    arrived = np.flatnonzero(random.random(rows) < known)
    times = pa.timestamp("us", "UTC")
    prediction_log.append_outcomes(
        scene.endpoint.name,
        pa.table(
            {
                "request_id": pa.array([ids[k] for k in arrived]),
                "label": pa.array(late[arrived].astype(float)),
                "arrived_at": pa.array([moments[k] + timedelta(hours=3) for k in arrived], times),
                "predicted_at": pa.array([moments[k] for k in arrived], times),
            }
        ),
    )


def _log_columns(
    scene: Scene, version: ModelVersion, ids: Sequence[str], moments: Sequence[datetime], scores: Any
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "request_id": ids,
        "at": pa.array(moments, pa.timestamp("us", "UTC")),
        "endpoint": [scene.endpoint.name] * len(ids),
        "entity": ids,
        "arm": ["champion"] * len(ids),
        "version_id": [version.pk] * len(ids),
        "answered_by": ["champion"] * len(ids),
        "score": scores,
        "status": ["ok"] * len(ids),
        "sticky": [True] * len(ids),
    }
    empty = {field.name: pa.nulls(len(ids), field.type) for field in prediction_log.PREDICTION}
    return {**empty, **values}


def candidate_judged(
    scene: Scene, retraining: Retraining, verdict: str, *, gain: float | None = None, now: datetime = START + WEEK
) -> ModelVersion:
    """The open candidate's training succeeds, its gates end with ``verdict``, and the retraining is told."""
    candidate = retraining.candidates.order_by("-position").first()
    assert candidate is not None
    run = candidate.training_run
    assert run is not None
    run.move(RunState.RUNNING, actor=ROBOT, reason="test")
    run.move(RunState.SUCCEEDED, actor=ROBOT, reason="test", wall_seconds=3.0)
    version = a_version(scene.registered_model, service=scene.service, training_run=run)
    gate_run = judged_gates(version, verdict, gain=gain)
    tell(reactions.on_gates_ended, gate_run, now=now)
    retraining.refresh_from_db()
    return version


def rollout_ended(version: ModelVersion, state: str, *, now: datetime = START + 2 * WEEK) -> Rollout:
    """The version's rollout goes its way and ends in ``state``; monitoring is told."""
    rollout = Rollout.objects.get(version=version)
    if state == RolloutState.PROMOTED:
        rollout.move(RolloutState.PROMOTED, actor=ROBOT, reason="no harm", ended_at=now)
        Alias.objects.filter(registered_model=version.registered_model).update(version=version, since=now)
    else:
        rollout.move(RolloutState.SHADOW, actor=ROBOT, reason="test", shadow_since=now)
        rollout.move(state, actor=ROBOT, reason="more late flights were missed", ended_at=now)
    tell(reactions.on_rollout_ended, rollout, now=now)
    return rollout


def tell(reaction: Callable[[Event], None], subject: models.Model, *, now: datetime) -> None:
    """Deliver the subject's last event to a reaction, as the queue would."""
    event = Event.objects.about(subject).order_by("id").last()
    assert event is not None
    with clock.at(now), because_of(event):
        reaction(event)


def watch(now: datetime) -> None:
    """One daily watch at ``now``, with all that follows from it."""
    with clock.at(now):
        enqueue("monitoring.watch", key=f"test-watch:{now.isoformat()}")
        drain()
