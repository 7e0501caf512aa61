"""Events of other tools are kept once and folded into one graph, in whatever order they come."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from features.models import DataSource
from jobs.drain import drain
from registry.actions import openlineage as actions
from registry.models import ExternalEdge, ExternalNode, LineageEvent
from tests.builders import NOON, charlie, group, person, pete
from tests.registry import lineage_events as events

pytestmark = pytest.mark.django_db


def received(*documents: Any, actor: User | None = None) -> actions.Received:
    sender = actor or person("airflow")
    return actions.receive(documents, actor=sender, latest=NOON, now=NOON)


def folded(*documents: Any) -> None:
    received(*documents)
    actions.fold_waiting(now=NOON)


def graph() -> dict[str, Any]:
    """All that was folded, without primary keys."""
    return {
        "nodes": list(
            ExternalNode.objects.values_list("kind", "namespace", "name", "facts", "first_seen", "last_seen")
        ),
        "edges": sorted(
            ExternalEdge.objects.values_list(
                "upstream__name", "downstream__name", "run_id", "columns", "first_seen", "last_seen"
            ),
            key=str,
        ),
    }


def flows() -> set[tuple[str, str]]:
    return set(ExternalEdge.objects.values_list("upstream__name", "downstream__name"))


def source(name: str = "flights") -> DataSource:
    return DataSource.objects.create(
        name=name, uri=f"sources/{name}.parquet", event_timestamp="at", owner=group("delay-platform")
    )


def node(name: str = events.CLEAN, namespace: str = events.WAREHOUSE) -> ExternalNode:
    return ExternalNode.objects.get(kind="dataset", namespace=namespace, name=name)


# ---------------------------------------------------------------------- taken in


def test_receive__new_events__are_kept_as_sent_with_one_trail_event() -> None:
    sent = [events.run_event("START"), events.run_event("COMPLETE", hours=1)]
    found = received(*sent)
    assert (len(found.stored), found.repeated, found.refused) == (2, 0, {})
    kept = LineageEvent.objects.order_by("id")
    assert [each.body for each in kept] == sent
    assert {each.received_by.username for each in kept} == {"airflow"}
    trail = Event.objects.get(name="lineage.received")
    assert trail.actor is not None
    assert trail.actor.get_username() == "airflow"
    assert (trail.data["received"], trail.data["stored"], trail.data["refused"]) == (2, 2, 0)


def test_receive__the_same_event_again__is_one_row_and_no_second_trail_event() -> None:
    received(events.run_event())
    again = received(dict(reversed(events.run_event().items())), events.run_event())
    assert (again.stored, again.repeated) == ((), 2)
    assert LineageEvent.objects.count() == 1
    assert Event.objects.filter(name="lineage.received").count() == 1


def test_receive__wrong_event_in_a_batch__stops_no_other() -> None:
    found = received(events.run_event(), {"nonsense": True}, events.job_event())
    assert len(found.stored) == 2
    assert list(found.refused) == [1]
    assert Event.objects.get(name="lineage.received").data["refused"] == 1


def test_receive__more_than_a_thousand__are_refused() -> None:
    with pytest.raises(InvalidInput, match="1000"):
        received(*[events.run_event()] * 1001)


def test_receive__asks_for_folding() -> None:
    received(events.run_event())
    drain()
    assert LineageEvent.objects.get().folded_at is not None
    assert ExternalNode.objects.count() == 4


# ---------------------------------------------------------------------- folded


def test_fold__run__joins_inputs_task_and_outputs() -> None:
    folded(events.run_event())
    task = "clean_flights"
    assert flows() == {(events.RAW, task), (events.PLANES, task), (task, events.CLEAN)}
    assert set(ExternalEdge.objects.values_list("run_id", flat=True)) == {events.RUN}


def test_fold__job_and_dataset_events__tell_the_same_graph_without_a_run() -> None:
    folded(events.job_event(), events.dataset_event(columnLineage=events.made_from(delay=(events.RAW, "arr_delay"))))
    assert (events.RAW, events.CLEAN) in flows()
    edge = ExternalEdge.objects.get(upstream__name=events.RAW, downstream__name=events.CLEAN)
    assert edge.columns == {"delay": ["arr_delay"]}
    assert edge.run_id == ""


def test_fold__any_order__gives_the_same_graph() -> None:
    lineage = [events.made_from(delay=(events.RAW, "arr_delay")), events.made_from(seats=(events.PLANES, "seats"))]
    told = [
        events.run_event(hours=0, outputs=[events.dataset(events.CLEAN, schema=events.schema("a"))]),
        events.dataset_event(hours=1, columnLineage=lineage[0], schema=events.schema("a", "b")),
        events.dataset_event(hours=2, columnLineage=lineage[1]),
        events.run_event(hours=3, run="0176a8c2-fe01-7439-87e6-56a1a1b40300"),
    ]
    graphs = []
    for order in permutations(told):
        with transaction.atomic():
            folded(*order)
            graphs.append(graph())
            transaction.set_rollback(True)
    assert all(each == graphs[0] for each in graphs)
    assert len(graphs[0]["nodes"]) == 4


def test_fold__older_event__does_not_overwrite_newer_facts() -> None:
    folded(events.dataset_event(hours=2, schema=events.schema("new")))
    folded(events.dataset_event(hours=1, schema=events.schema("old"), documentation=events.facet("D", description="x")))
    found = node()
    assert found.facts["schema"]["fields"][0]["name"] == "new"
    assert found.facts["documentation"] == {"description": "x"}
    assert (found.first_seen, found.last_seen) == (NOON + timedelta(hours=1), NOON + timedelta(hours=2))


def test_fold__deleted_facet__is_gone_and_stays_gone() -> None:
    folded(events.dataset_event(hours=2, schema={"_deleted": True}))
    folded(events.dataset_event(hours=1, schema=events.schema("old")))
    assert "schema" not in node().facts


def test_fold__column_lineage_withdrawn__empties_the_columns_and_keeps_the_flow() -> None:
    folded(events.dataset_event(hours=1, columnLineage=events.made_from(delay=(events.RAW, "arr_delay"))))
    folded(events.dataset_event(hours=2, columnLineage=events.made_from(seats=(events.PLANES, "seats"))))
    edges = ExternalEdge.objects.filter(downstream__name=events.CLEAN)
    assert {each.upstream.name: each.columns for each in edges} == {events.RAW: {}, events.PLANES: {"seats": ["seats"]}}


def test_fold__again__changes_nothing() -> None:
    folded(events.run_event(), events.dataset_event(schema=events.schema("a")))
    before = graph()
    assert actions.fold_waiting(now=NOON) == 0
    assert not actions.fold(LineageEvent.objects.all()[0].pk, now=NOON)
    assert graph() == before


def test_fold__broken_facet__is_noted_and_the_rest_is_folded() -> None:
    broken = events.run_event(outputs=[events.dataset(events.CLEAN, columnLineage={"fields": 7})])
    received(broken, events.dataset_event("other"))
    assert actions.fold_waiting(now=NOON) == 2
    problems = dict(LineageEvent.objects.values_list("kind", "problem"))
    assert problems["dataset"] == ""
    assert problems["run"].startswith("outputs.0.facets.columnLineage: ")
    assert ("clean_flights", events.CLEAN) in flows()


def test_fold__event_of_a_release_that_was_less_strict__is_noted_and_stops_nobody() -> None:
    received(events.run_event())
    (kept,) = LineageEvent.objects.all()
    kept.pk, kept.digest, kept.body = None, "0" * 64, {"job": {"namespace": "x"}}
    kept.save(force_insert=True)
    received(events.dataset_event("other"))
    assert actions.fold_waiting(now=NOON) == 3
    assert "job.name" in LineageEvent.objects.get(digest="0" * 64).problem
    assert ExternalNode.objects.filter(name="other").exists()


def test_fold__run_id_in_another_spelling__is_one_run() -> None:
    folded(events.run_event(run=f"urn:uuid:{events.RUN.upper()}"))
    assert set(ExternalEdge.objects.values_list("run_id", flat=True)) == {events.RUN}


def test_lineage_event__what_was_sent__can_not_be_changed() -> None:
    received(events.run_event())
    with pytest.raises(IntegrityError), transaction.atomic():
        LineageEvent.objects.update(body={})
    with pytest.raises(IntegrityError), transaction.atomic():
        LineageEvent.objects.all().delete()


# ---------------------------------------------------------------------- where the graphs join


def test_fold__dataset_of_our_namespace__is_our_source() -> None:
    source()
    folded(
        events.dataset_event("flights", namespace="gatehouse"), events.dataset_event("planes", namespace="gatehouse")
    )
    assert str(node("flights", "gatehouse").source) == "flights"
    assert node("planes", "gatehouse").source is None

    source("planes")
    actions.fold_waiting(now=NOON)
    assert str(node("planes", "gatehouse").source) == "planes"


def test_fold__model_with_the_name_of_a_source__is_not_that_source() -> None:
    source()
    kind = events.facet("DatasetTypeDatasetFacet", datasetType="MODEL")
    folded(events.dataset_event("flights", hours=1, namespace="gatehouse"))
    folded(events.dataset_event("flights", hours=0, namespace="gatehouse", datasetType=kind))
    actions.fold_waiting(now=NOON)
    assert node("flights", "gatehouse").source is None


def test_link_source__by_its_owner__joins_and_unlink_ends_it() -> None:
    folded(events.run_event())
    flights, found = source(), node()
    actions.link_source(found, flights, actor=pete(), reason="It is the same table.", now=NOON)
    assert found.source == flights
    event = Event.objects.get(name="external_node.linked")
    assert (event.reason, event.data) == ("It is the same table.", {"source": "flights"})

    folded(events.run_event(hours=1))
    found.refresh_from_db()
    assert found.source == flights, "folding more events leaves what a person said"

    actions.unlink_source(found, actor=pete(), reason="It was the wrong one.", now=NOON)
    assert found.source is None
    assert Event.objects.about(found).count() == 2


def test_link_source__refusals__change_nothing() -> None:
    folded(events.run_event(), events.dataset_event("flights", namespace="gatehouse"))
    flights, found = source(), node()
    task = ExternalNode.objects.get(kind="job")
    refusals: list[tuple[type[Exception], ExternalNode, User, str]] = [
        (NotPermitted, found, charlie(), "Mine."),
        (InvalidInput, found, pete(), "  "),
        (InvalidInput, task, pete(), "A job."),
        (Conflict, node("flights", "gatehouse"), pete(), "By name only."),
    ]
    for error, which, actor, reason in refusals:
        with pytest.raises(error):
            actions.link_source(which, flights, actor=actor, reason=reason, now=NOON)
    actions.link_source(found, flights, actor=pete(), reason="It is.", now=NOON)
    with pytest.raises(Conflict):
        actions.link_source(found, flights, actor=pete(), reason="Twice.", now=NOON)
    assert Event.objects.filter(name__startswith="external_node").count() == 1
