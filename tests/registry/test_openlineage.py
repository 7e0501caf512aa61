"""What an OpenLineage event says, without a database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from registry import openlineage as spec
from tests.builders import NOON
from tests.registry import lineage_events as events

WAREHOUSE, ETL = events.WAREHOUSE, events.ETL
RAW, PLANES, CLEAN = (("dataset", WAREHOUSE, name) for name in (events.RAW, events.PLANES, events.CLEAN))
TASK = ("job", ETL, "clean_flights")


def read(document: Any) -> spec.Told:
    return spec.read(document, not_after=NOON)


def refused(document: Any) -> set[str]:
    with pytest.raises(spec.Malformed) as problem:
        read(document)
    return set(problem.value.errors)


def said(document: dict[str, Any]) -> spec.Statements:
    return spec.statements(document, read(document).kind)


def test_read__the_three_kinds__are_told_by_their_shape() -> None:
    kinds = [read(each) for each in (events.run_event("START"), events.job_event(), events.dataset_event())]
    assert [(each.kind, each.event_type) for each in kinds] == [("run", "START"), ("job", ""), ("dataset", "")]
    assert {each.event_time for each in kinds} == {NOON}


def test_digest__order_of_members__does_not_count() -> None:
    event = events.run_event()
    assert read(dict(reversed(event.items()))).digest == read(event).digest
    assert read(events.run_event(hours=-1)).digest != read(event).digest


def test_digest__integer_that_no_double_holds__is_kept_all_the_same() -> None:
    huge = events.run_event() | {"run": {"runId": events.RUN, "facets": {"x": {"at": 2**63}}}}
    assert len(read(huge).digest) == 64


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"eventTime": "yesterday"}, {"eventTime"}),
        ({"eventTime": "2013-04-01T12:00:00"}, {"eventTime"}),
        ({"eventTime": "2013-04-01"}, {"eventTime"}),
        ({"eventTime": "9999-12-31T23:59:59-14:00"}, {"eventTime"}),
        ({"eventTime": 5}, {"eventTime"}),
        ({"producer": ""}, {"producer"}),
        ({"producer": None}, {"producer"}),
        ({"eventType": "DONE"}, {"eventType"}),
        ({"run": {"runId": "seven"}}, {"run.runId"}),
        ({"run": {"runId": ["x"]}}, {"run.runId"}),
        ({"run": "x"}, {"run"}),
        ({"job": None}, {"job"}),
        ({"job": {"namespace": "x" * 301, "name": " "}}, {"job.namespace", "job.name"}),
        ({"job": {"namespace": "a", "name": "b", "facets": []}}, {"job.facets"}),
        ({"inputs": {}}, {"inputs"}),
        ({"inputs": [3]}, {"inputs.0"}),
        ({"outputs": [{"namespace": "a", "name": "b"}, {"name": "b"}]}, {"outputs.1.namespace"}),
        ({"note": "a\0b"}, {"body"}),
        ({"note": float("inf")}, {"body"}),
        ({"note": "\ud800"}, {"body"}),
    ],
)
def test_read__wrong_field__is_named(changes: dict[str, Any], fields: set[str]) -> None:
    assert refused(events.run_event() | changes) == fields


def test_read__what_is_no_event__is_refused() -> None:
    assert refused([]) == {"body"}
    assert refused({}) == {"job", "eventTime", "producer"}
    nested: Any = {}
    for _ in range(60):
        nested = {"x": nested}
    assert refused(events.run_event(more=nested)) == {"body"}


def test_read__clock_ahead__is_believed_for_a_day_only() -> None:
    assert read(events.run_event(hours=20)).event_time == NOON + timedelta(hours=20)
    assert refused(events.run_event(hours=30)) == {"eventTime"}


def test_read__nanoseconds_and_another_zone__are_utc() -> None:
    told = read(events.run_event(eventTime="2013-04-01T10:00:00.123456789+10:00"))
    assert told.event_time == datetime.fromisoformat("2013-04-01T00:00:00.123456+00:00")


def test_statements__run__takes_inputs_and_makes_outputs() -> None:
    found = said(events.run_event())
    assert {each.key for each in found.nodes} == {RAW, PLANES, CLEAN, TASK}
    assert set(found.flows) == {(RAW, TASK), (PLANES, TASK), (TASK, CLEAN)}
    assert found.run_id == events.RUN


def test_statements__column_lineage__adds_flows_between_datasets() -> None:
    made = events.made_from(delay=(events.RAW, "arr_delay"), seats=(events.PLANES, "seats"))
    found = said(events.dataset_event(columnLineage=made))
    assert set(found.flows) == {(RAW, CLEAN), (PLANES, CLEAN)}
    assert spec.columns(made) == {RAW: {"delay": ["arr_delay"]}, PLANES: {"seats": ["seats"]}}


def test_statements__unknown_and_statistical_facets__are_left_in_the_event() -> None:
    event = events.dataset_event(schema=events.schema("a"), myCompany_quality={"score": 1})
    (node,) = said(event).nodes
    assert node.facets == {"schema": {"fields": [{"name": "a", "type": "text"}]}}


@pytest.mark.parametrize(
    "broken",
    [
        "text",
        {"fields": []},
        {"fields": {"a": 1}},
        {"fields": {"a": {"inputFields": [{"namespace": "n"}]}}},
        {"fields": {"a": {"inputFields": {}}}},
    ],
)
def test_statements__facet_that_can_not_be_read__costs_only_itself(broken: Any) -> None:
    found = said(
        events.run_event(outputs=[events.dataset(events.CLEAN, schema=events.schema("a"), columnLineage=broken)])
    )
    assert len(found.problems) == 1
    assert found.problems[0].startswith("outputs.0.facets.columnLineage: ")
    assert set(found.flows) == {(RAW, TASK), (PLANES, TASK), (TASK, CLEAN)}
    assert "schema" in next(each for each in found.nodes if each.key == CLEAN).facets


def test_columns__whole_dataset__stands_under_a_star() -> None:
    facet = {"fields": {}, "dataset": [{"namespace": WAREHOUSE, "name": events.RAW, "field": "id"}]}
    assert spec.columns(facet) == {RAW: {spec.WHOLE: ["id"]}}
