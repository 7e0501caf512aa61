"""The feature catalogue: what it finds, what it says, what it keeps from strangers, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit import clock
from audit.models import Event
from features import actions
from features.actions.promises import promise
from features.models import (
    ConsistencyCheck,
    DataSource,
    Entity,
    FeatureService,
    FeatureServiceFeature,
    FeatureStatistics,
    FeatureView,
    FeatureViewVersion,
    Materialization,
    PushReceipt,
)
from mlops.catalogue import Freshness
from mlops.usage import movers, uses_now
from tests.builders import NOON, ROBOT, group, person
from tests.mlops import world as building
from tests.mlops.world import DAY, World

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(days=40)
HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(LATER):
        yield building.build("delay")


def page(user: User, name: str, *arguments: Any, **query: str) -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(reverse(f"portal:{name}", args=arguments), query)
    assert answer.status_code == 200
    return answer.content.decode()


def described(version: FeatureViewVersion, *, at: Any = LATER, nulls: float = 0.25) -> FeatureStatistics:
    bins = {"edges": [0.0, 1.0, 2.0], "counts": [3, 5]}
    quantiles = {"0": 0.0, "50": 1.0, "100": 2.0}
    measures = {"rows": 8, "nulls": nulls, "distinct": 5, "quantiles": quantiles, "bins": bins}
    names = version.feature_names
    return FeatureStatistics.objects.create(
        view_version=version,
        at=at,
        entities=10,
        alive=8,
        newest=NOON,
        lag=HOUR,
        features=dict.fromkeys(names, measures),
    )


def second_version(world: World, **fields: Any) -> FeatureViewVersion:
    """Another published version of the world's view, as the verb would make it."""
    first = world["view_version"]
    version = FeatureViewVersion.objects.create(
        view=first.view,
        number=2,
        state="draft",
        expression="SELECT origin, temperature + 1 AS temperature FROM flights",
        features=first.features,
        content_hash="2" * 64,
        created_at=NOON,
        **fields,
    )
    version.sources.set(first.sources.all())
    return actions.publish(version, actor=ROBOT, reason="Warmer.", now=NOON)


# ---------------------------------------------------------------------- the lists


def test_features__each_line__tells_what_somebody_needs_who_might_reuse_it(world: World) -> None:
    described(world["view_version"])
    shown = page(world.scientist, "features")
    assert "3 of 3 features" in shown
    for said in ("temperature", "delay_weather", "delay-airport", "delay-science", "25 %", "80 %", "no promise"):
        assert said in shown, said


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "temp weather"}, {"temperature"}),
        ({"q": "delay_weather__carrier"}, {"carrier"}),
        ({"q": "unheard"}, set()),
        ({"owner": "delay-science"}, {"delay", "carrier", "temperature"}),
        ({"owner": "delay-product"}, set()),
        ({"entity": "delay-airport", "state": "published"}, {"delay", "carrier", "temperature"}),
        ({"state": "draft"}, set()),
        ({"only": "unused"}, set()),
        ({"only": "used"}, {"delay", "carrier", "temperature"}),
        ({"only": "stale"}, set()),
        ({"only": "nonsense"}, {"delay", "carrier", "temperature"}),
    ],
)
def test_features__asked_for_some__are_those(world: World, query: dict[str, str], found: set[str]) -> None:
    shown = page(world.scientist, "features", **query)
    names = {name for name in ("delay", "carrier", "temperature") if f"#feature-{name}" in shown}
    assert names == found
    assert found or "Nothing matches" in shown


def test_features__that_break_their_promise__are_found_as_stale(world: World) -> None:
    view = world["feature_view"]
    promise(view, freshness=HOUR, consistency_limit=0.0, actor=world.scientist, reason="Agreed.", now=NOON)
    assert "#feature-delay" in page(world.scientist, "features", only="stale")


@pytest.mark.parametrize(
    ("promised", "age", "waiting", "state"),
    [
        (HOUR, HOUR, None, "fresh"),
        (HOUR, 2 * HOUR, None, "stale"),
        (None, 2 * HOUR, None, "no promise"),
        (HOUR, None, 2 * HOUR, "stale"),
        (HOUR, None, None, "no data"),
        (None, None, 2 * HOUR, "no data"),
    ],
)
def test_freshness__promise_against_what_is(promised: Any, age: Any, waiting: Any, state: str) -> None:
    assert Freshness(promised, age, waiting).state == state


def test_features__sorted_by_nulls__unknown_ones_last_either_way(world: World) -> None:
    other = building.build("search")
    described(other["view_version"], nulls=0.5)
    for sort in ("nulls", "-nulls"):
        shown = page(world.scientist, "features", sort=sort)
        assert shown.index("search_weather") < shown.index("delay_weather")
    descending = page(world.scientist, "features", sort="-name")
    assert descending.index("search_weather") < descending.index("delay_weather")


def test_features__look_alikes__are_counted_and_explained(world: World) -> None:
    alike = {"feature": "temperature", "view": "climate@1", "other": "temp", "owner": "search-science"}
    review = {"look_alikes": [{**alike, "why": "same values", "share": 0.995, "cells": 4_000}]}
    second_version(world, review=review)
    shown = page(world.scientist, "features", only="alike")
    assert "#feature-temperature" in shown
    assert "#feature-carrier" not in shown
    told = page(world.scientist, "feature-view", "delay_weather")
    assert "climate@1.temp of search-science: same values, 99.5 % of 4000 cells agree" in told


@pytest.mark.parametrize("name", ["features", "feature-views", "feature-services", "data-sources"])
def test_lists__with_nothing_defined__say_what_to_do(name: str) -> None:
    assert "gatehouse apply" in page(person("nina", "new-team"), name)


@pytest.mark.parametrize("name", ["features", "feature-views", "feature-services", "data-sources"])
def test_lists__of_more_rows__take_the_same_queries(
    world: World, name: str, django_assert_max_num_queries: Any
) -> None:
    for team in ("search", "price", "route"):
        described(building.build(team)["view_version"])
    client = Client()
    client.force_login(world.scientist)
    with django_assert_max_num_queries(18):
        assert client.get(reverse(f"portal:{name}")).status_code == 200


# ---------------------------------------------------------------------- a view


def test_view__shows_meaning_distribution_runs_and_users(world: World) -> None:
    described(world["view_version"])
    described(world["view_version"], at=LATER - DAY)
    shown = page(world.scientist, "feature-view", "delay_weather")
    for said in (
        "SELECT", "temperature", "delay-inputs@1", "delay-arrival v1", "champion", "delay-arrival v3", "canary",
        "8 of 10 entities", 'data-chart="spread-temperature"', 'data-chart="history"', 'data-chart="consistency"',
        "2013-04-01 12:00", "delay-warning", "<svg",
    ):  # fmt: skip
        assert said in shown, said


def test_view__of_another_team__counts_the_models_and_names_whom_to_ask(world: World) -> None:
    shown = page(person("charlie", "strangers"), "feature-view", "delay_weather")
    assert "a model of delay-science" in shown
    assert "delay-arrival" not in shown
    assert "delay-warning" not in shown


def test_view__its_next_version__shows_what_changed_in_text_and_values(world: World) -> None:
    values = {
        "keys": 500, "instants": ["a", "b"], "added": ["wind"], "removed": [],
        "features": {
            "temperature": {
                "cells": 1_000, "differing": 31,
                "examples": [{"origin": "EWR", "at": "2013-03-01T10:00:00", "before": 1.0, "after": None}],
            }
        },
    }  # fmt: skip
    second_version(world, review={"at": "2013-04-01T12:00:00", "before": "delay_weather@1", "values": values})
    shown = page(world.scientist, "feature-view-version", "delay_weather", 2)
    assert "What changed since @1" in shown
    assert 'class="added"' in shown
    assert "It alters 3.1 % of the sampled cells of delay_weather@1" in shown
    assert "used by 1 live model now" in shown
    assert "origin EWR at 2013-03-01 10:00: 1 → null" in shown


def test_view__cells_that_differ__are_shown_with_examples(world: World) -> None:
    example = {
        "entity": {"origin": "EWR"},
        "at": "2013-04-02 10:00",
        "feature": "delay",
        "served": "1",
        "recomputed": "2",
    }
    ConsistencyCheck.objects.create(
        view_version=world["view_version"], at=LATER, cells=300, differing=3, examples=[example],
        features={"delay": {"cells": 100, "differing": 3}},
    )  # fmt: skip
    shown = page(world.scientist, "feature-view", "delay_weather")
    assert "3 differ" in shown
    assert "origin EWR" in shown
    assert "3 served otherwise" in shown
    assert "#feature-delay" in page(world.scientist, "features", only="differing")


def test_view__a_draft_with_nothing__says_what_to_do(world: World) -> None:
    view = FeatureView.objects.create(name="bare", entity=world["entity"], owner=group("delay-science"))
    assert "It has no version yet" in page(world.scientist, "feature-view", "bare")
    FeatureViewVersion.objects.create(
        view=view, number=1, state="draft", expression="SELECT 1", features=[{"name": "x", "dtype": "int64"}],
        content_hash="b" * 64, created_at=NOON,
    )  # fmt: skip
    shown = page(world.scientist, "feature-view", "bare")
    for said in ("publish it", "No service pins it", "Not compared yet", "A draft is not materialized"):
        assert said in shown, said


def test_view__a_number_that_does_not_exist__is_not_found(world: World) -> None:
    client = Client()
    client.force_login(world.scientist)
    for name in (["delay_weather", 9], ["nothing", 1]):
        assert client.get(reverse("portal:feature-view-version", args=name)).status_code == 404


def test_view__of_more_of_everything__takes_the_same_queries(world: World, django_assert_max_num_queries: Any) -> None:
    version = world["view_version"]
    for number in range(30):
        service = FeatureService.objects.create(
            name=f"more-{number}", number=1, owner=group("delay-science"), content_hash=f"m{number}", created_at=NOON
        )
        FeatureServiceFeature.objects.create(service=service, view_version=version, feature="delay", position=0)
        Materialization.objects.create(view_version=version, up_to=NOON + number * DAY + HOUR, rows=1, newest=NOON)
        described(version, at=NOON + number * DAY)
        ConsistencyCheck.objects.create(view_version=version, at=NOON + number * DAY, cells=9, differing=0)
    client = Client()
    client.force_login(world.scientist)
    with django_assert_max_num_queries(32):
        shown = client.get(reverse("portal:feature-view", args=["delay_weather"])).content.decode()
    assert "and 20 more" in shown


# ---------------------------------------------------------------------- who must move


def test_deprecated__names_services_models_and_groups_that_must_move(world: World) -> None:
    second = second_version(world)
    first = world["view_version"]
    actions.deprecate(first, replaced_by=second, actor=world.scientist, reason="Too cold.", now=NOON)
    (mover,) = movers(uses_now(world.scientist))
    assert (str(mover.service), mover.features) == ("delay-inputs@1", ("delay", "carrier", "temperature"))
    assert [(use.label, use.role) for use in mover.uses] == [
        ("delay-arrival v1", "champion"),
        ("delay-arrival v3", "canary"),
    ]
    assert mover.groups == ("delay-science",)
    for name, arguments in (("feature-views", []), ("feature-view", ["delay_weather"])):
        shown = page(world.scientist, name, *arguments)
        assert "delay-inputs@1" in shown.partition("Who must move")[2], name
        assert "delay_weather@2" in shown.partition("Who must move")[2], name
    assert "Must move" in page(world.scientist, "feature-service", "delay-inputs", 1)


def test_deprecated__service_retired__keeps_nobody(world: World) -> None:
    actions.deprecate(world["view_version"], actor=world.scientist, reason="Old.", now=NOON)
    FeatureService.objects.filter(pk=world["service"].pk).update(retired_at=NOON)
    assert movers(uses_now(world.scientist)) == []
    assert "Nobody: no service pins" in page(world.scientist, "feature-views")


# ---------------------------------------------------------------------- a service, a source


def test_service__shows_its_vector_in_order_with_pins_transforms_and_models(world: World) -> None:
    described(world["view_version"])
    shown = page(world.scientist, "feature-service", "delay-inputs", 1)
    order = [shown.index(f">{name}<") for name in ("hour", "delay_weather__delay", "delay_weather__temperature")]
    assert order == sorted(order)
    for said in ("delay_ratio__ratio", "return hour / 24", "delay-arrival v1", "delay_weather@1"):
        assert said in shown, said


def test_source__shows_promise_readers_and_models_fed(world: World) -> None:
    shown = page(world.scientist, "data-source", "delay-flights")
    for said in ("sources/delay.parquet", "nobody is called when it stops", "delay_weather@1", "delay-arrival v1"):
        assert said in shown, said
    assert "delay-platform: look at what delivers it." in shown  # its file is not there


def test_source__that_is_pushed_to__shows_its_columns_and_the_last_pushes(world: World) -> None:
    schema = {"origin": "string", "at": "timestamp", "wind": "float64"}
    source = DataSource.objects.create(
        name="gusts", uri="pushed/gusts", event_timestamp="at", owner=group("x"), push_schema=schema
    )
    assert "Nothing has been pushed yet" in page(world.scientist, "data-source", "gusts")
    PushReceipt.objects.create(source=source, push_id="night-1", digest="0" * 64, rows=77, segment=1, arrived_at=NOON)
    shown = page(world.scientist, "data-source", "gusts")
    for said in ("wind", "float64", "night-1", "77", "the system"):
        assert said in shown, said


def test_source__that_nothing_reads__says_so(world: World) -> None:
    DataSource.objects.create(name="spare", uri="sources/none.parquet", event_timestamp="at", owner=group("x"))
    assert "No view reads it yet" in page(world.scientist, "data-source", "spare")


# ---------------------------------------------------------------------- the admin's decisions


def decision(user: User, row: Any, name: str, values: dict[str, Any] | None = None) -> Any:
    kind = f"{row._meta.app_label}_{row._meta.model_name}"
    client = Client()
    client.force_login(user)
    url = reverse(f"admin:{kind}_{name}", args=[row.pk])
    return client.get(url) if values is None else client.post(url, values)


def test_admin__promise__is_made_by_the_owner(world: World) -> None:
    values = {"freshness": "6h", "percent": "2", "reason": "Agreed with the delay team."}
    assert decision(world.operator, world["feature_view"], "promise", values).status_code == 403
    assert decision(world.scientist, world["feature_view"], "promise", values).status_code == 302
    view = FeatureView.objects.get(pk=world["feature_view"].pk)
    assert (view.freshness, view.consistency_limit) == (6 * HOUR, 0.02)
    assert Event.objects.get(name="view.promised").actor == world.scientist


def test_admin__promise_that_can_not_be_read__is_asked_again(world: World) -> None:
    answer = decision(
        world.scientist, world["feature_view"], "promise", {"freshness": "soon", "percent": "2", "reason": "x"}
    )
    assert answer.status_code == 422
    assert "90 min" in answer.content.decode()


def test_admin__deprecate__shows_who_would_move_and_takes_the_replacement(world: World) -> None:
    second = second_version(world)
    shown = decision(world.scientist, world["view_version"], "deprecate").content.decode()
    assert "delay-arrival v1 (champion)" in shown
    values = {"replaced_by": second.pk, "reason": "Too cold."}
    assert decision(world.scientist, world["view_version"], "deprecate", values).status_code == 302
    first = FeatureViewVersion.objects.get(pk=world["view_version"].pk)
    assert (first.state, first.replaced_by) == ("deprecated", second)


def test_admin__retire_a_service__is_refused_while_a_model_takes_it(world: World) -> None:
    answer = decision(world.scientist, world["service"], "retire", {"reason": "Nobody takes it."})
    assert answer.status_code == 409
    assert "delay-arrival v1 (champion)" in answer.content.decode()
    service = FeatureService.objects.create(
        name="unused", number=1, owner=group("delay-science"), content_hash="u", created_at=NOON
    )
    assert decision(world.scientist, service, "retire", {"reason": "Nobody takes it."}).status_code == 302
    service.refresh_from_db()
    assert service.retired_at is not None


def test_admin__publish__shows_what_the_draft_means_and_changes(world: World) -> None:
    draft = FeatureViewVersion.objects.create(
        view=world["feature_view"], number=2, state="draft", expression="SELECT origin, 1 AS temperature FROM flights",
        features=world["view_version"].features, content_hash="3" * 64, created_at=NOON,
    )  # fmt: skip
    shown = decision(world.scientist, draft, "publish").content.decode()
    for said in ("What it means", "What changes", 'class="removed"', "It was applied without a review"):
        assert said in shown, said


def test_admin__a_view_written_by_hand__is_a_draft_and_faults_stand_at_their_fields(world: World) -> None:
    from tests.features.store import SELECT, reading, source

    source([reading(hour) for hour in range(3)], owner=group("delay-science"))
    keys = Entity.objects.create(name="carrier_origin", join_keys=["carrier", "origin"])
    client = Client()
    client.force_login(world.scientist)
    url = reverse("admin:features_featureview_define")
    values = {
        "name": "hand", "entity": keys.pk, "owner": group("delay-science").pk, "description": "By hand.",
        "sources": [DataSource.objects.get(name="readings").pk], "expression": "SELECT temp FROM readings",
        "features": "temp: Degrees.", "aggregations": "", "event_timestamp": "happened", "known_at": "arrived",
        "ttl": "1d", "cadence": "", "lookback": "0",
    }  # fmt: skip
    refused = client.post(url, values)
    assert refused.status_code == 422
    assert "No output column" in refused.content.decode()
    answer = client.post(url, {**values, "expression": SELECT.format("readings")})
    version = FeatureViewVersion.objects.get(view__name="hand")
    assert answer["Location"] == reverse("admin:features_featureviewversion_change", args=[version.pk])
    assert (version.state, version.ttl, version.features[0]["description"]) == ("draft", DAY, "Degrees.")
    again = decision(world.scientist, version.view, "revise").content.decode()
    assert "temp: Degrees." in again
    assert "1 day" in again
