"""Who uses a column, a source, a feature, a dataset: all of them, nobody else, and strangers by their group."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.errors import InvalidInput, NotFound
from features import actions as features
from features.models import DataSource
from mlops.lineage import Impact, forwards
from registry.models import ExternalEdge, ExternalNode, ModelVersion
from tests.builders import NOON, ROBOT, alice, audrey, charlie, group
from tests.features import store
from tests.mlops import lineage_world as world
from tests.mlops.lineage_walk import a_version

pytestmark = pytest.mark.django_db


def champion(*names: str, of: str = "late-arrival", service: str = "") -> ModelVersion:
    """A version that takes these features and serves."""
    taken = world.service(*names, name=service or of)
    version = a_version(world.model(of), service=taken, dataset=None)
    world.served(version)
    return version


def used(**asked: object) -> list[str]:
    return [each.label for each in forwards(**asked, reader=audrey()).affected]  # type: ignore[arg-type]


def test_forwards__column__names_every_version_that_reads_it_and_no_other() -> None:
    world.views()
    champion("crowd.heat", of="hot")
    champion("crowd.room", of="roomy")
    champion("weather.tag", of="tagged")
    assert used(column="readings.temp") == ["hot v1"]
    assert used(column="stations.seats") == ["roomy v1"]
    assert used(column="readings.tag") == ["tagged v1"]
    assert used(column="readings.wet") == ["hot v1", "roomy v1"]  # it decides the joined rows
    assert used(column="stations.temp") == []
    assert used(column="readings.never") == []


def test_forwards__keys_and_times__are_read_by_every_feature() -> None:
    world.views()
    champion("crowd.heat", of="hot")
    champion("weather.tag", of="tagged")
    for column in ("readings.origin", "readings.happened", "readings.arrived"):
        assert used(column=column) == ["hot v1", "tagged v1"], column


def test_forwards__column__tells_the_way_from_it_to_the_endpoint() -> None:
    world.views()
    champion("crowd.heat", of="hot", service="inputs")
    (affected,) = forwards(column="readings.temp", reader=alice()).affected
    (path,) = affected.paths
    assert path.steps == ("readings.temp", "crowd@1", "crowd.heat", "inputs@1", "hot v1", "hot-point")
    assert path.is_certain
    assert (affected.roles, affected.endpoints, affected.owner) == (("champion",), ("hot-point",), "delay-science")


def test_forwards__column_beside_its_source__is_the_same_question() -> None:
    world.views()
    champion("crowd.heat", of="hot")
    assert used(source="readings", column="temp") == ["hot v1"]


def test_forwards__source__is_whatever_reads_it() -> None:
    world.views()
    champion("crowd.heat", of="hot")
    champion("weather.tag", of="tagged")
    assert used(source="readings") == ["hot v1", "tagged v1"]
    assert used(source="stations") == ["hot v1"]


def test_forwards__window_of_a_column__is_read_and_the_other_columns_are_not() -> None:
    readings = store.source([store.reading()])
    windows = [features_window("mean_temp", "mean", "temp"), features_window("rows", "count", None)]
    store.published(
        readings, name="recent", features=[], aggregations=windows, cadence=timedelta(hours=1), ttl=None
    )  # fmt: skip
    champion("recent.mean_temp", of="warm")
    champion("recent.rows", of="counting")
    assert used(column="readings.temp") == ["warm v1"]
    assert used(column="readings.seats") == []
    assert used(column="readings.origin") == ["counting v1", "warm v1"]


def features_window(name: str, function: str, column: str | None) -> object:
    from engines.offline import Aggregation

    return Aggregation(name=name, function=function, column=column, over=timedelta(hours=6))


def test_forwards__feature__of_one_version_or_of_all() -> None:
    world.views()
    champion("weather.temp", of="old")
    assert used(feature="weather.temp") == ["old v1"]
    assert used(feature="weather__temp") == ["old v1"]
    assert used(feature="weather@1.temp") == ["old v1"]
    with pytest.raises(NotFound):
        used(feature="weather@2.temp")


def test_forwards__transform__carries_what_it_takes_on() -> None:
    world.views()
    code = "def ratio(weather__temp, hour):\n    return {'r': weather__temp / hour}\n"
    features.define_transform(
        name="ratio", code=code, features=[{"name": "r", "dtype": "float64"}], owner=group("delay-science"),
        actor=ROBOT, now=NOON,
    )  # fmt: skip
    taken = world.service("weather.temp", name="both", request_features=["hour"], transforms=["ratio"])
    world.served(a_version(world.model("late-arrival"), service=taken))
    (affected,) = forwards(column="readings.temp", reader=alice()).affected
    ways = [path.steps for path in affected.paths]
    assert ("readings.temp", "weather@1", "weather.temp", "ratio@1", "ratio.r", "both@1") in [way[:6] for way in ways]
    assert used(feature="ratio.r") == ["late-arrival v1"]


def test_forwards__model_of_strangers__is_told_by_its_group_alone() -> None:
    world.views()
    taken = world.service("weather.temp", name="theirs")
    world.served(a_version(world.strange_model(), service=taken))
    impact = forwards(column="readings.temp", reader=alice())
    (affected,) = impact.affected
    assert (affected.label, affected.owner, affected.is_visible) == ("a model of strangers", "strangers", False)
    assert (affected.model, affected.number, affected.service, affected.endpoints, affected.paths) == (
        "",
        None,
        "",
        (),
        (),
    )
    assert "secret" not in str(impact.as_dict())
    assert used(column="readings.temp") == ["secret v1"]
    assert [each.label for each in forwards(column="readings.temp", reader=charlie()).affected] == ["secret v1"]


def test_forwards__version_that_serves_nothing__is_named_when_all_are_asked_for() -> None:
    world.views()
    taken = world.service("weather.temp", name="inputs")
    a_version(world.model(), service=taken)
    assert used(column="readings.temp") == []
    (affected,) = forwards(column="readings.temp", reader=alice(), every_version=True).affected
    assert (affected.label, affected.roles) == ("late-arrival v1", ("recorded",))


def test_forwards__version_left_at_an_endpoint_by_another_promotion__is_live() -> None:
    world.views()
    taken = world.service("weather.temp", name="inputs")
    first = a_version(world.model(), service=taken)
    world.served(first, "one")
    second = a_version(world.model(), service=None)
    world.served(second, "two")
    assert used(column="readings.temp") == ["late-arrival v1"]


def test_forwards__dataset__is_those_that_learned_from_it() -> None:
    world.views()
    taken = world.service("weather.temp", name="inputs")
    a_version(world.model(), service=taken, dataset=world.dataset(taken))
    asked = {"dataset": "d" * 12, "every_version": True}
    assert used(**asked) == ["late-arrival v1"]
    assert used(dataset="d" * 64) == []
    with pytest.raises(NotFound):
        forwards(dataset="d" * 64, reader=charlie())


def external(name: str, source: DataSource | None = None) -> ExternalNode:
    return ExternalNode.objects.create(
        kind="dataset", namespace="warehouse/prod", name=name, source=source, first_seen=NOON, last_seen=NOON
    )


def flow(upstream: ExternalNode, downstream: ExternalNode, **columns: list[str]) -> None:
    ExternalEdge.objects.create(
        upstream=upstream, downstream=downstream, columns=columns, first_seen=NOON, last_seen=NOON
    )


def test_forwards__column_of_another_tool__is_followed_where_columns_were_told() -> None:
    world.views()
    champion("weather.temp", of="warm")
    champion("weather.seats", of="seated")
    raw, ours = external("raw"), external("readings", DataSource.objects.get(name="readings"))
    flow(raw, ours, temp=["celsius", "station"], seats=["capacity"])
    asked = "external:dataset:warehouse/prod/raw"
    assert used(column=f"{asked}#celsius") == ["warm v1"]
    assert used(column=f"{asked}#capacity") == ["seated v1"]
    assert used(column=f"{asked}#unused") == []
    assert used(source=asked) == ["seated v1", "warm v1"]


def test_forwards__column_of_another_tool_that_told_none__counts_for_the_whole_source() -> None:
    world.views()
    champion("weather.temp", of="warm")
    raw, ours = external("raw"), external("readings", DataSource.objects.get(name="readings"))
    flow(raw, ours)
    impact = forwards(column="external:dataset:warehouse/prod/raw#celsius", reader=audrey())
    assert [each.label for each in impact.affected] == ["warm v1"]
    assert not impact.affected[0].is_certain
    assert impact.notes


@pytest.mark.parametrize(
    "asked",
    [{}, {"column": "temp"}, {"column": "a.b", "feature": "c.d"}, {"source": "a", "dataset": "b" * 64},
     {"dataset": "short"}, {"dataset": "%" * 12}],
)  # fmt: skip
def test_forwards__no_question__is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        used(**asked)


@pytest.mark.parametrize("asked", [{"source": "unheard"}, {"column": "un.heard"}, {"feature": "un.heard"}])
def test_forwards__what_is_not_there__is_not_found(asked: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        used(**asked)


@pytest.mark.parametrize("models", [1, 6])
def test_forwards__more_models__ask_no_more_queries(models: int) -> None:
    world.views()
    for number in range(models):
        champion("weather.temp", of=f"model-{number}")
    reader = alice()
    with CaptureQueriesContext(connection) as asked:
        impact: Impact = forwards(column="readings.temp", reader=reader)
    assert len(impact.affected) == models
    assert len(asked) <= 13, [query["sql"] for query in asked]
