"""What a product owner decides from a notebook and a terminal, and who else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit import clock
from gatehouse import Conflict, InvalidInput, NotFound, NotPermitted, cli
from gatehouse.cli.endpoints import moment
from rollout import actions
from tests.builders import NOON, alice, charlie, paula, pete, registered_model
from tests.mlops.calls import token
from tests.rollout import life
from tests.sdk import portal

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
AT = life.ENDPOINT


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command as Paula; the exit code."""

    def command(*words: str, user: User | None = None) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user or paula()))
        return cli.main(words, transport=portal.transport())

    return command


# ---------------------------------------------------------------------- the client


def test_client__an_endpoint__is_told_with_its_queue_and_what_was_decided() -> None:
    story = life.begin()
    story.candidate()
    waiting = life.proposed(life.a_version(story.registered_model))
    owner = portal.client(paula())
    owner.freeze(AT, starts_at=NOON + HOUR, ends_at=NOON + 9 * HOUR, note="Christmas.")
    owner.add_fallback(AT, "careful", score=0.9, note="Rather warn.")
    owner.decide(AT, "pause", note="We look into it.", takes_effect_at=NOON + 2 * HOUR)

    told = owner.endpoint(AT)
    assert (told.champion, told.candidate, told.stage, told.share, told.enabled) == (1, 2, "shadow", 0.0, True)
    assert [(each.version, each.state) for each in told.queue] == [(2, "shadow"), (waiting.version.number, "pending")]
    assert [(each.kind, each.is_waiting, each.decided_by) for each in told.decisions] == [("pause", True, "paula")]
    assert [(each.name, each.score) for each in told.fallbacks] == [("careful", 0.9)]
    assert told.freezes[0].note == "Christmas."
    assert told.waits_for == ""
    assert told.plan is not None
    assert told.plan["look_every_hours"] == 6
    with clock.at(NOON + 2 * HOUR):
        assert "freeze of delay-warning to end" in owner.endpoint(AT).waits_for
    assert [repr(each) for each in owner.endpoints(model="late-arrival")] == [
        "<Endpoint delay-warning: late-arrival v1 serves, v2 in shadow (0%)>"
    ]
    assert owner.endpoints(model="another") == []


def test_client__the_kill_switch__to_a_named_fallback_and_back() -> None:
    story = life.begin()
    owner = portal.client(paula())
    owner.add_fallback(AT, "before", version=story.champion.number, note="It was good.")
    decided = owner.decide(AT, "stop", note="Wrong alarms.", fallback="before")

    assert (decided.fallback, decided.is_waiting) == ("before", False)
    assert owner.endpoint(AT).line == "delay-warning: late-arrival stopped, before answers"
    with pytest.raises(Conflict, match="answers now"):
        owner.retire_fallback(AT, "before", reason="No.")
    owner.decide(AT, "resume", note="Mended.")
    assert owner.retire_fallback(AT, "before", reason="No.").retired_at is not None
    assert owner.fallbacks(AT, retired=False) == []
    assert [each.kind for each in owner.decisions(AT)] == ["resume", "stop"]


def test_client__a_decision_for_later__waits_is_withdrawn_or_carried_out() -> None:
    life.begin()
    owner = portal.client(paula())
    first, second = (
        owner.decide(AT, kind, note="At night.", takes_effect_at=NOON + HOUR) for kind in ("stop", "pause")
    )
    withdrawn = owner.withdraw_decision(AT, first.id, reason="Not needed.")
    assert withdrawn.outcome is not None
    assert (withdrawn.outcome.outcome, withdrawn.outcome.decided_by, withdrawn.is_waiting) == (
        "withdrawn",
        "paula",
        False,
    )
    assert [each.id for each in owner.decisions(AT, waiting=True)] == [second.id]
    actions.carry_out_due(now=NOON + HOUR)
    (done,) = [each for each in owner.decisions(AT, waiting=False) if each.id == second.id]
    assert done.outcome is not None
    assert done.outcome.outcome == "carried_out"
    with pytest.raises(Conflict):
        owner.withdraw_decision(AT, second.id, reason="Too late.")


def test_client__another_model_serves__is_named() -> None:
    life.begin()
    registered_model("late-departure")
    owner = portal.client(paula())
    assert owner.decide(AT, "serve", model="late-departure", note="A new product.").model == "late-departure"
    assert owner.endpoint(AT).model == "late-departure"


@pytest.mark.parametrize("who", [alice, pete])
def test_client__of_those_without_the_product_duty__may_look_and_nothing_else(who: Any) -> None:
    life.begin()
    fallback = portal.client(paula()).add_fallback(AT, "careful", score=0.9, note="Rather warn.")
    other = portal.client(who())
    assert other.endpoint(AT).fallbacks == (fallback,)
    for refused in (
        lambda: other.decide(AT, "stop", note="I want it."),
        lambda: other.add_fallback(AT, "mine", score=0.1, note="I want it."),
        lambda: other.retire_fallback(AT, "careful", reason="I want it."),
        lambda: other.freeze(AT, starts_at=NOON, ends_at=NOON + HOUR, note="I want it."),
    ):
        with pytest.raises(NotPermitted):
            refused()


def test_client__of_a_stranger__finds_nothing() -> None:
    life.begin()
    stranger = portal.client(charlie())
    assert stranger.endpoints() == []
    for asked in (stranger.endpoint, stranger.decisions, stranger.fallbacks, stranger.freezes):
        with pytest.raises(NotFound):
            asked(AT)
    with pytest.raises(NotFound):
        stranger.decide(AT, "stop", note="Mine.")


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [
        ("hold", {}, "kind"),
        ("stop", {"note": " "}, "note"),
        ("stop", {"fallback": "nothing"}, "fallback"),
        ("serve", {"model": "nothing"}, "model"),
        ("stop", {"takes_effect_at": NOON - HOUR}, "takes_effect_at"),
    ],
)
def test_client__a_decision_that_is_none__is_refused_by_field(kind: str, more: dict[str, Any], field: str) -> None:
    life.begin()
    with pytest.raises(InvalidInput) as refused:
        portal.client(paula()).decide(AT, kind, **{"note": "So.", **more})
    assert set(refused.value.errors) == {field}


def test_client__what_is_not_there__is_not_found() -> None:
    life.begin()
    owner = portal.client(paula())
    for asked in (
        lambda: owner.withdraw_decision(AT, 7, reason="x"),
        lambda: owner.lift_freeze(AT, 7, reason="x"),
        lambda: owner.retire_fallback(AT, "x", reason="x"),
        lambda: owner.endpoint("nothing"),
    ):
        with pytest.raises(NotFound):
            asked()
    with pytest.raises(InvalidInput):
        owner.add_fallback(AT, "x", version=9, note="x")


# ---------------------------------------------------------------------- the command


def test_command__a_product_owners_day(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    assert run("endpoint", "fallback", "add", AT, "careful", "--score", "0.9", "--note", "Rather warn.") == 0
    assert run("endpoint", "freeze", AT, "--from", "2013-04-02", "--until", "2013-04-05T08:00", "--note", "Sale.") == 0
    assert run("endpoint", "stop", AT, "--fallback", "careful", "--note", "Wrong.", "--at", "2013-04-01T18:00") == 0
    assert run("endpoint", "pause", AT, "--note", "Quiet.") == 0
    capsys.readouterr()
    assert run("endpoint", "show", AT) == 0
    shown = capsys.readouterr().out
    assert "late-arrival v1 serves, rollouts paused" in shown
    assert "candidates wait for the product owner to let rollouts go on at delay-warning" in shown
    assert "stop to careful for 2013-04-01 18:00, waits, by paula at 2013-04-01 12:00: Wrong." in shown
    assert "fallback careful: 0.9, Rather warn." in shown
    assert "from 2013-04-02 00:00 to 2013-04-05 08:00 UTC, Sale." in shown
    owner = portal.client(paula())
    (waiting,) = owner.decisions(AT, waiting=True)
    assert run("endpoint", "withdraw", AT, str(waiting.id), "--reason", "No.") == 0
    assert run("endpoint", "unfreeze", AT, str(owner.freezes(AT)[0].id), "--reason", "No.") == 0
    assert run("endpoint", "continue", AT, "--note", "Go on.") == 0
    assert run("endpoint", "fallback", "retire", AT, "careful", "--reason", "No.") == 0
    assert run("endpoint", "fallback", "list", AT) == 0
    capsys.readouterr()
    assert run("endpoint", "list") == 0
    assert capsys.readouterr().out == "delay-warning: late-arrival v1 serves\n"


def test_command__as_json__has_what_the_client_has(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    assert run("--json", "endpoint", "stop", AT, "--note", "Wrong.") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "stop"
    assert run("--json", "endpoint", "list") == 0
    assert [each["enabled"] for each in json.loads(capsys.readouterr().out)] == [False]


def test_command__by_somebody_else__is_refused(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    assert run("endpoint", "stop", AT, "--note", "Wrong.", user=alice()) == 2
    assert "Who may: Product" in capsys.readouterr().err


def test_moment__without_an_offset__is_utc() -> None:
    assert moment("2013-04-01T12:00") == NOON
    assert moment("2013-04-01T14:00+02:00") == NOON
