"""Business metrics: who defines them, what the database keeps of them, and which one judges a canary."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from audit.errors import AlreadyExists, Conflict, InvalidInput, NotPermitted
from audit.models import Event
from rollout import actions, business
from rollout.models import BusinessMetric, Rollout
from tests.builders import NOON, alice, audrey, charlie, paula, pete
from tests.mlops.calls import Caller, problem, refused_fields
from tests.rollout import life

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
SPENT: dict[str, Any] = {
    "name": "spent", "title": "Money spent", "unit": "EUR", "per": "entity", "better": "higher",
    "missing": "zero", "harm_from": 0.5, "tolerated_harm": 1.0,
}  # fmt: skip
PATH = "endpoints/delay-warning/business-metrics/"


def defined(story: life.Life, *, now: Any = NOON, **fields: Any) -> BusinessMetric:
    values = {**SPENT, "window": 2 * HOUR, "actor": paula(), "now": now, **fields}
    return actions.define_business_metric(story.endpoint, **values)


def test_metric__defined__is_told_in_one_event() -> None:
    story = life.begin()
    before = Event.objects.count()
    metric = defined(story, reason="What the shop lives on.")

    assert Event.objects.count() == before + 1
    event = Event.objects.latest("id")
    assert (event.name, event.actor, event.registered_model) == ("business_metric.defined", paula(), "late-arrival")
    assert event.reason == "What the shop lives on."
    assert event.data["definition"]["window"] == 7200.0
    assert (event.data["definition"]["per"], event.data["replaces"]) == ("entity", None)
    assert (metric.guards, metric.is_heavy_tailed, metric.retired_at) == (True, False, None)


def test_metric__defined_anew__retires_the_one_before_in_the_same_event() -> None:
    story = life.begin()
    first = defined(story)
    second = defined(story, now=NOON + HOUR, tolerated_harm=2.0)
    first.refresh_from_db()

    assert (first.retired_at, second.retired_at) == (NOON + HOUR, None)
    event = Event.objects.latest("id")
    assert (event.name, event.data["replaces"]["tolerated_harm"]) == ("business_metric.defined", 1.0)
    with pytest.raises(AlreadyExists):
        defined(story, now=NOON + 2 * HOUR, tolerated_harm=2.0)


def test_metric__retired__once_and_with_a_reason() -> None:
    metric = defined(life.begin())
    with pytest.raises(InvalidInput, match="Say why"):
        actions.retire_business_metric(metric, reason=" ", actor=paula(), now=NOON)
    actions.retire_business_metric(metric, reason="Nobody reports it.", actor=paula(), now=NOON)
    assert Event.objects.latest("id").name == "business_metric.retired"
    with pytest.raises(Conflict, match="retired already"):
        actions.retire_business_metric(metric, reason="Twice.", actor=paula(), now=NOON)


@pytest.mark.parametrize("person", [alice, pete, charlie, audrey])
def test_metric__by_others_than_the_product__is_refused(person: Any) -> None:
    story = life.begin()
    metric = defined(story)
    with pytest.raises(NotPermitted):
        defined(story, actor=person(), name="other")
    with pytest.raises(NotPermitted):
        actions.retire_business_metric(metric, reason="No.", actor=person(), now=NOON)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Money Spent"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "errors"}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"title": ""}, "title"),
        ({"per": "day"}, "per"),
        ({"better": "lots"}, "better"),
        ({"missing": "one"}, "missing"),
        ({"window": timedelta(0)}, "window"),
        ({"window": timedelta(days=401)}, "window"),
        ({"tolerated_harm": 0.0}, "tolerated_harm"),
        ({"tolerated_harm": 0.4}, "tolerated_harm"),
        ({"tolerated_harm": float("nan")}, "tolerated_harm"),
        ({"harm_from": -1.0}, "harm_from"),
        ({"harm_from": float("inf")}, "harm_from"),
    ],
)
def test_metric__wrong_in_one_field__names_it(change: dict[str, Any], field: str) -> None:
    story = life.begin()
    with pytest.raises(InvalidInput) as refused:
        defined(story, **change)
    assert set(refused.value.errors) == {field}


def test_database__keeps_a_definition_as_it_was() -> None:
    metric = defined(life.begin())
    mine = BusinessMetric.objects.filter(pk=metric.pk)
    for change in ({"tolerated_harm": 9.0}, {"window": 9 * HOUR}, {"guards": False}):
        with pytest.raises(IntegrityError, match="can not be changed"), transaction.atomic():
            mine.update(**change)
    with pytest.raises(IntegrityError, match="can not be deleted"), transaction.atomic():
        mine.delete()
    actions.retire_business_metric(metric, reason="Over.", actor=paula(), now=NOON)
    with pytest.raises(IntegrityError, match="stays retired"), transaction.atomic():
        mine.update(retired_at=None)


def test_canary__is_judged_by_the_metrics_that_were_in_force_when_it_began() -> None:
    story = life.begin()
    old, gone, later = (defined(story, name=name) for name in ("old", "gone", "later"))
    actions.retire_business_metric(gone, reason="Over.", actor=paula(), now=NOON + HOUR)
    rollout = story.candidate()
    assert not business.metrics_of(rollout)
    Rollout.objects.filter(pk=rollout.pk).update(canary_since=NOON + 2 * HOUR)
    rollout.refresh_from_db()
    actions.retire_business_metric(later, reason="It looks bad.", actor=paula(), now=NOON + 3 * HOUR)
    defined(story, name="old", tolerated_harm=99.0, now=NOON + 3 * HOUR)

    assert {(each.name, each.tolerated_harm) for each in business.metrics_of(rollout)} == {("old", 1.0), ("later", 1.0)}
    assert old in business.metrics_of(rollout)


# ---------------------------------------------------------------------- over HTTP


def test_api__defines_lists_and_retires() -> None:
    life.begin()
    caller = Caller(paula())
    answer = caller.post(PATH, {**SPENT, "window_seconds": 7200})
    assert answer.status_code == 201, answer.json()
    assert (answer.json()["endpoint"], answer.json()["window_seconds"]) == ("delay-warning", 7200.0)
    caller.post(PATH, {**SPENT, "name": "rated", "window_seconds": 60})

    retired = caller.post(f"{PATH}rated/retire/", {"reason": "Nobody rates."})
    assert retired.json()["retired_at"] is not None
    assert problem(caller.post(f"{PATH}rated/retire/", {"reason": "Twice."}))[0] == 404
    names = {
        which: [row["name"] for row in Caller(pete()).get(PATH, **query).json()["results"]]
        for which, query in (("all", {}), ("now", {"retired": "false"}), ("past", {"retired": "true"}))
    }
    assert names == {"all": ["rated", "spent"], "now": ["spent"], "past": ["rated"]}


def test_api__refuses_by_field_and_by_duty() -> None:
    life.begin()
    body = {**SPENT, "window_seconds": 7200}
    caller = Caller(paula())
    assert refused_fields(caller.post(PATH, {**body, "tolerated_harm": 0.1})) == {"tolerated_harm"}
    assert refused_fields(caller.post(PATH, {**body, "window_seconds": 0, "colour": "red"})) == {"colour"}
    assert refused_fields(caller.post(PATH, {**body, "window_seconds": 0})) == {"window_seconds"}
    assert problem(Caller(pete()).post(PATH, body))[0] == 403
    assert problem(Caller(charlie()).get(PATH))[0] == 404
    assert problem(Caller(paula(), "read", "serve").post(PATH, body))[0] == 403
