"""The platform group hears of gateways that fell silent and of versions that they refuse, and when it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from audit import clock
from jobs.drain import drain
from jobs.run import enqueue
from monitoring.models import Incident
from rollout.models import GatewayProcess
from tests.builders import NOON, registered_model
from tests.rollout import life

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


def a_gateway(seconds: float, *, name: str = "web1:7:start", **told: Any) -> None:
    values = {"seen_at": NOON + seconds * SECOND, **told}
    GatewayProcess.objects.update_or_create(name=name, defaults=values, create_defaults={"started_at": NOON, **values})


def look(seconds: float) -> None:
    clock.set_to(NOON + seconds * SECOND)
    enqueue("monitoring.gateways", key=f"look at {seconds}")
    drain()


def told() -> dict[str, str]:
    """State of each incident by its cause."""
    found = Incident.objects.values_list("cause_key", "state")
    return {cause.removeprefix("serving:gateway:"): state for cause, state in found}


def test_gateways__none_ever_seen__says_nothing() -> None:
    look(0)
    assert told() == {}


def test_gateways__silent_for_a_minute__is_an_incident_of_the_platform_until_seen_again() -> None:
    registered_model()
    a_gateway(0)
    look(59)
    assert told() == {}
    look(61)
    assert told() == {"silent:web1": "open"}
    assert Incident.objects.get().owner is not None
    a_gateway(70)
    look(71)
    assert told() == {"silent:web1": "resolved"}


def test_gateways__ended_in_order_or_replaced_on_its_host__is_no_incident() -> None:
    a_gateway(0, name="web1:7:start")
    a_gateway(100, name="web1:8:start")
    a_gateway(0, name="web2:7:start", ended_at=NOON)
    look(110)
    assert told() == {}


def test_gateways__a_version_that_is_refused__is_an_incident_of_its_model_until_none_says_so() -> None:
    story = life.begin()
    refused = {"kind": "refused", "endpoint": life.ENDPOINT, "version": "delay v2", "message": "Row 3 scored .5."}
    a_gateway(0, problems=[refused, {"kind": "database_away", "message": "No answer."}])
    look(1)
    assert told() == {f"refused:{life.ENDPOINT}:delay v2": "open"}
    incident = Incident.objects.get()
    assert (incident.duty, incident.registered_model) == ("platform", story.registered_model)
    assert "Row 3" in incident.detail
    a_gateway(2, problems=[])
    look(3)
    assert told() == {f"refused:{life.ENDPOINT}:delay v2": "resolved"}
