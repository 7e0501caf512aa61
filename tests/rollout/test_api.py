"""Standing, rollouts and the gateway over HTTP."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from audit import clock
from audit.models import Event
from rollout import prediction_log
from rollout.models import Rollout
from tests.builders import NOON, alice, audrey, charlie, paula, pete
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields
from tests.rollout import life

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


# ---------------------------------------------------------------------- standing


def test_standing__tells_stage_reason_gates_and_rollouts() -> None:
    world = building.build()
    answer = Caller(world.owner).get("models/delay-arrival/versions/3/standing/").json()

    assert (answer["stage"], answer["why"]) == ("canary", "No harm in shadow.")
    assert (answer["gates"]["state"], answer["gates"]["may_enter_rollout"]) == ("passed", True)
    assert [(row["endpoint"], row["state"], row["step"]) for row in answer["rollouts"]] == [
        ("delay-warning", "canary", 1)
    ]


def test_standing__asked_to_wait__answers_at_once_when_the_gates_have_ended() -> None:
    world = building.build()
    began = time.monotonic()

    assert Caller(world.owner).get("models/delay-arrival/versions/2/standing/", wait=30).json()["gates_ended"]
    assert time.monotonic() - began < 10


def test_standing__asked_to_wait_for_what_does_not_come__answers_in_time() -> None:
    world = building.build()
    building.a_version(world, "New.")
    began = time.monotonic()
    answer = Caller(world.owner).get("models/delay-arrival/versions/5/standing/", wait="0.7").json()

    assert (answer["stage"], answer["gates_ended"]) == ("unjudged", False)
    assert time.monotonic() - began > 0.6


@pytest.mark.parametrize("wait", ["31", "-1", "nan", "soon", "1e999"])
def test_standing__asked_to_wait_wrongly__is_refused(wait: str) -> None:
    world = building.build()

    assert refused_fields(Caller(world.owner).get("models/delay-arrival/versions/1/standing/", wait=wait), 400) == {
        "wait"
    }


# ---------------------------------------------------------------------- rollouts


def test_rollout__tells_its_newest_measurements() -> None:
    world = building.build()
    answer = Caller(world.operator).get(f"rollouts/{world['rollout'].pk}/").json()

    assert (answer["state"], answer["version"], answer["incumbent"]) == ("canary", 3, 1)
    assert answer["latest_look"]["number"] == 3
    assert answer["latest_look"]["measurements"][0]["harm"] == 1.7


def test_rollout__before_its_first_look__has_none() -> None:
    world = building.build()

    assert Caller(world.operator).get(f"rollouts/{world['promoted'].pk}/").json()["latest_look"] is None


def test_rollouts__of_a_model__by_state() -> None:
    world = building.build()
    found = Caller(world.operator).get("models/delay-arrival/rollouts/", state="rolled_back").json()["results"]

    assert [row["id"] for row in found] == [world["rolled_back"].pk]


def test_rollout__paused_resumed_and_aborted__each_with_its_reason_in_the_trail() -> None:
    story = life.begin()
    rollout = story.candidate()
    caller = Caller(pete())
    states = [
        caller.post(f"rollouts/{rollout.pk}/{verb}/", {"reason": f"To {verb}."}).json()["state"]
        for verb in ("pause", "resume", "abort")
    ]

    assert states == ["paused", "shadow", "aborted"]
    last = Event.objects.about(rollout).latest("id")
    assert (last.name, last.actor, last.reason) == ("rollout.aborted", pete(), "To abort.")
    assert problem(caller.post(f"rollouts/{rollout.pk}/pause/", {"reason": "Late."}))[0] == 409


def test_rollout__decided_without_reason_or_duty__is_refused() -> None:
    world = building.build()
    path = f"rollouts/{world['rollout'].pk}/abort/"

    assert refused_fields(Caller(world.operator).post(path, {})) == {"reason"}
    assert refused_fields(Caller(world.operator).post(path, {"reason": " "})) == {"reason"}
    assert problem(Caller(world.owner).post(path, {"reason": "I say so."}))[0] == 403
    assert Rollout.objects.get(pk=world["rollout"].pk).state == "canary"


# ---------------------------------------------------------------------- the gateway

ROWS: list[dict[str, Any]] = [
    {"request_id": "a", "tailnum": "N001", "x1": 3.0, "x2": 1},
    {"request_id": "b", "tailnum": None, "x1": -3.0, "at": "2013-04-01T11:30:00Z"},
    {"request_id": "c", "x1": None},
]


def test_predict__answers_in_order_and_logs_every_row() -> None:
    life.begin()
    with clock.at(NOON):
        answer = Caller(pete()).post("endpoints/delay-warning/predict/", {"rows": ROWS}).json()["rows"]

    assert [row["request_id"] for row in answer] == ["a", "b", "c"]
    assert [row["decision"] for row in answer[:2]] == [True, False]
    assert (answer[0]["answered_by"], answer[0]["version"], answer[0]["status"]) == ("champion", 1, "ok")
    assert (answer[2]["answered_by"], answer[2]["score"], answer[2]["status"]) == ("fallback", 0.2, "error")
    assert [row["at"] for row in answer[:2]] == ["2013-04-01T12:00:00Z", "2013-04-01T11:30:00Z"]
    log = prediction_log.read("delay-warning", since=NOON - DAY, until=NOON + DAY)
    assert sorted(log["request_id"].to_pylist()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ([], "rows"),
        ([{"x1": 1.0}], "request_id"),
        ([{"request_id": "a"}], "x1"),
        ([{"request_id": "a", "x1": 1.0}, {"request_id": "b", "x1": "one"}], "rows.x1"),
        ([{"request_id": "a", "x1": [1.0]}], "rows.x1"),
        ([{"request_id": "a", "x1": 1.0, "at": "noon"}], "rows.at"),
        ([{"request_id": "a", "x1": 1.0, "at": "2013-04-02T12:00:00Z"}], "rows.at"),
        ([{"request_id": "a", "x1": 1.0, "note": "\0"}], "rows.0.note"),
    ],
)
def test_predict__asked_wrongly__is_refused_by_field(rows: Any, field: str) -> None:
    life.begin()
    with clock.at(NOON):
        response = Caller(pete()).post("endpoints/delay-warning/predict/", {"rows": rows})

    assert refused_fields(response) == {field}


def test_predict__is_for_those_with_a_duty() -> None:
    life.begin()
    body = {"rows": [{"request_id": "a", "x1": 1.0}]}

    codes = [problem(Caller(user).post("endpoints/delay-warning/predict/", body))[0] for user in (charlie(), audrey())]
    assert codes == [404, 403]


def test_outcomes__are_known_from_now_on() -> None:
    life.begin()
    rows = [{"request_id": "a", "label": 1, "predicted_at": "2013-04-01T11:00:00Z"}]
    with clock.at(NOON):
        answer = Caller(paula()).post("endpoints/delay-warning/outcomes/", {"rows": rows}).json()

    assert (answer["stored"], answer["arrived_at"]) == (1, "2013-04-01T12:00:00Z")
    period: dict[str, Any] = {"since": NOON - DAY, "until": NOON + DAY}
    before = prediction_log.read_outcomes("delay-warning", **period, as_of=NOON - timedelta(seconds=1))
    after = prediction_log.read_outcomes("delay-warning", **period, as_of=NOON)
    assert (len(before), after["label"].to_pylist()) == (0, [1.0])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": 0.5}, "rows.0.label"),
        ({"label": "late"}, "rows.0.label"),
        ({"predicted_at": "2013-04-02T00:00:00Z"}, "rows.0.predicted_at"),
        ({"arrived_at": "2013-04-01T00:00:00Z"}, "rows.0.arrived_at"),
    ],
)
def test_outcomes__with_something_wrong__name_row_and_field(change: dict[str, Any], field: str) -> None:
    life.begin()
    row = {"request_id": "a", "label": 1, "predicted_at": "2013-04-01T11:00:00Z", **change}
    with clock.at(NOON):
        assert refused_fields(Caller(alice()).post("endpoints/delay-warning/outcomes/", {"rows": [row]})) == {field}
