"""The platform group hears when the prediction log loses rows, once for each news, and when its disk fills up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from audit import clock
from jobs.drain import drain
from jobs.run import enqueue
from monitoring.models import Incident, IncidentState
from rollout.models import GatewayProcess, SpoolSegment
from tests.builders import NOON, registered_model

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def a_gateway(*, dropped: int = 0, used: float = 0.1, hour: float = 0.0, name: str = "host:7:start") -> None:
    told: dict[str, Any] = {"seen_at": NOON + hour * HOUR, "dropped_rows": dropped}
    told["spool_bytes"] = int(used * settings.GATEHOUSE_SPOOL_BYTES)
    GatewayProcess.objects.update_or_create(name=name, defaults=told, create_defaults={"started_at": NOON, **told})


def a_segment(name: str, *, torn: int = 0, damaged: int = 0, hour: float = 0.0) -> None:
    at = NOON + hour * HOUR
    SpoolSegment.objects.create(name=name, first_at=at, last_at=at, torn_bytes=torn, damaged_bytes=damaged)


def look(hour: float) -> None:
    clock.set_to(NOON + hour * HOUR)
    enqueue("monitoring.prediction_log", key=f"look at {hour}")
    drain()


def told() -> dict[str, tuple[str, int]]:
    """State and occurrences of each incident by its cause."""
    found = Incident.objects.values_list("cause_key", "state", "occurrences")
    return {cause.partition(":")[2]: (state, count) for cause, state, count in found}


def test_prediction_log__all_is_well__says_nothing() -> None:
    a_gateway()
    a_segment("host.7-1")
    look(0)
    assert told() == {}


def test_prediction_log__rows_dropped__is_said_once_for_each_news_and_closed_after_a_day() -> None:
    registered_model()
    a_gateway(dropped=7)
    for minutes in (0, 5, 10):
        look(minutes / 60)
    incident = Incident.objects.get()
    assert (incident.duty, incident.severity, incident.owner is not None) == ("platform", "high", True)
    assert "7 rows were answered but not logged" in incident.detail
    assert told() == {"lost": (IncidentState.OPEN, 1)}
    a_gateway(dropped=9, hour=2)
    look(2)
    assert told() == {"lost": (IncidentState.OPEN, 2)}
    a_gateway(dropped=9, hour=27)
    look(27)
    assert told() == {"lost": (IncidentState.RESOLVED, 2)}
    look(28)
    assert told() == {"lost": (IncidentState.RESOLVED, 2)}


def test_prediction_log__a_damaged_segment__is_lost_rows_too() -> None:
    a_segment("host.7-1", damaged=300)
    look(0)
    assert told() == {"lost": (IncidentState.OPEN, 1)}
    assert "300 bytes of segments can not be read" in Incident.objects.get().detail


def test_prediction_log__a_torn_tail__is_told_as_a_killed_process() -> None:
    a_segment("host.7-1", torn=30)
    a_segment("host.8-1", torn=12)
    look(0)
    assert told() == {"torn": (IncidentState.OPEN, 1)}
    incident = Incident.objects.get()
    assert incident.severity == "low"
    assert "2 gateway processes died while they wrote a record (42 bytes)" in incident.detail


def test_prediction_log__the_disk_fills_up__is_told_until_there_is_room_and_somebody_says_so() -> None:
    a_gateway(used=0.85)
    look(0)
    assert told() == {"full": (IncidentState.OPEN, 1)}
    look(1)  # the gateway has fallen silent: nobody knows
    assert told() == {"full": (IncidentState.OPEN, 1)}
    a_gateway(used=0.2, hour=2)
    look(2)
    assert told() == {"full": (IncidentState.RESOLVED, 1)}
