"""One team's whole world in a few rows of every kind, made through the verbs where the database insists on it.

``build`` can be called for several teams: their groups, model, endpoint and records carry the team's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model

from audit.models import ApiToken, Event
from audit.trail import because_of
from features import actions as features
from features.models import (
    ConsistencyCheck,
    Dataset,
    DataSource,
    Entity,
    FeatureService,
    FeatureServiceFeature,
    FeatureView,
    FeatureViewVersion,
    Materialization,
    OnDemandTransform,
)
from gates import actions as gates
from gates.judge import Judgement
from gates.models import GateRun
from jobs.models import Due, Heartbeat, Job
from monitoring.actions import incidents, monitors, rethinks
from monitoring.models import Candidate, DriftRun, Incident, Rethink, Retraining
from registry.actions import crown, write_card
from registry.actions.openlineage import fold_waiting, link_source, receive
from registry.models import Alias, ExternalNode, ModelVersion, RegisteredModel, TrainingPipeline, TrainingRun
from rollout import models as rollout_models
from rollout.actions import define_business_metric
from rollout.actions.endpoints import create_endpoint, decide
from rollout.actions.fallbacks import add_fallback
from rollout.actions.freezes import freeze
from rollout.models import AnalysisRun, Measurement, Rollout
from rollout.plan import plan_for
from tests.builders import NOON, ROBOT, group, person
from tests.registry.lineage_events import dataset, run_event, schema

DAY = timedelta(days=1)
CODE = "c0de" * 16
FEATURES = ("delay", "carrier", "temperature")


@dataclass
class World:
    """What ``build`` made. ``rows`` has at least one row of every kind that the admin shows."""

    team: str
    scientist: User
    operator: User
    owner: User
    registered_model: RegisteredModel
    rows: dict[str, Model] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.rows[name]

    @property
    def members(self) -> tuple[User, User, User]:
        return (self.scientist, self.operator, self.owner)


def build(team: str = "delay") -> World:
    """A model with a champion, a refused version, a canary under way, one rolled back, drift, incident, rethink."""
    scientist = person(f"{team}-dana", f"{team}-science", is_staff=True)
    operator = person(f"{team}-pete", f"{team}-platform", is_staff=True)
    owner = person(f"{team}-paula", f"{team}-product", is_staff=True)
    model = RegisteredModel.objects.create(
        name=f"{team}-arrival",
        title=f"{team.title()} arrival",
        description="Will this flight arrive late?",
        tier="standard",
        data_science=group(f"{team}-science"),
        platform=group(f"{team}-platform"),
        product=group(f"{team}-product"),
        created_at=NOON,
    )
    world = World(team, scientist, operator, owner, model)
    world.rows["registered_model"] = model
    _features(world)
    _training(world)
    _gates(world)
    _rollouts(world)
    _monitoring(world)
    _other_tools(world)
    _system(world)
    return world


def _features(world: World) -> None:
    team, science = world.team, world.registered_model.data_science
    entity = Entity.objects.create(name=f"{team}-airport", join_keys=["origin"], description="An airport.")
    source = DataSource.objects.create(
        name=f"{team}-flights",
        uri=f"sources/{team}.parquet",
        event_timestamp="at",
        owner=world.registered_model.platform,
        freshness=None,
    )
    view = FeatureView.objects.create(name=f"{team}_weather", entity=entity, owner=science, description="Weather.")
    version = FeatureViewVersion.objects.create(
        view=view,
        number=1,
        state="draft",
        expression="SELECT origin, temperature FROM flights",
        features=[{"name": name, "dtype": "float64", "description": ""} for name in FEATURES],
        content_hash=team.ljust(64, "0")[:64],
        created_at=NOON,
    )
    version.sources.add(source)
    service = FeatureService.objects.create(
        name=f"{team}-inputs",
        number=1,
        owner=science,
        request_features=["hour"],
        content_hash=f"{team}-s",
        created_at=NOON,
    )
    for position, name in enumerate(FEATURES):
        FeatureServiceFeature.objects.create(service=service, view_version=version, feature=name, position=position)
    features.publish(version, actor=world.scientist, reason="Reviewed.", now=NOON)
    transform = OnDemandTransform.objects.create(
        name=f"{team}_ratio",
        number=1,
        owner=science,
        code="def ratio(hour):\n    return hour / 24\n",
        inputs=["hour"],
        features=[{"name": "ratio", "dtype": "float64", "description": "Share of the day."}],
        content_hash=team.ljust(64, "1")[:64],
        created_at=NOON,
    )
    service.transforms.add(transform)
    dataset = Dataset.objects.create(
        service=service,
        purpose="training",
        uri=f"datasets/{team}.parquet",
        digest=team.ljust(64, "d")[:64],
        label="late",
        timestamp="at",
        rows=8_000,
        time_from=NOON - 56 * DAY,
        time_to=NOON,
        as_of=NOON,
        engine="test",
        created_at=NOON,
    )
    world.rows |= {
        "entity": entity,
        "data_source": source,
        "feature_view": view,
        "view_version": version,
        "service": service,
        "transform": transform,
        "dataset": dataset,
        "materialization": Materialization.objects.create(view_version=version, up_to=NOON, rows=3, newest=NOON),
        "consistency_check": ConsistencyCheck.objects.create(view_version=version, at=NOON, cells=300, differing=0),
    }


def _training(world: World) -> None:
    model = world.registered_model
    pipeline = TrainingPipeline.objects.create(
        registered_model=model,
        name="trees",
        entry_point="tests.none",
        code_path="tests/mlops",
        service=world["service"],
        entity_frame="requests",
        outcomes="outcomes",
        label="late",
        windows=[{"name": "expanding"}],
        time_limit=timedelta(minutes=1),
    )
    run = TrainingRun.objects.create(
        registered_model=model,
        pipeline=pipeline,
        state="succeeded",
        state_reason="Trained in 3.0 s.",
        state_since=NOON,
        trigger="person",
        window={"name": "expanding"},
        dataset=world["dataset"],
        requested_at=NOON,
        wall_seconds=3.0,
    )
    content = {"intended_use": "Warn of delays.", "decision_role": "advises"}
    card = write_card(model, content=content, reason="Founded.", actor=world.owner, now=NOON)
    world.rows |= {"pipeline": pipeline, "training_run": run, "model_card": card}


def a_version(world: World, note: str, **fields: Any) -> ModelVersion:
    model = world.registered_model
    number = model.versions.count() + 1
    return ModelVersion.objects.create(
        registered_model=model,
        number=number,
        artifact_digest=f"{model.pk:08x}{number:056x}",
        artifact_name="model.skops",
        artifact_bytes=120_000,
        load_class="skops",
        service=world["service"],
        dataset=world["dataset"],
        code_digest=CODE,
        commit="c0ffee" * 6,
        importance={"delay": 0.6, "carrier": 0.3, "temperature": 0.1},
        note=note,
        registered_at=NOON,
        content_digest=f"{model.pk:08x}{number:056x}",
        **fields,
    )


def a_gate_run(version: ModelVersion, verdict: str = "passed") -> GateRun:
    """A run that ended with ``verdict``, by the checks it wrote down."""
    run = gates.open_run(version, actor=ROBOT, reason="It was registered.", now=NOON)
    said = "AUC 0.762 [0.750, 0.774] reaches 0.65" if verdict == "passed" else "AUC 0.612 [0.598, 0.626] is below 0.65"
    value = 0.762 if verdict == "passed" else 0.612
    judged: Any = verdict
    judgement = Judgement(
        "auc-floor", "metric", True, judged, said, value=value, low=value - 0.012, high=value + 0.012, n=9_000
    )
    gates.conclude(run, [judgement], actor=ROBOT, now=NOON)
    return run


def _gates(world: World) -> None:
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.65}]}
    policy = gates.propose_policy(
        world.registered_model, document=document, note="A first floor.", actor=world.scientist, now=NOON
    )
    gates.confirm_policy(policy, reason="Agreed.", actor=world.owner, now=NOON)
    evidence = gates.submit_evidence(
        registered_model=world.registered_model,
        kind="unit",
        code_digest=CODE,
        payload='<testsuite><testcase classname="t" name="a"/></testsuite>',
        actor=world.scientist,
        now=NOON,
    )
    champion = a_version(world, "Logistic regression.", training_run=world["training_run"])
    refused = a_version(world, "Only last month.")
    canary = a_version(world, "Boosted trees.")
    stopped = a_version(world, "Leaking join.")
    world.rows |= {
        "policy": policy,
        "evidence": evidence,
        "champion": champion,
        "refused": refused,
        "canary": canary,
        "stopped": stopped,
        "gate_run": a_gate_run(champion),
        "refused_run": a_gate_run(refused, "failed"),
        "canary_run": a_gate_run(canary),
        "stopped_run": a_gate_run(stopped),
    }
    world.rows["check_result"] = world["gate_run"].results.get()


def a_rollout(world: World, version: ModelVersion, gate_run: GateRun, state: str, **fields: Any) -> Rollout:
    """A rollout moved to ``state`` over the stages before it."""
    rollout = Rollout.objects.create(
        endpoint=world["endpoint"],
        registered_model=world.registered_model,
        version=version,
        gate_run=gate_run,
        incumbent=world.registered_model.champion(),
        plan=plan_for("standard", {}).model_dump(mode="json"),
        salt=f"salt-{gate_run.pk}",
        state="pending",
        state_reason="It passed its gates.",
        created_at=NOON,
    )
    if state == "promoted":
        rollout.move(state, actor=ROBOT, reason="Nothing serves yet: passed gates suffice.", ended_at=NOON)
        return rollout
    rollout.move("shadow", actor=ROBOT, reason="It scores all traffic unseen.", shadow_since=NOON, step_since=NOON)
    if state != "shadow":
        rollout.move("canary", actor=ROBOT, reason="No harm in shadow.", step=1, canary_since=NOON + DAY)
    if state not in ("shadow", "canary"):
        rollout.move(state, actor=ROBOT, reason="More late flights were missed: proven.", ended_at=NOON + 3 * DAY)
    return rollout


def a_look(rollout: Rollout, conclusion: str = "wait", harm: float = 1.0) -> AnalysisRun:
    number = rollout.analyses.count() + 1
    look = AnalysisRun.objects.create(
        rollout=rollout,
        number=number,
        stage=rollout.state if rollout.is_active else "canary",
        step=rollout.step,
        at=NOON + number * DAY / 4,
        conclusion=conclusion,
        summary="Loss +0.004 [-0.010, +0.018], limit 0.02: nothing proven yet.",
        candidate_rows=120,
        incumbent_rows=10_000,
        detail={"disagreement": [{"condition": "origin is LGA", "n": 80, "mean": 0.21}]},
    )
    Measurement.objects.create(
        analysis=look,
        metric="loss",
        verdict="inconclusive",
        message="Log loss differs by +0.004 [-0.010, +0.018]; the limit is 0.02.",
        value=0.004,
        low=-0.01,
        high=0.018,
        limit=0.02,
        n=120,
        harm=harm,
        no_harm=0.5,
        needed=4.6,
    )
    return look


def _rollouts(world: World) -> None:
    world.rows["endpoint"] = create_endpoint(
        name=f"{world.team}-warning",
        title="Delay warning in the booking app",
        registered_model=world.registered_model,
        entity_column="flight",
        outcome_window=timedelta(hours=12),
        fallback=0.0,
        actor=world.owner,
        now=NOON,
    )
    first = a_rollout(world, world["champion"], world["gate_run"], "promoted")
    crown(world["champion"], actor=ROBOT, reason="The first one.", now=NOON)
    stopped = a_rollout(world, world["stopped"], world["stopped_run"], "rolled_back")
    canary = a_rollout(world, world["canary"], world["canary_run"], "canary")
    for harm in (0.2, 0.9, 1.7):
        a_look(canary, harm=harm)
    decide(
        world["endpoint"],
        kind="serve",
        registered_model=world.registered_model,
        note="It is the best we have.",
        actor=world.owner,
        now=NOON,
    )
    complaints = define_business_metric(
        world["endpoint"],
        name="complaints",
        title="Complaints",
        per="entity",
        better="lower",
        window=7 * DAY,
        missing="zero",
        tolerated_harm=0.01,
        actor=world.owner,
        now=NOON,
    )
    world.rows |= {
        "business_metric": complaints,
        "fallback": add_fallback(
            world["endpoint"], name="careful", score=0.9, note="Rather warn.", actor=world.owner, now=NOON
        ),
        "freeze": freeze(
            world["endpoint"],
            starts_at=NOON + 260 * DAY,
            ends_at=NOON + 275 * DAY,
            note="Christmas.",
            actor=world.owner,
            now=NOON,
        ),
        "promoted": first,
        "rolled_back": stopped,
        "rollout": canary,
        "look": a_look(stopped, "roll_back", 5.1),
        "decision": rollout_models.Decision.objects.get(endpoint=world["endpoint"]),
        "alias": Alias.objects.get(registered_model=world.registered_model),
    }


def _windows(world: World, monitor: Any) -> None:
    """Five weekly windows: the effect of ``delay`` grows and the AUC falls."""
    for week in range(1, 6):
        window = {
            "monitor": monitor,
            "registered_model": world.registered_model,
            "version": world["champion"],
            "window_from": NOON + (week - 1) * 7 * DAY,
            "window_to": NOON + week * 7 * DAY,
            "rows": 6_000,
            "at": NOON + week * 7 * DAY,
        }
        scores = {
            name: {"effect": 0.05 * week * share, "importance": share}
            for name, share in zip(FEATURES, (0.6, 0.3, 0.1), strict=True)
        }
        world.rows["drift_run"] = DriftRun.objects.create(
            kind="drift",
            verdict="failed" if week > 3 else "passed",
            confirmed=week > 4,
            summary=f"delay moved by {0.03 * week:.2f}; tolerated are 0.1.",
            scores={"features": scores},
            **window,
        )
        auc = 0.77 - 0.01 * week
        world.rows["performance_run"] = DriftRun.objects.create(
            kind="performance",
            verdict="passed",
            summary=f"AUC {auc:.3f} on matured outcomes.",
            scores={"roc_auc": {"estimate": auc, "low": auc - 0.01, "high": auc + 0.01, "n": 6_000}},
            **window,
        )


def an_incident(world: World, key: str = "drift", **fields: Any) -> Incident:
    values: dict[str, Any] = {
        "kind": "drift",
        "duty": "data_science",
        "registered_model": world.registered_model,
        "version": world["champion"],
        "cause_key": f"{key}:{world.team}",
        "title": f"Drift of {world.registered_model}: delay",
        "detail": "delay moved. Look whether the world changed or a source did.",
        "evidence": {"drift_run": world["drift_run"].pk, "features": {"delay": {"effect": 0.15}}},
        "severity": "medium",
        "actor": ROBOT,
        "now": NOON + 35 * DAY,
        **fields,
    }
    return incidents.raise_incident(**values)


def _monitoring(world: World) -> None:
    monitor = monitors.configure(
        registered_model=world.registered_model, settings={}, actor=ROBOT, reason="Watched.", now=NOON
    )
    world.rows["monitor"] = monitor
    _windows(world, monitor)
    with because_of(Event.objects.about(monitor).last()):
        incident = an_incident(world)
    retraining = Retraining.objects.create(
        registered_model=world.registered_model,
        incident=incident,
        cause_kind="drift",
        state="refused",
        state_reason="No candidate passed its gates.",
        started_at=NOON + 35 * DAY,
        ended_at=NOON + 36 * DAY,
        champion_before=world["champion"],
    )
    Candidate.objects.create(
        retraining=retraining, position=0, window={"name": "last-month"}, outcome="failed its gates", gain=-0.02
    )
    world.rows |= {"incident": incident, "retraining": retraining, "rethink": a_rethink(world)}


def a_rethink(world: World) -> Rethink:
    return rethinks.propose_rethink(
        registered_model=world.registered_model,
        question=f"Two retrainings of {world.registered_model} were refused: is the approach still right?",
        evidence={
            "what_was_tried": [{"retraining": 1, "state": "refused", "candidates": [{"gain": -0.02}]}],
            "what_it_cost": {"retrainings": 2, "training_wall_seconds": 31.5},
        },
        due_in=14 * DAY,
        actor=ROBOT,
        now=NOON + 36 * DAY,
    )


def _other_tools(world: World) -> None:
    """An Airflow task makes the table that is the team's data source."""
    sent = run_event(outputs=[dataset(f"{world.team}.flights", schema=schema("carrier", "delay"))])
    received = receive([sent], actor=world.operator, latest=NOON, now=NOON)
    fold_waiting(now=NOON)
    node = ExternalNode.objects.get(name=f"{world.team}.flights")
    link_source(node, world["data_source"], actor=world.operator, reason="It is the same table.", now=NOON)
    world.rows |= {"external_node": node, "lineage_event": received.stored[0]}


def a_dead_job(key: str) -> Job:
    return Job.objects.create(
        kind="gates.prepare", key=key, state="dead", attempts=4, error="MemoryError: no more", payload={"gate_run": 1}
    )


def _system(world: World) -> None:
    Due.objects.get_or_create(name="watch", defaults={"next_at": NOON})
    Heartbeat.objects.get_or_create(name="worker-1", defaults={"beat_at": NOON})
    world.rows |= {
        "job": a_dead_job(f"gates.prepare:{world.team}"),
        "due": Due.objects.get(name="watch"),
        "heartbeat": Heartbeat.objects.get(name="worker-1"),
        "token": ApiToken.objects.create(world.scientist, scopes=["read"])[0],
        "event": Event.objects.filter(registered_model=world.registered_model.name).order_by("-id")[0],
    }
