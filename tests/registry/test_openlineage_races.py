"""Many pipelines tell us at once, and many workers fold. Threads and row locks: PostgreSQL only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from audit.models import Event
from registry.actions import openlineage as actions
from registry.models import ExternalEdge, ExternalNode, LineageEvent
from tests.builders import NOON, person
from tests.races import THREADS, race
from tests.registry import lineage_events as events

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_receive__one_event_from_eight_at_once__is_one_row_and_one_trail_event() -> None:
    sender = person("airflow")
    outcomes = race(lambda n: actions.receive([events.run_event()], actor=sender, latest=NOON, now=NOON))
    assert sorted(len(each.stored) for each in outcomes) == [0] * (THREADS - 1) + [1]
    assert LineageEvent.objects.count() == 1
    assert Event.objects.filter(name="lineage.received").count() == 1


def test_fold__eight_workers_over_the_same_nodes__neither_wait_for_ever_nor_lose_a_fact() -> None:
    sender = person("airflow")
    told = [
        events.run_event(hours=hour / 10, outputs=[events.dataset(events.CLEAN, schema=events.schema(f"v{hour}"))])
        for hour in range(24)
    ]
    for hour, name in enumerate(["documentation", "ownership", "storage", "tags"]):
        facets: dict[str, Any] = {name: events.facet("F", n=hour)}
        told.append(events.dataset_event(hours=hour / 10, **facets))
    actions.receive(told, actor=sender, latest=NOON, now=NOON)

    outcomes = race(lambda n: actions.fold_waiting(now=NOON))

    assert sum(outcomes) == len(told), outcomes
    clean = ExternalNode.objects.get(name=events.CLEAN)
    assert clean.facts["schema"]["fields"][0]["name"] == "v23"
    assert {"documentation", "ownership", "storage", "tags"} <= set(clean.facts)
    assert clean.last_seen == NOON + timedelta(hours=2.3)
    assert (ExternalNode.objects.count(), ExternalEdge.objects.count()) == (4, 3)
