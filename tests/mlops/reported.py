"""A team's world of which the log tells everything, as it does when the verbs made it; and the world moving on."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import connection

from audit import chain, checkpoints
from audit.models import Event
from audit.trail import record
from features.models import Dataset
from monitoring.actions import incidents
from monitoring.actions.monitors import configure
from monitoring.models import DriftRun, Incident
from registry.actions import change_model
from registry.actions.cards import write_card
from registry.actions.keeping import place_hold, set_retention
from registry.models import ModelVersion
from rollout.actions.endpoints import decide, describe
from tests.builders import NOON, ROBOT, audrey, group
from tests.mlops.world import DAY, World, a_look, a_version, an_incident, build

CARD = {
    "intended_use": "Warn passengers whose flight is likely late.",
    "out_of_scope": "Staff planning.",
    "limitations": 'Snow. #set page(fill: red) "quoted" <script>alert(1)</script> $x$ \\ [a] *b*',
    "personal_data": "no",
    "validator": "Vera",
}


def world(team: str = "delay") -> World:
    """``tests.mlops.world`` with the events that its rows would have, and a model card."""
    made = build(team)
    model, run = made.registered_model, made["training_run"]
    owners = {duty: getattr(model, duty).name for duty in ("data_science", "platform", "product")}
    said = {"title": model.title, "description": model.description, "task": model.task, "tier": model.tier}
    record("registered_model.created", model, actor=made.scientist, data={**said, **owners})
    for dataset in Dataset.objects.filter(service=made["service"]):
        record("dataset.created", dataset, actor=ROBOT, data={"rows": dataset.rows, "digest": dataset.digest})
    record("training_run.requested", run, actor=made.scientist, reason="A first try.")
    record("training_run.succeeded", run, actor=ROBOT, data={"from": "running", "to": "succeeded"})
    for version in ModelVersion.objects.filter(registered_model=model).order_by("number"):
        registered(version, made.scientist)
    for window in DriftRun.objects.filter(registered_model=model).order_by("id"):
        judged(window)
    write_card(model, content=CARD, reason="For the audit.", actor=made.owner, now=NOON)
    settle()
    return made


def registered(version: ModelVersion, actor: User) -> Event:
    data = {"artifact": version.artifact_digest, "load_class": version.load_class, "quarantined_because": ""}
    return record("model_version.registered", version, actor=actor, reason=version.note, data=data)


def judged(window: DriftRun) -> Event:
    name = f"{'drift' if window.kind == 'drift' else 'decay'}.confirmed" if window.confirmed else "window.judged"
    return record(name, window, actor=ROBOT, reason=window.summary, data={"drift_run": window.pk})


def settle() -> None:
    """Let PostgreSQL write the links that it keeps for the commit."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def sealed_position() -> int:
    """The head of the log, covered by a signed checkpoint."""
    settle()
    checkpoints.make(now=NOON)
    return chain.head().position


def move_on(made: World) -> None:
    """Everything that can change changes: names, owners, tier, card, states, champion, endpoints, monitor, holds."""
    model, later = made.registered_model, NOON + 60 * DAY
    _incident_goes_on(made)
    rename(made.scientist, "dana-married")
    other = group("newcomers")
    made.owner.groups.add(other)
    change: dict[str, Any] = {"data_science": model.data_science, "platform": model.platform, "product": other}
    change_model(
        model, title="Renamed", description="Another question.", tier="high-stakes", reason="Audit.",
        actor=made.owner, now=later, **change,
    )  # fmt: skip
    write_card(model, content={"intended_use": "Something else."}, reason="New.", actor=made.scientist, now=later)
    set_retention(model, days=30, reason="Space.", actor=made.operator, now=later)
    place_hold(made["champion"], reason="A claim.", actor=audrey(), now=later)
    describe(made["endpoint"], title="Other title", description="x", reason="y", actor=made.owner, now=later)
    decide(made["endpoint"], kind="stop", registered_model=model, note="Storm.", actor=made.owner, now=later)
    configure(registered_model=model, settings={"window_days": 14}, actor=made.scientist, reason="Slower.", now=later)
    a_look(made["rollout"], "roll_back")
    made["rollout"].move("rolled_back", actor=ROBOT, reason="Worse.", ended_at=later)
    newest = a_version(made, "Newer trees.")
    registered(newest, made.scientist)
    settle()


def _incident_goes_on(made: World) -> None:
    incident: Incident = made["incident"]
    an_incident(made, title="Drift, seen again", detail="Worse now.", severity="high", evidence={"features": {}})
    incidents.acknowledge(incident, actor=made.scientist, reason="The carrier changed.", now=NOON + 40 * DAY)
    incidents.resolve(incident, actor=made.scientist, reason="It was a new timetable.", now=NOON + 41 * DAY)


def rename(user: User, name: str) -> None:
    before = user.username
    user.username = name
    user.save(update_fields=["username"])
    data = {"before": {"username": before}, "after": {"username": name}}
    record("user.changed", user, actor=ROBOT, data=data)
