"""Looks at a canary: from the log, however often, with or without what the process remembers of earlier ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rollout import actions, business, looks, prediction_log, watched
from rollout.judge import Look
from rollout.models import Better, BusinessMetric, MeasuredPer, Missing, Rollout
from rollout.prediction_log import PREDICTION
from tests.builders import NOON, ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
ENTITIES = 400


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    watched.forget()
    yield
    watched.forget()


@pytest.fixture
def canary() -> Rollout:
    """A candidate at its first step (10 %), since noon."""
    story = life.begin()
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Its turn.", now=NOON)
    rollout.refresh_from_db()
    return rollout


def serve(rollout: Rollout, *, at: datetime, n: int = 600, seed: int = 0, **changes: Any) -> pa.Table:
    """``n`` requests within the hour from ``at`` on, logged as the gateway does; ``changes`` are columns."""
    random = np.random.default_rng(seed)
    number = random.integers(0, ENTITIES, n)
    arm = np.where(np.random.default_rng(1).random(ENTITIES) < 0.1, "canary", "champion")[number]
    columns: dict[str, Any] = {
        "request_id": [f"{at:%d%H}-{seed}-{row}" for row in range(n)],
        "at": [at + HOUR * row / n for row in range(n)],
        "endpoint": [life.ENDPOINT] * n,
        "entity": [f"N{each}" for each in number],
        "bucket": [0.5] * n,
        "sticky": [True] * n,
        "stage": ["canary"] * n,
        "step": [1] * n,
        "share": [0.1] * n,
        "salt": [rollout.salt] * n,
        "arm": arm.tolist(),
        "version_id": [rollout.version_id] * n,
        "answered_by": arm.tolist(),
        "score": random.beta(2, 6, n).tolist(),
        "status": ["ok"] * n,
        "error": [None] * n,
        "latency_ms": random.lognormal(2, 0.3, n).tolist(),
        "warm": [True] * n,
        "shadow": [False] * n,
        "candidate_id": [rollout.version_id] * n,
        "source": ["gateway"] * n,
        **changes,
    }
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in PREDICTION})
    prediction_log.append(life.ENDPOINT, table)
    return table


def know(asked: pa.Table, *, seed: int = 0, arrived: timedelta = HOUR, flipped: bool = False) -> None:
    label = (np.random.default_rng(seed).random(len(asked)) < 0.25).astype(float)
    outcomes = {
        "request_id": asked["request_id"],
        "label": 1 - label if flipped else label,
        "arrived_at": pa.array([at + arrived for at in asked["at"].to_pylist()], pa.timestamp("us", tz="UTC")),
        "predicted_at": asked["at"],
    }
    prediction_log.append_outcomes(life.ENDPOINT, pa.table(outcomes))


def same(found: Look, expected: Look) -> bool:
    """The same numbers (to rounding), verdicts and conclusion."""
    assert (found.conclusion.kind, found.detail) == (expected.conclusion.kind, expected.detail)
    for one, other in zip(found.measured, expected.measured, strict=True):
        for field in dataclasses.fields(one):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            is_number = isinstance(theirs, float) and not isinstance(theirs, bool)
            assert mine == (pytest.approx(theirs, rel=1e-9, abs=1e-9) if is_number else theirs), (
                one.metric,
                field.name,
            )
    return True


def forgetting(rollout: Rollout, now: datetime) -> Look:
    watched.forget()
    return looks.take(rollout, now=now)


def by_name(look: Look) -> dict[str, Any]:
    return {each.metric: each for each in look.measured}


def test_look__after_earlier_ones__says_what_a_worker_says_that_counts_from_the_log(canary: Rollout) -> None:
    for hour in range(5):
        know(serve(canary, at=NOON + hour * HOUR, seed=hour), seed=hour)
        remembering = looks.take(canary, now=NOON + (hour + 1) * HOUR)
    assert same(remembering, forgetting(canary, NOON + 5 * HOUR))
    assert by_name(remembering)["loss"].n > 0


def test_look__twice_at_the_same_time_or_again_at_an_earlier_one__says_the_same(canary: Rollout) -> None:
    know(serve(canary, at=NOON))
    early = looks.take(canary, now=NOON + HOUR)
    assert same(looks.take(canary, now=NOON + HOUR), early)
    know(serve(canary, at=NOON + HOUR, seed=1))
    looks.take(canary, now=NOON + 9 * HOUR)
    assert same(looks.take(canary, now=NOON + HOUR), early)


def test_look__rows_that_reach_the_log_late__count_where_they_belong(canary: Rollout) -> None:
    serve(canary, at=NOON + HOUR, seed=1)
    looks.take(canary, now=NOON + 2 * HOUR)
    serve(canary, at=NOON, seed=2)
    found = looks.take(canary, now=NOON + 2 * HOUR)
    assert found.candidate_rows + found.incumbent_rows > 1100
    assert same(found, forgetting(canary, NOON + 2 * HOUR))


def test_look__an_outcome_that_is_corrected__counts_as_corrected(canary: Rollout) -> None:
    asked = serve(canary, at=NOON)
    know(asked)
    before = looks.take(canary, now=NOON + 5 * HOUR)
    know(asked, flipped=True, arrived=2 * HOUR)
    after = looks.take(canary, now=NOON + 6 * HOUR)
    assert same(after, forgetting(canary, NOON + 6 * HOUR))
    assert by_name(after)["loss"].value != by_name(before)["loss"].value


def test_look__an_outcome_whose_window_is_open__does_not_count_however_early_it_arrived(canary: Rollout) -> None:
    know(serve(canary, at=NOON), arrived=timedelta(minutes=1))
    assert by_name(looks.take(canary, now=NOON + HOUR))["loss"].n == 0
    assert by_name(looks.take(canary, now=NOON + 5 * HOUR))["loss"].n > 0


def test_look__a_business_metric__is_read_once_its_window_has_closed(canary: Rollout) -> None:
    metric = BusinessMetric.objects.create(
        endpoint=canary.endpoint,
        name="bookings",
        title="Bookings",
        per=MeasuredPer.ENTITY,
        better=Better.HIGHER,
        window=timedelta(hours=3),
        missing=Missing.ZERO,
        harm_from=0.0,
        tolerated_harm=0.5,
        created_at=NOON - HOUR,
    )
    asked = serve(canary, at=NOON, n=2000)
    time = pa.timestamp("us", tz="UTC")
    happened = [at + timedelta(minutes=10) for at in asked["at"].to_pylist()]
    lucky = np.random.default_rng(3).random(len(asked)) < np.where(asked["arm"].to_numpy() == "canary", 0.0, 0.9)
    reports = {
        "report": asked["request_id"],
        "entity": asked["entity"],
        "request_id": pa.nulls(len(asked), pa.string()),
        "value": pa.array(np.ones(len(asked))),
        "at": pa.array(happened, time),
        "arrived_at": pa.array(happened, time),
    }
    business.append(life.ENDPOINT, metric.name, pa.table(reports).filter(pa.array(lucky)))
    assert by_name(looks.take(canary, now=NOON + 2 * HOUR))["bookings"].n == 0
    found = looks.take(canary, now=NOON + 5 * HOUR)
    assert by_name(found)["bookings"].verdict == "failed"
    assert found.conclusion.kind == "roll_back"
    assert "Bookings on " in found.conclusion.summary
    assert same(found, forgetting(canary, NOON + 5 * HOUR))


def test_look__requests_that_name_nobody_or_met_a_cold_version__are_left_out_where_they_must_be(
    canary: Rollout,
) -> None:
    serve(canary, at=NOON, sticky=[False] * 600, warm=[False] * 600)
    found = by_name(looks.take(canary, now=NOON + HOUR))
    assert (found["predictions"].n, found["distribution"].n, found["latency"].n) == (0, 0, 0)
    assert found["errors"].n > 0


def test_look__rows_from_before_the_log_told_who_was_warm__count(canary: Rollout) -> None:
    serve(canary, at=NOON, sticky=[None] * 600, warm=[None] * 600)
    found = by_name(looks.take(canary, now=NOON + HOUR))
    assert found["predictions"].n == found["latency"].n > 0


def test_look__answers_of_other_rollouts_and_of_the_kill_switch__are_not_judged(canary: Rollout) -> None:
    serve(canary, at=NOON, salt=["another"] * 600)
    serve(canary, at=NOON, seed=1, arm=["fallback"] * 600)
    serve(canary, at=NOON, seed=2, stage=["shadow"] * 600)
    assert looks.take(canary, now=NOON + HOUR).candidate_rows == 0


def test_look__the_last_seconds__are_left_to_the_next_one(canary: Rollout) -> None:
    serve(canary, at=NOON, n=10)
    last = NOON + HOUR * 9 / 10
    assert sum_of(looks.take(canary, now=last + timedelta(seconds=1))) == 9
    assert sum_of(looks.take(canary, now=last + timedelta(seconds=3))) == 10


def sum_of(look: Look) -> int:
    return look.candidate_rows + look.incumbent_rows


def test_look__every_few_seconds__is_due_when_the_plan_says_so(canary: Rollout) -> None:
    Rollout.objects.filter(pk=canary.pk).update(plan={**canary.plan, "look_every_seconds": 5})
    canary.refresh_from_db()
    assert not looks.is_due(canary, now=NOON + timedelta(seconds=4))
    assert looks.is_due(canary, now=NOON + timedelta(seconds=5))


def test_watched__more_canaries_than_are_remembered__forgets_the_longest_unseen(canary: Rollout) -> None:
    serve(canary, at=NOON)
    first = looks.take(canary, now=NOON + HOUR)
    for number in range(watched.REMEMBERED + 1):
        Rollout.objects.filter(pk=canary.pk).update(
            plan={**canary.plan, "timed_rows": 2, "look_every_hours": 1 + number}
        )
        other = Rollout.objects.get(pk=canary.pk)
        other.salt = f"another-{number}"
        looks.take(other, now=NOON + HOUR)
    assert same(looks.take(canary, now=NOON + HOUR), first)
