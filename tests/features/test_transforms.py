"""On-demand features: defined once, the same cells in training and in serving."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import InvalidInput, NotPermitted
from audit.models import Event
from features import actions, cells, materialize, offline, online, transforms
from features.models import FeatureService, OnDemandTransform
from tests.builders import NOON, ROBOT, alice, charlie, group
from tests.features import store

pytestmark = pytest.mark.django_db

CHILL = """
def chill(wind, tag: str, weather__temp, weather__seats, weather__tag: str):
    felt = weather__temp - np.sqrt(np.abs(wind)) * 2
    return {
        "felt": felt,
        "cold": felt < 0,
        "rows": np.floor(weather__seats / 6),
        "tag": np.where(tag == weather__tag, tag, "other"),
    }
"""
GIVEN = [
    {"name": "felt", "dtype": "float64"},
    {"name": "cold", "dtype": "bool"},
    {"name": "rows", "dtype": "int64"},
    {"name": "tag", "dtype": "string"},
]


def defined(code: str = CHILL, **changes: Any) -> OnDemandTransform:
    fields: dict[str, Any] = {"features": GIVEN, "owner": group("delay-science"), "actor": ROBOT, "now": NOON}
    return actions.define_transform(name="chill", code=code, **fields | changes)


def service(**changes: Any) -> FeatureService:
    fields: dict[str, Any] = {"request_features": ["wind", "tag"], "transforms": ["chill"]}
    return store.service("weather.temp", "weather.seats", "weather.tag", **fields | changes)


def test_define_transform__is_once_by_what_it_does() -> None:
    first = defined()

    assert (str(first), first.inputs[0], first.columns[0]) == ("chill@1", "wind", "chill__felt")
    assert defined(CHILL.replace("felt < 0,", "(felt) < 0.0,  # freezing")) == first
    assert str(defined(CHILL.replace("felt < 0", "felt < 1"))) == "chill@2"
    assert Event.objects.filter(name="on_demand_transform.defined").count() == 2


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"code": "def f(x):\n    import os\n"}, "code", "line 2: imports"),
        ({"features": []}, "features", "at least one"),
        ({"features": GIVEN[:3]}, "features", "The function returns felt, cold, rows, tag"),
        ({"features": [{**GIVEN[0], "dtype": "int64"}, *GIVEN[1:]]}, "features", "its dtype is float64, not int64"),
        ({"features": [{"name": "felt"}, *GIVEN[1:]]}, "features", "not None"),
    ],
)
def test_define_transform__what_does_not_fit__is_refused(changes: Any, field: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        defined(**changes)
    assert set(refused.value.errors) == {field}


def test_define_transform__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted):
        defined(actor=charlie())


def test_service__pins_the_newest_transform__and_its_hash_knows_it() -> None:
    store.published(store.source())
    without = service(transforms=[])
    defined()
    first = service()
    defined(CHILL.replace("* 2", "* 3"))
    second = service()

    assert without.vector == ("wind", "tag", "weather__temp", "weather__seats", "weather__tag")
    assert first.vector == (*without.vector, "chill__felt", "chill__cold", "chill__rows", "chill__tag")
    assert [str(each) for each in (without, first, second)] == ["delay@1", "delay@2", "delay@3"]
    assert len({without.content_hash, first.content_hash, second.content_hash}) == 3
    assert str(FeatureService.objects.get(number=2).transforms.get()) == "chill@1"


def test_service__whose_transform_lacks_a_column__is_refused() -> None:
    store.published(store.source())
    defined()
    with pytest.raises(InvalidInput, match="chill takes tag: name it"):
        service(request_features=["wind"])
    with pytest.raises(InvalidInput, match="There is no transform heat"):
        service(transforms=["heat"])


def test_training_frame__has_the_computed_columns_in_their_types__and_a_snapshot_keeps_them() -> None:
    store.published(store.source([store.reading(1, temp=4.0, seats=13)]))
    defined()
    frame = store.asked(store.at(0), store.at(2)).append_column("wind", pa.array([4, 4]))
    frame = frame.append_column("tag", pa.array(["x", "x"]))

    training = offline.training_frame(service(), frame, timestamp="asked", as_of=NOON)

    assert training.column("chill__felt").to_pylist() == [None, 0.0]
    assert training.column("chill__rows").to_pylist() == [None, 2]
    assert training.column("chill__tag").to_pylist() == ["other", "x"]
    assert [str(training.schema.field(f"chill__{each['name']}").type) for each in GIVEN] == [
        "double", "bool", "int64", "string",
    ]  # fmt: skip
    labelled = training.append_column("late", pa.array([0, 1]))
    dataset = actions.snapshot(
        service=service(), table=labelled, label="late", timestamp="asked", purpose="training", as_of=NOON,
        actor=alice(), now=NOON,
    )  # fmt: skip
    assert offline.load(dataset).column("chill__felt").to_pylist() == [None, 0.0]


def test_apply__without_a_request_feature__is_refused_by_name() -> None:
    store.published(store.source())
    defined()
    with pytest.raises(InvalidInput) as refused:
        transforms.apply(service(), pa.table({"wind": pa.array([1.0])}))
    assert "tag" in refused.value.errors


def test_online__of_transforms_that_take_stored_values_alone__answers_like_training() -> None:
    store.published(store.source([store.reading(1, temp=4.0)]))
    code = "def chill(weather__temp):\n    return {'felt': weather__temp * 2}"
    defined(code, features=[{"name": "felt", "dtype": "float64"}])
    taken = store.service("weather.temp", transforms=["chill"])
    (version,) = {each.view_version for each in taken.pinned()}
    materialize.materialize(version, now=store.at(3))

    keys = {"origin": "EWR", "carrier": "UA"}
    assert online.vectors(taken, [keys], now=store.at(3)).rows == [[4.0, 8.0]]
    assert online.read(taken, pa.Table.from_pylist([keys]), now=store.at(3)).to_pylist()[0]["chill__felt"] == 8.0


FLOATS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))
STORED = st.lists(
    st.tuples(FLOATS, st.one_of(st.none(), st.integers(-(2**62), 2**62)), st.sampled_from([None, "x", "y"])),
    min_size=1,
    max_size=8,
)
REQUESTS = st.lists(
    st.tuples(st.integers(0, 9), st.one_of(FLOATS, st.integers(-5, 5)), st.sampled_from([None, "x", "z"])),
    min_size=1,
    max_size=12,
)


@given(STORED, REQUESTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_and_serving__on_random_rows_with_nulls__give_the_same_cells(
    stored: list[tuple[Any, Any, Any]], requests: list[tuple[int, Any, Any]]
) -> None:
    name = f"weather{abs(hash((tuple(stored), tuple(requests))))}"
    rows = [
        store.reading(1, origin=f"A{at}", temp=temp, seats=seats, tag=tag)
        for at, (temp, seats, tag) in enumerate(stored)
    ]
    store.published(store.source(rows, name=name), name=name)
    defined(CHILL.replace("weather__", f"{name}__"))
    taken = store.service(
        *(f"{name}.{each}" for each in ("temp", "seats", "tag")),
        name=name, request_features=["wind", "tag"], transforms=["chill"],
    )  # fmt: skip
    (version,) = {each.view_version for each in taken.pinned()}
    materialize.materialize(version, now=store.at(3))
    asked = [
        {"carrier": "UA", "origin": f"A{at}", "wind": None if wind is None else float(wind), "tag": tag}
        for at, wind, tag in requests
    ]

    trained = offline.training_frame(taken, _frame(asked, store.at(3)), timestamp="asked", as_of=NOON)
    served = online.vectors(taken, asked, now=store.at(3))
    alone = [online.vectors(taken, [each], now=store.at(3)).rows[0] for each in asked]

    columns = list(taken.vector[2:])
    assert list(served.names) == columns
    assert served.rows == alone
    for at, column in enumerate(columns):
        dtype = trained.schema.field(column).type
        assert not cells.differing(
            trained.column(column), pa.chunked_array([pa.array([row[at] for row in served.rows], dtype)])
        ).any(), column


def _frame(asked: list[dict[str, Any]], at: datetime) -> pa.Table:
    schema = pa.schema(
        [("carrier", pa.string()), ("origin", pa.string()), ("wind", pa.float64()), ("tag", pa.string())]
    )
    times = pa.array([at] * len(asked), pa.timestamp("us", "UTC"))
    return pa.Table.from_pylist(asked, schema=schema).append_column("asked", times)
