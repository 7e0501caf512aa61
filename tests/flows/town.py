"""A small town with real data, training, gates, traffic and outcomes: whole journeys in event time.

Requests come from five shops; whether one turns out badly depends on its ``amount`` and on the shop's ``size``, until
the town changes its mind at ``changes_at``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings

from audit import clock
from audit.models import Event
from features import actions as features
from features.models import FeatureService
from gates import actions as gates
from jobs.drain import drain
from jobs.tick import tick
from mlops.demo.replay import REPLAY_SCHEDULES, Traffic
from monitoring.actions.monitors import configure
from registry import actions as registry
from registry.code import code_state
from registry.models import RegisteredModel, TrainingPipeline
from rollout import actions as rollout
from rollout import gateway, prediction_log
from rollout.models import Endpoint
from stats.interval import FloatArray
from tests.builders import alice, group, paula, person, pete, registered_model

OPENED = datetime(2013, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
STEP = timedelta(hours=6)
PER_DAY = 240
BEFORE, AFTER = 40, 75
CODE = Path(__file__).parent.parent / "registry"
JUNIT = '<testsuite tests="1"><testcase classname="code" name="test_it"/></testsuite>'
PLAN: dict[str, Any] = {
    "shadow": {"min_hours": 12, "min_rows": 150, "tolerated_loss_increase": 0.05, "kept_promise_tolerance": 0.1},
    "canary": {
        "steps": [{"share": 0.2, "min_hours": 12, "min_rows": 20}, {"share": 0.5, "min_hours": 24, "min_rows": 100}],
        "tolerated_loss_increase": 0.15,
        "tolerated_prediction_shift": 0.5,
        "tolerated_error_rate": 0.05,
    },
    "look_every_hours": 6,
}
WATCH: dict[str, Any] = {
    "window_days": 2,
    "minimum_rows": 150,
    "retrain_on": ["decay"],
    "cool_down_days": 6,  # then the newest training days know the changed town
    "candidates_per_month": 20,
    "auc_tolerance": 0.03,
    "widest_auc_interval": 0.3,
}

Chance = Callable[[FloatArray, FloatArray], FloatArray]


def steady(amount: FloatArray, size: FloatArray) -> FloatArray:
    """The relation of the first weeks."""
    return 1 / (1 + np.exp(-(1.2 * amount + 1.2 * (size - 2))))


def reversed_sizes(amount: FloatArray, size: FloatArray) -> FloatArray:
    """Large shops became the good ones."""
    return 1 / (1 + np.exp(-(1.2 * amount - 1.2 * (size - 2))))


def a_coin(amount: FloatArray, size: FloatArray) -> FloatArray:
    """Nothing that is known tells anything any more."""
    return np.full(len(amount), 0.5)


@dataclass
class Town:
    """The model, its endpoint, the traffic, and the moment."""

    registered_model: RegisteredModel
    endpoint: Endpoint
    pipeline: TrainingPipeline
    traffic: Traffic
    now: datetime = OPENED

    def live(self, until: Callable[[], bool], *, days: float) -> bool:
        """Live on step by step until something is so, at most ``days``; whether it came to be."""
        end = self.now + days * DAY
        while self.now < end:
            self.step()
            if until():
                return True
        return False

    def step(self) -> None:
        clock.set_to(self.now)
        arrived = self.traffic.arrived(self.now - STEP, self.now)
        if arrived.num_rows:
            prediction_log.append_outcomes(self.endpoint.name, arrived)
        tick(now=self.now, schedules=REPLAY_SCHEDULES)
        drain()
        asked = self.traffic.asked(self.now, self.now + STEP)
        if asked.num_rows:
            gateway.serve(self.endpoint.name, asked, now=self.now, refresh=True)
        self.now += STEP

    def train(self, why: str) -> None:
        """The data scientist asks for a version."""
        clock.set_to(self.now)
        registry.request_training(
            self.pipeline,
            window={"name": "expanding"},
            trigger="person",
            parameters=None,
            actor=alice(),
            reason=why,
            now=self.now,
        )
        drain()


def told(last: int = 80) -> str:
    """What happened last, a line per event that is more than routine: for the person who reads a failed test."""
    routine = ("window.judged", "materialization.done", "log.sealed")
    events = Event.objects.exclude(name__in=routine).order_by("-id").values_list("at", "name", "reason")[:last]
    return "\n" + "\n".join(f"{at:%m-%d %H:%M} {name}: {reason[:300]}" for at, name, reason in reversed(list(events)))


def build(*, changes_at: datetime, then: Chance, windows: Sequence[dict[str, Any]]) -> Town:
    """Everything set up by the people whose duty it is, on the day the doors open."""
    clock.set_to(OPENED)
    person("alice", "delay-science", is_staff=True)
    traffic = _write(changes_at, then)
    of = registered_model(tier="experimental")
    pipeline = registry.define_pipeline(
        registered_model=of,
        name="toy",
        entry_point="tests.registry.toy_training",
        code_path=str(CODE.relative_to(settings.BASE_DIR)),
        service=_service(),
        entity_frame="requests",
        outcomes="outcomes",
        label="late",
        parameters={},
        windows=list(windows),
        holdout_days=4,
        time_limit=timedelta(minutes=2),
        automatic=True,
        actor=alice(),
        now=OPENED,
    )
    checks = {"auc-floor": {"minimum_rows": 200}, "auc-vs-champion": {"minimum_rows": 200}, "fairness": None}
    chosen = gates.propose_policy(
        of, template="experimental", overrides={"checks": checks}, note="Small town.", actor=alice(), now=OPENED
    )
    gates.confirm_policy(chosen, reason="Good enough for a small town.", actor=paula(), now=OPENED)
    _submit_evidence(of)
    endpoint = rollout.create_endpoint(
        name="shop-warning",
        title="Shop warning",
        registered_model=of,
        entity_column="customer",
        outcome_window=timedelta(hours=6),
        plan=PLAN,
        fallback=0.0,
        actor=paula(),
        now=OPENED,
    )
    configure(registered_model=of, settings=WATCH, actor=alice(), reason="Two-day windows.", now=OPENED)
    return Town(of, endpoint, pipeline, traffic)


def _submit_evidence(of: RegisteredModel) -> None:
    digest = code_state(CODE).code_digest
    for kind, payload in (("lint", []), ("unit", JUNIT)):
        gates.submit_evidence(
            registered_model=of, kind=kind, code_digest=digest, payload=payload, actor=alice(), now=OPENED
        )


def _service() -> FeatureService:
    platform: dict[str, Any] = {"owner": group("delay-platform"), "actor": pete(), "now": OPENED}
    for name in ("requests", "outcomes"):
        features.define_source(
            name=name, uri=f"sources/{name}.parquet", event_timestamp="at", created_timestamp="arrived", **platform
        )
    shops = features.define_source(
        name="shops", uri="sources/shops.parquet", event_timestamp="at", created_timestamp="arrived", **platform
    )
    science: dict[str, Any] = {"actor": alice(), "now": OPENED}
    entity = features.define_entity(name="shop", join_keys=["shop"], **science)
    view = features.apply_view(
        name="shop_facts",
        entity=entity,
        expression="SELECT shop, size, at, arrived FROM shops",
        sources=[shops],
        features=["size"],
        event_timestamp="at",
        known_at="arrived",
        owner=group("delay-science"),
        **science,
    )
    features.publish(view, reason="Reviewed.", **science)
    return features.define_service(
        name="shop", features=["shop_facts.size"], request_features=["amount"], owner=group("delay-science"), **science
    )


def _write(changes_at: datetime, then: Chance) -> Traffic:
    """Sources on disk (what training reads) and the same requests as live traffic."""
    random = np.random.default_rng(11)
    n = (BEFORE + AFTER) * PER_DAY
    at = [OPENED - BEFORE * DAY + i * DAY / PER_DAY for i in range(n)]
    shop = random.integers(0, 5, n)
    amount, size = random.normal(size=n), shop.astype(np.float64)
    chance = np.where([moment < changes_at for moment in at], steady(amount, size), then(amount, size))
    late = (random.random(n) < chance).astype(int)
    ids = [f"r{i}" for i in range(n)]
    names = [f"s{each}" for each in shop]
    known = [moment + timedelta(hours=3) for moment in at]
    requests = {"request_id": ids, "shop": names, "amount": amount, "at": _times(at)}
    _save("requests", {**requests, "arrived": _times(at)})
    _save("outcomes", {"request_id": ids, "late": late, "at": _times(known), "arrived": _times(known)})
    began = _times([OPENED - 100 * DAY] * 5)
    sizes = [float(i) for i in range(5)]
    _save("shops", {"shop": [f"s{i}" for i in range(5)], "size": sizes, "at": began, "arrived": began})
    customers = [f"c{each}" for each in random.integers(0, 5000, n)]
    outcomes = {"request_id": ids, "label": late.astype(float), "arrived_at": _times(known), "predicted_at": _times(at)}
    return Traffic(pa.table({**requests, "customer": customers}), pa.table(outcomes))


def _save(name: str, columns: dict[str, Any]) -> None:
    folder = Path(settings.DATA_ROOT, "sources")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _times(moments: Sequence[datetime]) -> pa.Array:
    return pa.array(moments, pa.timestamp("us", "UTC"))
