"""The event log over HTTP, and the command that issues a token."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from audit.models import Event
from tests.builders import alice, audrey
from tests.mlops import world as building
from tests.mlops.calls import Caller, refused_fields

pytestmark = pytest.mark.django_db


def test_events__by_name_and_model__newest_first_with_their_cause() -> None:
    world = building.build()
    building.build("search")
    found = Caller(audrey()).get("events/", name="rollout.canary", model="delay-arrival").json()["results"]

    assert [row["subject_id"] for row in found] == [str(world["rollout"].pk), str(world["rolled_back"].pk)]
    assert found[0]["cause"] == Event.objects.get(pk=found[0]["id"]).cause_id
    assert (found[0]["service"], found[0]["actor"]) == ("test", None)


def test_events__since__is_event_time() -> None:
    world = building.build()
    caller = Caller(world.scientist)
    last = Event.objects.filter(registered_model="delay-arrival").latest("at")
    since = last.at.isoformat()

    found = caller.get("events/", since=since).json()["results"]

    assert found
    assert all(row["at"] >= since[:19] for row in found)
    assert caller.get("events/", until="2000-01-01T00:00:00Z").json()["results"] == []
    assert refused_fields(caller.get("events/", since="yesterday"), 400) == {"since"}


def test_event__tells_what_followed_from_it() -> None:
    world = building.build()
    caused = Event.objects.filter(registered_model="delay-arrival", cause__registered_model="delay-arrival").last()
    assert caused is not None

    answer = Caller(world.scientist).get(f"events/{caused.cause_id}/").json()

    assert caused.pk in answer["effects"]


# ---------------------------------------------------------------------- tokens


def test_token__from_the_command__opens_the_api_and_leaves_an_event() -> None:
    alice()
    out = StringIO()
    call_command("token", "alice", "--scope", "read", "--days", "1", "--name", "CI", stdout=out)
    text = out.getvalue().strip()

    assert text.startswith("gh_")
    assert Client(headers={"Authorization": f"Bearer {text}"}).get("/api/v1/models/").status_code == 200
    event = Event.objects.get(name="token.issued")
    assert text not in str(event.data)
    assert (event.data["scopes"], event.data["name"]) == (["read"], "CI")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody", ["--scope", "read"]),
        ("alice", ["--scope", "read", "--days", "0"]),
        ("alice", ["--scope", "read", "--days", "367"]),
        ("alice", []),
        ("alice", ["--scope", "everything"]),
    ],
    ids=["nobody", "no time", "for ever", "no scope", "no such scope"],
)
def test_token__for_nobody_or_for_ever_or_for_nothing__is_refused(user: str, words: list[str]) -> None:
    alice()

    with pytest.raises(CommandError):
        call_command("token", user, *words)
