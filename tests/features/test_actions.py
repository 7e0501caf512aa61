"""Defining, publishing, pinning: what is refused, what is returned again, what makes a new version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from audit.errors import Conflict, InvalidInput, NotPermitted, TransitionError
from audit.models import Event
from features import actions
from features.models import DataSource, FeatureService, FeatureViewVersion, ViewState
from tests.builders import NOON, ROBOT, alice, audrey, charlie, group
from tests.features.races import run_together
from tests.features.store import HOUR, SELECT, applied, entity, published, service, source

pytestmark = pytest.mark.django_db


def events(name: str) -> int:
    return int(Event.objects.filter(name=name).count())


# ---------------------------------------------------------------------- entities and sources


def test_define_entity__twice__is_one_and_one_event() -> None:
    assert entity() == entity()
    assert events("entity.defined") == 1


def test_define_entity__other_join_keys__is_a_conflict() -> None:
    entity()
    with pytest.raises(Conflict, match="carrier, origin"):
        actions.define_entity(name="carrier_origin", join_keys=["tailnum"], actor=ROBOT, now=NOON)


@pytest.mark.parametrize("keys", [[], ["a", "A"], ["a b"], ["known_at"], "tailnum"])
def test_define_entity__unusable_join_keys__names_the_field(keys: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        actions.define_entity(name="plane", join_keys=keys, actor=ROBOT, now=NOON)
    assert list(refused.value.errors) == ["join_keys"]


def test_define_entity__by_somebody_outside_the_admin__is_not_permitted() -> None:
    with pytest.raises(NotPermitted):
        actions.define_entity(name="plane", join_keys=["tailnum"], actor=audrey(), now=NOON)


@pytest.mark.parametrize("uri", ["/etc/x.parquet", "../x", "a/../../x", "s3://b/x", "", "a//b", "..\\x"])
def test_define_source__place_outside_the_data_root__is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        source(uri=uri)
    assert "uri" in refused.value.errors


def test_define_source__new_promise__changes_it_and_says_so() -> None:
    source()
    assert source(freshness=HOUR).freshness == HOUR
    assert DataSource.objects.count() == 1
    assert events("data_source.changed") == 1


def test_define_source__moved_while_a_view_reads_it__is_a_conflict() -> None:
    applied(source())
    with pytest.raises(Conflict, match="uri"):
        source(uri="elsewhere.parquet")


def test_source_of_a_view__moved_by_raw_sql__is_refused_by_the_database() -> None:
    origin = source()
    DataSource.objects.filter(pk=origin.pk).update(uri="free/while/unused.parquet")
    DataSource.objects.filter(pk=origin.pk).update(uri=origin.uri)
    applied(origin)
    with pytest.raises(IntegrityError, match="can not be changed"), transaction.atomic():
        DataSource.objects.filter(pk=origin.pk).update(uri="elsewhere.parquet")


def test_define_source__by_a_stranger__is_not_permitted() -> None:
    with pytest.raises(NotPermitted, match="delay-platform"):
        source(actor=charlie())


# ---------------------------------------------------------------------- views


def test_apply_view__first_time__is_a_draft_with_types_found_by_the_engine() -> None:
    version = applied(source(), actor=alice())
    assert (version.number, version.state) == (1, ViewState.DRAFT)
    assert version.types == {"temp": "float64", "seats": "int64", "tag": "string", "wet": "bool"}
    assert events("feature_view_version.drafted") == 1


def test_apply_view__same_meaning_in_other_words__is_the_same_version() -> None:
    origin = source()
    first = applied(origin)
    again = applied(origin, expression=f"-- readable\n{SELECT.format('readings').replace(', ', ',   ')}")
    assert again.pk == first.pk
    assert events("feature_view_version.drafted") == 1


CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "expression": lambda: {"expression": SELECT.format("readings") + " WHERE temp > 0"},
    "ttl": lambda: {"ttl": HOUR},
    "cadence": lambda: {"cadence": HOUR},
    "lookback": lambda: {"lookback": None},
    "event time": lambda: {"event_timestamp": "arrived"},
    "known time": lambda: {"known_at": "happened"},
    "fewer features": lambda: {"features": ["temp", "seats", "tag"]},
    "order of features": lambda: {"features": ["seats", "temp", "tag", "wet"]},
    "another source": lambda: {"sources": [source(name="others")], "expression": SELECT.format("others")},
    "one more source": lambda: {"sources": [source(), source(name="others")]},
    "type": lambda: {"expression": SELECT.format("readings").replace("seats", "CAST(seats AS DOUBLE) AS seats")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_apply_view__anything_that_can_change_a_value__is_a_new_version(change: str) -> None:
    origin = source()
    first = applied(origin)
    second = applied(origin, **CHANGES[change]())
    assert (second.number, second.view) == (2, first.view)
    assert second.content_hash != first.content_hash


def test_content_hash__same_definitions_below_another_data_root__is_the_same(settings: Any, tmp_path: Any) -> None:
    here = applied(source()).content_hash
    settings.DATA_ROOT = str(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    assert applied(source()).content_hash == here


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two statements": ({"expression": "SELECT 1 AS a; SELECT 2 AS b"}, "expression"),
    "file access": ({"expression": "SELECT * FROM read_csv('/etc/passwd')"}, "expression"),
    "unknown column": ({"expression": SELECT.format("readings").replace("temp", "gone AS temp")}, "expression"),
    "undeclared source": ({"expression": SELECT.format("others")}, "expression"),
    "join key not yielded": (
        {"expression": "SELECT origin, happened, arrived, temp FROM readings", "features": ["temp"]},
        "expression",
    ),
    "feature not yielded": ({"features": ["temp", "humidity"]}, "features"),
    "feature twice": ({"features": ["temp", "TEMP"]}, "features"),
    "feature is a join key": ({"features": ["temp", "origin"]}, "features"),
    "no feature": ({"features": []}, "features"),
    "other type": ({"features": [{"name": "temp", "dtype": "int64"}]}, "features"),
    "time not yielded": ({"event_timestamp": "at"}, "event_timestamp"),
    "known time not yielded": ({"known_at": "at"}, "known_at"),
    "ttl of zero": ({"ttl": timedelta(0)}, "ttl"),
    "negative cadence": ({"cadence": -HOUR}, "cadence"),
    "negative lookback": ({"lookback": -HOUR}, "lookback"),
    "no source": ({"sources": []}, "sources"),
    "name": ({"name": "Weather!"}, "name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_apply_view__bad_definition__names_the_field_and_stores_nothing(case: str) -> None:
    changes, field = REFUSED[case]
    with pytest.raises(InvalidInput) as refused:
        applied(source(), **changes)
    assert field in refused.value.errors
    assert not FeatureViewVersion.objects.exists()


def test_apply_view__source_without_a_file__names_the_sources() -> None:
    with pytest.raises(InvalidInput) as refused:
        applied(source(uri="sources/gone.parquet"))
    assert list(refused.value.errors) == ["sources"]


def test_apply_view__by_somebody_outside_the_owner_group__is_not_permitted() -> None:
    origin = source()
    with pytest.raises(NotPermitted, match="delay-science"):
        applied(origin, actor=charlie())


def test_apply_view__owner_group_given_away_by_a_stranger__is_not_permitted() -> None:
    origin = source()
    applied(origin)
    with pytest.raises(NotPermitted, match="delay-science"):
        applied(origin, owner=group("strangers"), actor=charlie())


def test_apply_view__another_entity__is_a_conflict() -> None:
    origin = source()
    applied(origin)
    other = actions.define_entity(name="origin", join_keys=["origin"], actor=ROBOT, now=NOON)
    with pytest.raises(Conflict, match="carrier_origin"):
        applied(origin, entity=other)


def test_version__changed_by_raw_update__is_refused_by_the_database() -> None:
    version = applied(source())
    with pytest.raises(IntegrityError), transaction.atomic():
        FeatureViewVersion.objects.filter(pk=version.pk).update(ttl=HOUR)


def test_publish__draft__records_who_and_why() -> None:
    version = applied(source())
    actions.publish(version, actor=alice(), reason="Compared with the old one.", now=NOON)
    event = Event.objects.get(name="feature_view_version.published")
    assert (event.author, event.reason) == ("alice", "Compared with the old one.")


def test_publish__without_a_reason__is_refused() -> None:
    with pytest.raises(InvalidInput, match="reason"):
        actions.publish(applied(source()), actor=alice(), reason=" ", now=NOON)


def test_publish__by_a_stranger__is_not_permitted() -> None:
    with pytest.raises(NotPermitted):
        actions.publish(applied(source()), actor=charlie(), reason="I like it.", now=NOON)


def test_retire__pinned_by_a_service__is_refused() -> None:
    version = published(source())
    service("weather.temp")
    actions.deprecate(version, actor=ROBOT, reason="Old.", now=NOON)
    with pytest.raises(TransitionError, match="delay@1"):
        actions.retire(version, actor=ROBOT, reason="Old.", now=NOON)


def test_retire__pinned_by_nobody__ends_the_version() -> None:
    version = actions.retire(applied(source()), actor=ROBOT, reason="A mistake.", now=NOON)
    assert version.state == ViewState.RETIRED


# ---------------------------------------------------------------------- services


def test_define_service__order_of_features__is_the_order_of_the_vector() -> None:
    published(source())
    pinned = service("weather.wet", "weather.temp", request_features=["hour"])
    assert pinned.columns == ("weather__wet", "weather__temp")
    assert pinned.vector == ("hour", "weather__wet", "weather__temp")


def test_define_service__same_list__is_the_same_service() -> None:
    published(source())
    assert service("weather.wet", "weather.temp") == service("weather.wet", "weather.temp")
    assert events("feature_service.defined") == 1


@pytest.mark.parametrize(
    "changes",
    [{"features": ["weather.wet", "weather.temp"]}, {"request_features": ["hour"]}, {"features": ["weather.temp"]}],
)
def test_define_service__another_vector__is_a_new_number(changes: dict[str, Any]) -> None:
    published(source())
    service("weather.temp", "weather.wet")
    fields: dict[str, Any] = {"features": ["weather.temp", "weather.wet"], "owner": group("delay-science")}
    second = actions.define_service(name="delay", actor=ROBOT, now=NOON, **fields | changes)
    assert second.number == 2


def test_define_service__after_a_new_version__pins_it_and_keeps_the_old_service() -> None:
    origin = source()
    published(origin)
    old = service("weather.temp")
    published(origin, ttl=HOUR)
    new = service("weather.temp")
    numbers = [each.pinned()[0].view_version.number for each in (FeatureService.objects.get(pk=old.pk), new)]
    assert numbers == [1, 2]


@pytest.mark.parametrize(
    ("features", "request_features", "field"),
    [
        (["weather.gone"], [], "features"),
        (["nothing.temp"], [], "features"),
        (["weather"], [], "features"),
        (["weather.temp", "weather.temp"], [], "features"),
        ([], [], "features"),
        (["weather.temp"], ["weather__temp"], "request_features"),
        (["weather.temp"], ["hour", "hour"], "request_features"),
    ],
)
def test_define_service__bad_list__names_the_field(
    features: list[str], request_features: list[str], field: str
) -> None:
    published(source())
    with pytest.raises(InvalidInput) as refused:
        actions.define_service(
            name="delay",
            features=features,
            request_features=request_features,
            owner=group("delay-science"),
            actor=ROBOT,
            now=NOON,
        )
    assert list(refused.value.errors) == [field]


def test_define_service__view_only_drafted__is_refused() -> None:
    applied(source())
    with pytest.raises(InvalidInput, match="no feature view 'weather' is published"):
        service("weather.temp")


# ---------------------------------------------------------------------- two at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks are PostgreSQL's")
def test_apply_view__many_at_once__loses_none() -> None:
    origin = source()
    entity()
    seconds = range(1, 9)

    run_together([partial(applied, origin, ttl=timedelta(seconds=second)) for second in seconds])

    stored = FeatureViewVersion.objects.order_by("number").values_list("number", "ttl")
    assert [number for number, _ in stored] == list(range(1, 9))
    assert {ttl for _, ttl in stored} == {timedelta(seconds=second) for second in seconds}
