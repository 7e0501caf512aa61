"""A plan says what applying would do; applying does exactly that, or refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from features import actions, definitions
from features.actions import apply_plan
from features.actions import plan as planning
from features.actions.plan import Plan
from features.actions.review import review
from features.models import DataSource, Entity, FeatureService, FeatureView, FeatureViewVersion, OnDemandTransform
from tests.builders import NOON, ROBOT, alice, charlie, group
from tests.features import store

pytestmark = pytest.mark.django_db

SCIENCE, PLATFORM = "delay-science", "delay-platform"
VIEW: Mapping[str, Any] = {
    "entity": "carrier_origin",
    "sources": ["readings"],
    "expression": store.SELECT.format("readings"),
    "features": ["temp", "seats", "tag", "wet"],
    "event_timestamp": "happened",
    "known_at": "arrived",
    "lookback": "0",
    "owner": SCIENCE,
}
SOURCE: Mapping[str, Any] = {
    "uri": "sources/readings.parquet",
    "event_timestamp": "happened",
    "created_timestamp": "arrived",
    "owner": PLATFORM,
}
CHILL = "def chill(wind, weather__temp):\n    return {'felt': weather__temp - 2 * wind}\n"


def files(**kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions of a small team: an entity, a source, a view."""
    whole: dict[str, Any] = {
        "entities": {"carrier_origin": {"join_keys": ["carrier", "origin"]}},
        "sources": {"readings": SOURCE},
        "views": {"weather": VIEW},
    }
    return whole | kinds


def author() -> User:
    user = alice()
    user.groups.add(group(PLATFORM))
    return user


def planned(told: Mapping[str, Any], *, publish: bool = False, actor: User | None = None) -> Plan:
    return planning.plan(definitions.read(told), publish=publish, actor=actor or author())


def applied(told: Mapping[str, Any], *, publish: bool = False, plan: Plan | None = None) -> Plan:
    return apply_plan.apply(
        definitions.read(told),
        digest=(plan or planned(told, publish=publish)).digest,
        publish=publish,
        reason="Reviewed." if publish else "",
        actor=author(),
        now=NOON,
    )


def outline(plan: Plan) -> dict[str, str]:
    return {f"{change.kind} {change.label}": change.action for change in plan.changes}


@pytest.fixture(autouse=True)
def _readings() -> None:
    group(SCIENCE), group(PLATFORM)
    rows = [
        store.reading(day * 24 + at, origin=f"A{at}", temp=float(day * 7 + at * 3), seats=day)
        for day in range(25)
        for at in range(20)
    ]
    store.write_source("readings", rows)


def test_plan__of_new_definitions__creates_all_and_writes_nothing() -> None:
    plan = planned(files())

    assert outline(plan) == {
        "entity carrier_origin": "create",
        "source readings": "create",
        "view weather@1": "create",
    }
    assert not Entity.objects.exists()
    assert not Event.objects.exists()


def test_apply__of_a_plan__makes_what_it_said_with_one_event_each() -> None:
    applied(files())

    version = FeatureViewVersion.objects.get()
    assert (str(version), version.state) == ("weather@1", "draft")
    names = list(Event.objects.order_by("id").values_list("name", flat=True))
    assert names == ["entity.defined", "data_source.defined", "feature_view_version.drafted"]
    assert set(outline(planned(files())).values()) == {"unchanged"}


def test_apply__again_with_the_old_digest__does_nothing() -> None:
    plan = planned(files())
    applied(files(), plan=plan)

    assert applied(files(), plan=plan).to_do == ()
    assert FeatureViewVersion.objects.count() == 1


def test_apply__after_somebody_else_changed_the_view__is_refused() -> None:
    applied(files())
    changed = files(views={"weather": {**VIEW, "ttl": "6h"}})
    plan = planned(changed)
    applied(files(views={"weather": {**VIEW, "ttl": "1d"}}))

    with pytest.raises(Conflict, match="Plan again"):
        applied(changed, plan=plan)
    assert FeatureViewVersion.objects.count() == 2


def test_apply__with_publish__publishes_and_pins_the_service_in_one_go() -> None:
    told = files(
        transforms={
            "chill": {"code": CHILL, "features": [{"name": "felt", "dtype": "float64"}], "owner": SCIENCE},
        },
        services={
            "delay": {
                "features": ["weather.temp"],
                "request_features": ["wind"],
                "transforms": ["chill"],
                "owner": SCIENCE,
            }
        },
    )
    applied(told, publish=True)

    service = FeatureService.objects.get()
    assert FeatureViewVersion.objects.get().state == "published"
    assert service.vector == ("wind", "weather__temp", "chill__felt")
    assert OnDemandTransform.objects.get().inputs == ["wind", "weather__temp"]
    assert planned(told, publish=True).to_do == ()
    told["transforms"]["chill"]["code"] = CHILL.replace("2 *", "3 *")
    again = planned(told, publish=True)
    assert [change.label for change in again.to_do] == ["chill@2", "delay@2"]
    assert [(each.field, each.before, each.after) for each in again.to_do[1].fields] == [
        ("transforms", "chill@1", "chill@2")
    ]
    told["transforms"]["chill"]["code"] = "def chill(wind): return {}"
    with pytest.raises(InvalidInput) as refused:
        planned(told, publish=True)
    assert set(refused.value.errors) == {"transforms.chill.code"}


def test_plan__of_a_source_that_leaves_words_out__keeps_them() -> None:
    applied(files(sources={"readings": {**SOURCE, "description": "Sensors.", "freshness": "2h"}}))

    assert planned(files()).to_do == ()


def test_plan__of_a_service_whose_view_is_not_published__waits() -> None:
    told = files(services={"delay": {"features": ["weather.temp"], "owner": SCIENCE}})

    plan = applied(told)

    (service,) = [change for change in plan.changes if change.kind == "service"]
    assert service.action == "wait"
    assert "not published yet" in service.notes[0]
    assert not FeatureService.objects.exists()
    applied(told, publish=True)
    assert FeatureService.objects.get().number == 1


def test_plan__of_a_changed_meaning__shows_fields_text_values_and_who_pins() -> None:
    told = files(services={"delay": {"features": ["weather.temp"], "owner": SCIENCE}})
    applied(told, publish=True)
    expression = str(VIEW["expression"]).replace("temp,", "CASE WHEN seats < 20 THEN temp ELSE temp + 1 END AS temp,")
    changed = {**told, "views": {"weather": {**VIEW, "expression": expression, "ttl": "40d"}}}

    plan = review(planned(changed), now=store.at(24 * 25))

    (change,) = plan.to_do
    assert (change.label, change.action) == ("weather@2", "new version")
    assert [each.field for each in change.fields] == ["expression", "ttl"]
    assert "+  CASE WHEN seats < 20" in change.diff
    assert [str(service) for service in change.pinned_by] == ["delay@1"]
    values = change.review["values"]
    assert set(values["features"]) == {"temp", "seats", "tag", "wet"}
    assert values["features"]["seats"]["differing"] == 0
    assert 0 < values["features"]["temp"]["differing"] < values["features"]["temp"]["cells"]
    example = values["features"]["temp"]["examples"][0]
    assert example["after"] == example["before"] + 1
    assert set(example) == {"carrier", "origin", "at", "before", "after"}


def test_apply__of_a_changed_meaning__keeps_the_review_with_the_version() -> None:
    applied(files(), publish=True)
    applied(files(views={"weather": {**VIEW, "ttl": "2d"}}))

    kept = FeatureViewVersion.objects.get(number=2).review
    assert (kept["before"], kept["changed"]) == ("weather@1", ["ttl"])
    assert kept["values"]["rows"] > 0


def test_plan__of_changed_words__makes_no_version() -> None:
    applied(files())
    told = files(
        views={"weather": {**VIEW, "description": "At the gate.", "freshness": "2h", "consistency_limit": 0.01}},
        sources={"readings": {**SOURCE, "description": "Sensors."}},
    )

    plan = applied(told)

    assert outline(plan) == {
        "entity carrier_origin": "unchanged",
        "source readings": "change",
        "view weather@1": "change",
    }
    view = FeatureView.objects.get()
    assert (view.description, view.consistency_limit) == ("At the gate.", 0.01)
    assert FeatureViewVersion.objects.count() == 1


def test_plan__with_faults__names_each_by_object_and_field() -> None:
    told = files(
        sources={"readings": {**SOURCE, "uri": "../secrets.parquet"}},
        views={
            "weather": {**VIEW, "expression": "SELECT 1 AS temp"},
            "Storm": {**VIEW},
            "windows": {**VIEW, "aggregations": [{"name": "n", "function": "count", "over": "7d"}], "features": []},
        },
        services={"delay": {"features": ["nowhere.temp"], "owner": "nobody"}},
    )
    with pytest.raises(InvalidInput) as refused:
        planned(told)
    assert {
        "sources.readings.uri",
        "views.weather.sources",
        "views.windows.sources",
        "services.delay.owner",
    } <= set(refused.value.errors)
    with pytest.raises(InvalidInput) as refused:
        planned(files(views={"weather": {**VIEW, "expression": "SELECT now() AS temp FROM readings"}}))
    assert set(refused.value.errors) == {"views.weather.expression"}


def test_plan__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted, match=r"sources\.readings: Only members of the group delay-platform"):
        planned(files(), actor=charlie())


def test_plan__of_a_look_alike__says_who_owns_the_first() -> None:
    applied(files(), publish=True)
    twin = {
        **VIEW,
        "expression": "SELECT r.carrier, r.origin, r.happened, r.arrived, (r.temp) AS warmth, 2 + seats * 3 AS places "
        "FROM readings AS r",
        "features": ["warmth", "places"],
        "owner": PLATFORM,
    }
    plan = review(planned(files(views={"weather": VIEW, "climate": twin})), now=store.at(24 * 25))

    (change,) = plan.to_do
    (alike,) = change.review["look_alikes"]
    assert (alike["feature"], alike["view"], alike["other"], alike["owner"]) == (
        "warmth", "weather@1", "temp", SCIENCE,
    )  # fmt: skip
    assert alike["why"] == "same expression"


def test_plan__of_a_feature_with_the_same_values__is_a_look_alike() -> None:
    applied(files(), publish=True)
    twin = {**VIEW, "features": ["warmth"]}
    twin["expression"] = (
        "SELECT carrier, origin, happened, arrived, CASE WHEN temp > 1000 THEN 0 ELSE temp / 2 * 2 END AS warmth "
        "FROM readings"
    )
    plan = review(planned(files(views={"climate": twin})), now=store.at(24 * 25))

    (alike,) = plan.to_do[0].review["look_alikes"]
    assert (alike["other"], alike["why"], alike["share"]) == ("temp", "same values", 1.0)


def test_apply__when_a_verb_fails__leaves_nothing_behind() -> None:
    told = files(services={"delay": {"features": ["weather.temp"], "owner": SCIENCE}})
    plan = planned(told, publish=True)
    with pytest.raises(InvalidInput):  # no reason to publish
        apply_plan.apply(definitions.read(told), digest=plan.digest, publish=True, reason=" ", actor=author(), now=NOON)
    assert not Entity.objects.exists()


def test_plan__of_a_source_that_views_read__can_not_move() -> None:
    applied(files())
    with pytest.raises(InvalidInput, match="choose another name"):
        planned(files(sources={"readings": {**SOURCE, "uri": "sources/other.parquet"}}))
    assert DataSource.objects.get().uri == SOURCE["uri"]


def test_deprecate__names_what_to_move_to() -> None:
    first = store.published(store.source())
    second = store.published(store.source(), ttl=store.HOUR)

    with pytest.raises(InvalidInput, match="replaced_by"):
        actions.deprecate(first, replaced_by=first, actor=ROBOT, reason="Old.", now=NOON)
    actions.deprecate(first, replaced_by=second, actor=ROBOT, reason="Old.", now=NOON)

    first.refresh_from_db()
    assert (first.state, first.replaced_by) == ("deprecated", second)


WINDOWS: Mapping[str, Any] = {
    **{name: VIEW[name] for name in ("entity", "sources", "event_timestamp", "known_at", "owner")},
    "expression": "SELECT carrier, origin, happened, arrived, temp, wet FROM readings",
    "cadence": "4h",
    "aggregations": [
        {"name": "n_7d", "function": "count", "over": "7d", "description": "Readings of the week."},
        {"name": "temp_2d", "function": "mean", "column": "temp", "over": "2d"},
        {"name": "wet_7d", "function": "share", "column": "wet", "over": "168h"},
    ],
}


def test_plan__of_windows__knows_their_types_and_keeps_their_words() -> None:
    applied(files(views={"week": WINDOWS}))

    version = FeatureViewVersion.objects.get()
    assert version.types == {"n_7d": "int64", "temp_2d": "float64", "wet_7d": "float64"}
    assert version.features[0]["description"] == "Readings of the week."
    assert version.aggregations[0] == {"name": "n_7d", "function": "count", "column": None, "over": 604_800}
    assert planned(files(views={"week": WINDOWS})).to_do == ()


def test_plan__of_a_changed_window__says_so_and_what_it_does_to_values() -> None:
    applied(files(views={"week": WINDOWS}), publish=True)
    longer = {**WINDOWS, "aggregations": [{**WINDOWS["aggregations"][0], "over": "9d"}, *WINDOWS["aggregations"][1:]]}

    plan = review(planned(files(views={"week": longer})), now=store.at(24 * 25))

    (change,) = plan.to_do
    assert change.fields[0].field == "aggregations"
    assert "n_7d = count(*) over 7d" in change.fields[0].before
    assert "n_7d = count(*) over 9d" in change.fields[0].after
    values = change.review["values"]["features"]
    assert values["n_7d"]["differing"] > 0
    assert (values["temp_2d"]["differing"], values["wet_7d"]["differing"]) == (0, 0)
    assert values["temp_2d"]["cells"] == change.review["values"]["rows"] > 0


def test_plan__of_the_same_window_elsewhere__is_a_look_alike() -> None:
    applied(files(views={"week": WINDOWS}), publish=True)
    twin = {**WINDOWS, "aggregations": [{"name": "weekly", "function": "count", "over": "1w"}], "cadence": "1d"}

    plan = review(planned(files(views={"other": twin})), now=store.at(24 * 25))

    assert [each["other"] for each in plan.to_do[0].review["look_alikes"]] == ["n_7d"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cadence": None}, "cadence"),
        ({"ttl": "1d"}, "ttl"),
        ({"features": ["temp"]}, "features"),
        ({"aggregations": [{"name": "n", "function": "count", "over": "900d"}]}, "aggregations"),
        ({"aggregations": [{"name": "n", "function": "median", "over": "9d"}]}, "aggregations"),
        ({"aggregations": [{"name": "n", "function": "sum", "over": "9d"}]}, "aggregations"),
        ({"aggregations": [{"name": "n", "function": "sum", "column": "seats", "over": "9d"}]}, "aggregations"),
        ({"aggregations": [{"name": "n", "function": "share", "column": "temp", "over": "9d"}]}, "aggregations"),
        ({"aggregations": [{"name": "n", "function": "count"}]}, "aggregations"),
    ],
)
def test_plan__of_windows_that_can_not_be__is_refused_by_field(changes: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        planned(files(views={"week": {**WINDOWS, **changes}}))
    assert set(refused.value.errors) == {f"views.week.{field}"}
