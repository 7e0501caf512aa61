"""Engines that agree, one that does not, and one that can not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from audit.errors import InvalidInput
from engines.duckdb_engine import DuckDBEngine
from engines.offline import ViewError, ViewSpec
from features import definitions, offline
from features.actions import plan as planning
from features.actions.review import review
from features.engine_agreement import compare_engines
from tests.builders import ROBOT, group
from tests.features import store
from tests.features.test_plan import VIEW

pytestmark = pytest.mark.django_db

NEWEST = store.at(48)


class Doubling(DuckDBEngine):
    """Another engine, which gets temperatures wrong."""

    name = "doubling"

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        values = super().values(view, as_of=as_of, known_after=known_after)
        wrong = pa.array([None if each is None else 2 * each for each in values.column("temp").to_pylist()])
        return values.set_column(values.column_names.index("temp"), "temp", wrong)


class Unable(DuckDBEngine):
    name = "unable"

    def point_in_time(self, *args: Any, **kwargs: Any) -> pa.Table:
        raise ViewError("unable: ln(0) means something else here")


def spec() -> ViewSpec:
    rows = [store.reading(hour, origin=f"A{hour % 5}", temp=float(hour)) for hour in range(48)]
    return offline.view_spec(store.applied(store.source(rows)))


def test_one_engine__has_nothing_to_agree_with() -> None:
    assert compare_engines([DuckDBEngine()], spec(), newest=NEWEST) is None


def test_two_that_agree__pass_with_their_numbers() -> None:
    found = compare_engines([DuckDBEngine(), DuckDBEngine()], spec(), newest=NEWEST)

    assert found is not None
    assert (found["verdict"], found["differing"]) == ("passed", 0)
    assert found["cells"] > 100


def test_two_that_differ__fail_with_an_example() -> None:
    found = compare_engines([DuckDBEngine(), Doubling()], spec(), newest=NEWEST)

    assert found is not None
    assert found["verdict"] == "failed"
    assert found["examples"][0]["column"] == "temp"
    assert "differ in" in found["summary"]


def test_plan__of_a_view_that_two_engines_compute_differently__is_refused() -> None:
    store.source([store.reading(hour, origin=f"A{hour % 5}", temp=float(hour)) for hour in range(48)])
    store.entity()
    group("delay-science")
    wanted = planning.plan(definitions.read({"views": {"weather": VIEW}}), publish=False, actor=ROBOT)

    agreed = review(wanted, now=NEWEST, engines=[DuckDBEngine(), DuckDBEngine()])
    assert agreed.to_do[0].review["conformance"]["verdict"] == "passed"
    with pytest.raises(InvalidInput, match="differ in") as refused:
        review(wanted, now=NEWEST, engines=[DuckDBEngine(), Doubling()])
    assert set(refused.value.errors) == {"views.weather.expression"}


def test_one_that_can_not__fails_with_its_reason() -> None:
    found = compare_engines([DuckDBEngine(), Unable()], spec(), newest=NEWEST)

    assert found is not None
    assert (found["verdict"], found["summary"]) == ("failed", "unable: ln(0) means something else here")
