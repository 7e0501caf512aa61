"""A small town with real definitions: sources, views, services, models that serve, and a dataset."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from audit import clock
from features.models import Dataset, FeatureService
from registry.models import ModelVersion, RegisteredModel, Tier
from rollout import actions as rollouts
from rollout.models import Endpoint, Rollout
from tests import builders
from tests.builders import NOON, ROBOT, group
from tests.features import store
from tests.mlops.lineage_walk import a_policy, passed

HOUR = timedelta(hours=1)
JOINED = """
    SELECT r.origin, r.carrier, r.happened, r.arrived, r.temp AS heat, s.seats * 2 AS room
    FROM readings r JOIN stations s ON s.origin = r.origin AND s.carrier = r.carrier
    WHERE r.wet
"""


def views() -> None:
    """``weather`` reads all of readings, ``crowd`` joins stations to it."""
    readings, stations = store.source([store.reading()]), store.source([store.reading()], name="stations")
    store.published(readings)
    store.published(
        readings, name="crowd", sources=[readings, stations], expression=JOINED, features=["heat", "room"]
    )  # fmt: skip


def service(*names: str, name: str = "delay", **changes: Any) -> FeatureService:
    return store.service(*names, name=name, **changes)


def model(name: str = "late-arrival", owner: str = "delay-science") -> RegisteredModel:
    return builders.registered_model(name, data_science=group(owner), tier=Tier.EXPERIMENTAL)


def strange_model() -> RegisteredModel:
    """A model that none of Alice's groups owns."""
    strangers = {"data_science": group("strangers"), "platform": group("strangers"), "product": group("their-product")}
    return builders.registered_model("secret", tier=Tier.EXPERIMENTAL, **strangers)


def dataset(of: FeatureService, letter: str = "d") -> Dataset:
    return Dataset.objects.create(
        service=of,
        purpose="training",
        uri=f"datasets/{letter}.parquet",
        digest=letter * 64,
        label="late",
        timestamp="at",
        rows=8_000,
        time_from=NOON - 56 * timedelta(days=1),
        time_to=NOON,
        as_of=NOON,
        engine="test",
        created_at=NOON,
    )


def served(version: ModelVersion, endpoint: str = "") -> Rollout:
    """The version is promoted at an endpoint of its own, an hour after noon."""
    name = endpoint or f"{version.registered_model.name}-point"
    with clock.at(NOON + HOUR):
        if not version.registered_model.policies.exists():
            a_policy(version.registered_model)
        if not Endpoint.objects.filter(name=name).exists():
            _open(name, version.registered_model)
        gate_run = passed(version)
        proposed = rollouts.propose(version, gate_run=gate_run, actor=ROBOT, reason="It passed.", now=clock.now())
        rollouts.start(proposed[0], actor=ROBOT, reason="Its turn.", now=clock.now())
    return proposed[0]


def _open(name: str, registered_model: RegisteredModel) -> None:
    rollouts.create_endpoint(
        name=name,
        title=name,
        registered_model=registered_model,
        entity_column="tailnum",
        outcome_window=2 * HOUR,
        fallback=0.2,
        actor=ROBOT,
        now=clock.now(),
    )
