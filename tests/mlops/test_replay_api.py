"""A prediction and its replay over HTTP and in the portal: odd ids, strangers, markup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit import clock
from audit.models import Event
from rollout import prediction_log, scorers
from tests.builders import NOON, alice, charlie
from tests.mlops import shop as building
from tests.mlops.calls import Caller, problem
from tests.mlops.shop import ENDPOINT, HOUR, TIME, Shop

pytestmark = pytest.mark.django_db
ODD = ["a/b", "a b", "x?y#z", "100%", "a\nb", "é☃", "<script>alert(1)</script>", "' OR 1=1 --", "r/replay", "../../etc"]


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scorers.close_all()


@pytest.fixture
def place() -> Iterator[Shop]:
    with clock.at(NOON + timedelta(days=2)):
        yield building.build()


def address(request_id: str, verb: str = "") -> str:
    return f"endpoints/{ENDPOINT}/predictions/{quote(request_id, safe='')}/{verb}"


def outcome(request_id: str, label: float, *, at: Any) -> None:
    columns = {"request_id": [request_id], "label": [label]}
    times = {"arrived_at": pa.array([at + HOUR], TIME), "predicted_at": pa.array([at], TIME)}
    prediction_log.append_outcomes(ENDPOINT, pa.table({**columns, **times}))


# ---------------------------------------------------------------------- the API


def test_prediction__is_told_with_inputs_version_and_outcome(place: Shop) -> None:
    score = place.asks("r1")
    outcome("r1", 1.0, at=NOON + HOUR)
    response = Caller(alice()).get(address("r1"))
    told = response.json()
    assert response.status_code == 200
    assert (told["score"], told["version"], told["model"], told["arm"]) == (score, 1, "late-arrival", "champion")
    assert told["inputs"] == {"amount": 0.5, "shop_facts__size": 3.0}
    assert told["outcome"]["label"] == 1.0
    assert told["lineage"] == "prediction:delay-warning/r1"


def test_prediction__by_its_day__is_found_there_only(place: Shop) -> None:
    place.asks("r1")
    caller = Caller(alice())
    assert caller.get(address("r1"), at="2013-04-01T00:00:00Z").status_code == 200
    assert problem(caller.get(address("r1"), at="2013-04-02T00:00:00Z"))[0] == 404
    assert problem(caller.get(address("r1"), at="soon"))[0] == 400
    assert problem(caller.get(address("r1"), when="now"))[0] == 400


@pytest.mark.parametrize("request_id", ODD)
def test_prediction__odd_id__is_found_and_replayed(place: Shop, request_id: str) -> None:
    place.asks(request_id)
    caller = Caller(alice())
    assert caller.get(address(request_id)).json()["request_id"] == request_id
    told = caller.post(address(request_id, "replay/"), None).json()
    assert (told["request_id"], told["cause"]) == (request_id, "reproduced")


def test_replay__tampered_store__is_told_in_numbers(place: Shop) -> None:
    place.tamper("s3", 33.0)
    score = place.asks("r1")
    caller = Caller(alice(), "read")
    before = Event.objects.count()
    told = caller.post(address("r1", "replay/"), None).json()
    assert (told["cause"], told["causes"], told["served"]) == ("feature_skew", ["feature_skew"], score)
    (skew,) = told["features"]
    assert (skew["feature"], skew["served"], skew["recomputed"], skew["difference"]) == (
        "shop_facts__size", 33.0, 3.0, 30.0,
    )  # fmt: skip
    assert told["recomputed"] != told["replayed"] == score
    assert Event.objects.count() == before


def test_addresses__strangers_and_unknown_ids__are_not_there(place: Shop) -> None:
    place.asks("r1")
    for user, request_id in ((charlie(), "r1"), (alice(), "r404")):
        caller = Caller(user)
        assert problem(caller.get(address(request_id)))[0] == 404
        assert problem(caller.post(address(request_id, "replay/"), None))[0] == 404
    assert problem(Caller().get(address("r1")))[0] == 401
    assert problem(Caller(alice()).get("endpoints/no-such/predictions/r1/"))[0] == 404


def test_prediction__number_that_is_none__is_null(place: Shop) -> None:
    place.asks("r1", amount=float("nan"))
    told = Caller(alice()).get(address("r1")).json()
    assert (told["inputs"]["amount"], told["answered_by"], told["version"]) == (None, "fallback", None)
    assert told["asked_version"] == 1


# ---------------------------------------------------------------------- the portal


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(request_id: str = "", *, user: User | None = None, verb: str = "prediction", **given: str) -> str:
    client = browser(user or alice())
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in {"request_id": request_id, **given}.items())
    url = f"{reverse(f'portal:{verb}')}?endpoint={ENDPOINT}&{query}"
    response = client.get(url) if verb == "prediction" else client.post(url)
    assert response.status_code == 200
    return response.content.decode()


def test_page__without_an_id__asks_for_one(place: Shop) -> None:
    assert "write the request id" in page()
    assert ENDPOINT in page()
    assert ENDPOINT not in browser(charlie()).get(reverse("portal:prediction")).content.decode()


def test_page__of_a_prediction__shows_it_and_offers_the_replay(place: Shop) -> None:
    score = place.asks("r1")
    shown = page("r1", day="2013-04-01")
    assert str(score) in shown
    assert "late-arrival v1" in shown
    assert "prediction%3Adelay-warning%2Fr1" in shown, "the link to its lineage"
    assert "Replay: was it the code" in shown


def test_page__replayed__has_the_verdict_and_both_values(place: Shop) -> None:
    place.tamper("s3", 33.0)
    place.asks("r1")
    shown = unescape(page("r1", verb="prediction-replay"))
    assert "feature skew" in shown
    assert "was served as 33 and was 3 as known then (30 too much)" in shown
    assert "differs" in shown
    assert "came with the request" in shown


@pytest.mark.parametrize("request_id", ODD)
def test_page__odd_id__is_escaped_and_found(place: Shop, request_id: str) -> None:
    place.asks(request_id)
    for verb in ("prediction", "prediction-replay"):
        shown = page(request_id, verb=verb)
        assert "<script>" not in shown
        assert "Replay" in shown


def test_page__stranger_or_unknown__is_told_nothing(place: Shop) -> None:
    place.asks("r1")
    assert "not yours to see" in page("r1", user=charlie())
    assert "logged no prediction" in unescape(page("r404"))
    assert "logged no prediction" in unescape(page("r404", verb="prediction-replay"))


def test_model_page__leads_there(place: Shop) -> None:
    shown = browser(alice()).get(reverse("portal:model", args=["late-arrival"])).content.decode()
    assert f"{reverse('portal:prediction')}?endpoint={ENDPOINT}" in shown


def test_page__fallback__says_that_no_version_answered(place: Shop) -> None:
    place.asks("r1", shop="s9")
    assert "no version: the endpoint's fallback" in unescape(page("r1"))
    assert "What failed" in page("r1")
