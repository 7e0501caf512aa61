"""Served against recomputed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from audit.errors import InvalidInput
from features import actions, online
from features.consistency import check, compare, keep, sampled, standings
from features.materialize import materialize
from features.models import ConsistencyCheck, FeatureService, FeatureViewVersion
from tests.builders import NOON, ROBOT, group
from tests.features.store import HOUR, asked, at, published, reading, service, source, write_source

pytestmark = pytest.mark.django_db


def served_at(pinned: FeatureService, *hours: float) -> pa.Table:
    """What the prediction log holds after a request at each of these hours, each just after a materialization."""
    parts = []
    for hour in hours:
        for feature in {each.view_version for each in pinned.pinned()}:
            materialize(feature, now=at(hour))
        frame = asked(at(hour))
        got = online.read(pinned, frame, now=at(hour))
        parts.append(
            pa.table(
                {
                    **{n: frame.column(n) for n in frame.column_names},
                    **dict(zip(got.column_names, got.columns, strict=True)),
                }
            )
        )
    return pa.concat_tables(parts)


def test_check__honest_view__no_cell_differs() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(6)), reading(5)]), cadence=HOUR)
    (result,) = check(
        service("weather.temp", "weather.tag"),
        served_at(service("weather.temp", "weather.tag"), 1, 3, 5, 7),
        timestamp="asked",
        now=at(20),
    )
    assert (result.cells, result.differing, result.examples) == (8, 0, [])


def test_check__view_that_claims_to_have_known__differs_and_shows_where() -> None:
    rows = [reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(6))]
    published(source(rows), known_at="happened", lookback=None)
    (result,) = check(service(), served_at(service(), 1, 3), timestamp="asked", now=at(20))
    assert (result.cells, result.differing) == (2, 1)
    assert result.examples == [
        {
            "entity": {"carrier": "UA", "origin": "EWR"},
            "at": str(at(3)),
            "feature": "temp",
            "served": "1.0",
            "recomputed": "2.0",
        }
    ]


def test_check__served_before_its_materialization__differs() -> None:
    version = published(source([reading(1, temp=1.0)]), cadence=HOUR)
    stale = asked(at(2)).append_column("weather__temp", pa.array([None], pa.float64()))
    (result,) = check(service(), stale, timestamp="asked", now=at(3))
    assert (result.view_version, result.differing) == (version, 1)


def test_check__nan_in_the_log_for_null__is_no_difference() -> None:
    published(source([reading(5)]))
    logged = asked(at(2)).append_column("weather__temp", pa.array([float("nan")]))
    (result,) = check(service(), logged, timestamp="asked", now=at(3))
    assert result.differing == 0


def test_check__two_views__one_result_each() -> None:
    origin = source([reading(1)])
    published(origin)
    published(origin, name="wind")
    pinned = service("weather.temp", "wind.tag", "wind.wet")
    results = check(pinned, served_at(pinned, 2), timestamp="asked", now=at(3))
    assert {str(each.view_version): each.cells for each in results} == {"weather@1": 1, "wind@1": 2}


def test_check__nothing_served__gives_no_result() -> None:
    published(source([reading(1)]))
    assert check(service(), served_at(service(), 2).slice(0, 0), timestamp="asked", now=at(3)) == []


def test_check__more_rows_than_the_sample__takes_them_from_the_whole_period() -> None:
    write_source("readings", [])
    published(source([reading(1)]))
    frame = asked(*(at(hour) for hour in range(100))).append_column("weather__temp", pa.array([1.0] * 100))
    (result,) = check(service(), frame, timestamp="asked", now=at(200), sample=10)
    assert (result.cells, result.differing) == (10, 1)  # the first, asked before anything was known


def test_check__log_without_a_column__names_it() -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput, match="weather__temp"):
        check(service(), asked(at(2)), timestamp="asked", now=at(3))


def logged(*values: float | None, hours: tuple[float, ...]) -> pa.Table:
    """What was served of ``weather__temp`` at these hours."""
    return asked(*(at(hour) for hour in hours)).append_column("weather__temp", pa.array(values, pa.float64()))


def test_check__value_of_the_slot_before__is_late_for_half_an_hour_then_wrong() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0)]), cadence=HOUR)
    served = logged(1.0, 1.0, 1.0, 2.0, hours=(1.9, 2.4, 2.6, 2.7))
    (result,) = check(service(), served, timestamp="asked", now=at(3))
    assert result.features == {"temp": {"cells": 4, "differing": 1, "late": 1}}
    assert [example["at"] for example in result.examples] == [str(at(2.6))]


def test_check__without_a_cadence__what_the_last_materialization_knew_is_late() -> None:
    version = published(source([reading(1, temp=1.0), reading(2.1, temp=2.0)]))
    for hour in (1.5, 2.0):
        materialize(version, now=at(hour))
    (result,) = check(service(), logged(1.0, 7.0, hours=(2.3, 2.3)), timestamp="asked", now=at(3))
    assert result.features == {"temp": {"cells": 2, "differing": 1, "late": 1}}


def test_check__several_features__are_counted_each_and_all_shown() -> None:
    published(source([reading(1, temp=1.0, seats=4, tag="x")]))
    pinned = service("weather.temp", "weather.seats", "weather.tag")
    served = pa.table(
        {
            **{name: asked(*[at(2)] * 20).column(name) for name in ("origin", "carrier", "asked")},
            "weather__temp": pa.array([1.0] * 12 + [9.0] * 8),
            "weather__seats": pa.array([4] * 19 + [5]),
            "weather__tag": pa.array(["x"] * 20),
        }
    )
    (result,) = check(pinned, served, timestamp="asked", now=at(3))
    assert {name: each["differing"] for name, each in result.features.items()} == {"temp": 8, "seats": 1, "tag": 0}
    assert {each["feature"] for each in result.examples} == {"temp", "seats"}
    assert set(result.broken) == {"temp", "seats"}


def test_check__strange_entity__is_shown_as_far_as_a_database_can_hold_it() -> None:
    published(source([reading(1)]))
    served = asked(at(2), origin="E\0" + "W" * 500).append_column("weather__temp", pa.array([9.0]))
    (result,) = check(service(), served, timestamp="asked", now=at(3))
    assert result.examples[0]["entity"]["origin"] == "E" + "W" * 199


def test_compare__model_takes_a_part_of_its_service__only_that_is_compared() -> None:
    published(source([reading(1, temp=1.0)]))
    pinned = service("weather.temp", "weather.tag", request_features=["amount"])
    (found,) = compare(pinned, logged(1.0, hours=(2,)), timestamp="asked", as_of=at(3))
    assert list(found.features) == ["temp"]


WARM = """
def warmer(weather__temp, amount):
    return {"sum": weather__temp + amount}
"""


def served_warmer(*sums: float) -> pa.Table:
    """What was served of an on-demand feature two hours in, when the temperature was 1 and 10 came with the request."""
    rows = asked(*[at(2)] * len(sums)).append_column("amount", pa.array([10.0] * len(sums)))
    return rows.append_column("warmer__sum", pa.array(sums))


def of_warmer(**changes: Any) -> FeatureService:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(2))]), **changes)
    owner = group("delay-science")
    described = [{"name": "sum", "dtype": "float64"}]
    actions.define_transform(name="warmer", code=WARM, features=described, owner=owner, actor=ROBOT, now=NOON)
    return service("weather.temp", request_features=["amount"], transforms=["warmer"])


def test_compare__on_demand_feature__is_recomputed_and_counted_with_the_view_that_feeds_it() -> None:
    (found,) = compare(of_warmer(), served_warmer(12.0, 13.0), timestamp="asked", as_of=at(3))
    assert str(found.version) == "weather@1"
    assert found.features["warmer__sum"].as_dict() == {"cells": 2, "differing": 1, "late": 0}
    assert found.examples[0]["feature"] == "warmer__sum"


def test_compare__on_demand_feature_of_a_value_that_was_on_its_way__is_late() -> None:
    (found,) = compare(of_warmer(cadence=HOUR), served_warmer(11.0, 12.0), timestamp="asked", as_of=at(3))
    assert found.features["warmer__sum"].as_dict() == {"cells": 2, "differing": 0, "late": 1}


def test_compare__what_an_on_demand_feature_took_was_not_logged__leaves_it_out() -> None:
    served = served_warmer(12.0).drop_columns(["amount"]).append_column("weather__temp", pa.array([2.0]))
    (found,) = compare(of_warmer(), served, timestamp="asked", as_of=at(3))
    assert list(found.features) == ["temp"]


def test_keep__served_in_two_places__is_one_check() -> None:
    published(source([reading(1, temp=1.0)]))
    tables = (logged(1.0, hours=(2,)), logged(1.0, 5.0, hours=(2, 2)))
    found = [each for table in tables for each in compare(service(), table, timestamp="asked", as_of=at(3))]
    (result,) = keep(found, now=at(3), since=at(0))
    assert (result.cells, result.differing, result.since) == (3, 1, at(0))


def test_sampled__asked_again_or_in_other_order__takes_the_same_rows() -> None:
    rows = pa.table({"request_id": [f"r{number}" for number in range(1000)], "value": range(1000)})
    first = sampled(rows, by=["request_id"], size=50)
    again = sampled(rows.take(list(range(999, -1, -1))), by=["request_id"], size=50)
    assert first.num_rows == 50
    assert set(first["value"].to_pylist()) == set(again["value"].to_pylist()) != set(range(50))


def audited(version: FeatureViewVersion, hour: float, cells: int, differing: int) -> None:
    counts = {"temp": {"cells": cells, "differing": differing, "late": 0}}
    ConsistencyCheck.objects.create(
        view_version=version, at=at(hour), cells=cells, differing=differing, features=counts
    )


def test_standings__clean_after_a_breach__is_over_when_enough_cells_agreed() -> None:
    version = published(source([reading(1)]))
    audited(version, 1, 500, 10)  # one in fifty: 150 clean cells show that it is over
    audited(version, 2, 100, 0)
    found = standings(version, since=at(0), until=at(2))["temp"]
    assert (found.differing, found.clean, found.needed, found.is_broken) == (10, 100, 150, True)
    audited(version, 3, 50, 0)
    assert not standings(version, since=at(0), until=at(3))["temp"].is_broken


def test_standings__breach_longer_ago_than_asked_for__does_not_count() -> None:
    version = published(source([reading(1)]))
    audited(version, 1, 500, 10)
    audited(version, 5, 2, 0)
    found = standings(version, since=at(4), until=at(6))["temp"]
    assert (found.cells, found.is_broken) == (2, False)


def test_standings__within_the_views_limit__is_not_broken() -> None:
    version = published(source([reading(1)]))
    version.view.consistency_limit = 0.02
    audited(version, 1, 500, 10)
    assert not standings(version, since=at(0), until=at(2))["temp"].is_broken
