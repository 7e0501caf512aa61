"""The lineage's pages: what they show, what they keep from strangers, and what they say when there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import clock
from tests.builders import NOON, alice, charlie
from tests.mlops import lineage_world as world
from tests.mlops.lineage_walk import a_policy, a_version, passed

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _later() -> Iterator[None]:
    with clock.at(NOON + timedelta(days=3)):
        yield


def page(user: User, name: str, *arguments: Any, status: int = 200, **query: str) -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(reverse(f"portal:{name}", args=arguments), query)
    assert answer.status_code == status
    shown = answer.content.decode()
    assert "<script>" not in shown
    assert " style=" not in shown
    return shown


def town() -> None:
    world.views()
    taken = world.service("weather.temp", name="inputs")
    first = a_version(world.model(), service=taken, dataset=world.dataset(taken), metrics={"auc": {"estimate": 0.7}})
    world.served(first)
    second = a_version(world.model(), service=taken, parameters={"C": 2}, metrics={"auc": {"estimate": 0.8}})
    passed(second)


def test_version_lineage__both_directions__are_drawn_and_told() -> None:
    town()
    shown = page(alice(), "version-lineage", "late-arrival", 1)
    assert shown.count("<svg") == 2
    for said in ("readings", "weather@1", "inputs@1", "d" * 64, "late-arrival v1 gates #1", "late-arrival-point"):
        assert said in shown, said
    assert "Unverified: code" in shown


def test_version_lineage__not_judged__says_what_happens_next() -> None:
    a_version(world.model())
    assert "Nothing yet: it has not been judged." in page(alice(), "version-lineage", "late-arrival", 1)


def test_version_lineage__stranger__finds_no_page() -> None:
    town()
    page(charlie(), "version-lineage", "late-arrival", 1, status=404)
    page(charlie(), "compare", "late-arrival", status=404)


def test_trace__key__is_drawn_and_a_wrong_one_is_explained() -> None:
    town()
    assert "readings" in page(alice(), "trace", of="service:inputs@1")
    assert "kinds:" in page(alice(), "trace", of="unheard:3")
    assert "There is no incident 3" in page(alice(), "trace", of="incident:3")
    assert "Write the key" in page(alice(), "trace")
    assert "&lt;b&gt;" in page(alice(), "trace", of="source:<b>")


def test_impact__column__names_the_version_the_way_and_the_group() -> None:
    town()
    shown = page(alice(), "impact", kind="column", what="readings.temp")
    for said in ("late-arrival v1", "readings.temp → weather@1", "late-arrival-point", "delay-science"):
        assert said in shown, said
    assert "No live version uses it" in page(alice(), "impact", feature="weather.tag")
    assert "Name a column with its source" in page(alice(), "impact")
    assert "There is no source unheard" in page(alice(), "impact", source="unheard")


def test_impact__stranger__learns_whom_to_ask_and_no_more() -> None:
    town()
    shown = page(charlie(), "impact", source="readings")
    assert "a model of delay-science" in shown
    assert "late-arrival" not in shown


def test_as_of__day__shows_every_endpoint_with_who_let_it_through() -> None:
    town()
    shown = page(alice(), "as-of", at="2013-04-02")
    for said in ("late-arrival-point", "late-arrival v1", "1 of 1 checks passed", "rollout.promoted", "automatic"):
        assert said in shown, said
    assert "No endpoint of yours existed then" in page(alice(), "as-of", at="2013-03-01T10:00")
    assert "is no day and no moment" in page(alice(), "as-of", at="yesterday")
    assert "No endpoint of yours" in page(charlie(), "as-of")


def test_compare__two_versions__stand_side_by_side() -> None:
    town()
    shown = page(alice(), "compare", "late-arrival")
    for said in ("late-arrival v1 against late-arrival v2", "auc-floor", ">0.1<", "Both take the same features."):
        assert said in shown, said
    assert "Choose two different versions." in page(alice(), "compare", "late-arrival", before="1", after="1")


def test_compare__one_version__says_how_there_will_be_another() -> None:
    a_version(world.model())
    assert "There is nothing to compare yet" in page(alice(), "compare", "late-arrival")


def test_pages__of_models_versions_sources_and_views__lead_to_the_lineage() -> None:
    town()
    assert reverse("portal:version-lineage", args=["late-arrival", 1]) in page(alice(), "version", "late-arrival", 1)
    assert reverse("portal:compare", args=["late-arrival"]) in page(alice(), "model", "late-arrival")
    assert f"{reverse('portal:impact')}?source=readings" in page(alice(), "data-source", "readings")
    assert f"{reverse('portal:impact')}?feature=weather@1.temp" in page(alice(), "feature-view", "weather")


@pytest.mark.parametrize("models", [1, 5])
def test_lists__of_many_models_and_versions__ask_a_fixed_number_of_queries(models: int) -> None:
    for number in range(models):
        model = world.model(f"model-{number}")
        a_policy(model)
        for _ in range(models):
            passed(a_version(model))
    client = Client()
    client.force_login(alice())
    for name, arguments, most in (("home", [], 16), ("model", ["model-0"], 45)):
        with CaptureQueriesContext(connection) as asked:
            assert client.get(reverse(f"portal:{name}", args=arguments)).status_code == 200
        assert len(asked) <= most, (name, len(asked), [query["sql"][:150] for query in asked])
