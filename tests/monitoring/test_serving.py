"""A champion that fails on live requests is an incident of the platform group, though travellers get the fallback."""

from datetime import timedelta

import pyarrow as pa
import pytest

from audit import clock
from jobs.drain import drain
from jobs.run import enqueue
from monitoring.models import Incident, IncidentState
from rollout import actions, prediction_log
from rollout.models import Endpoint
from tests.builders import NOON, paula, registered_model

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint() -> Endpoint:
    return actions.create_endpoint(
        name="delay-warning",
        title="Delay warning",
        registered_model=registered_model(),
        entity_column="flight",
        outcome_window=HOUR,
        actor=paula(),
        now=NOON,
    )


def asked(endpoint: Endpoint, *statuses: str, hour: int) -> None:
    """One request per status in the hour that ends ``hour`` hours after NOON; then the background looks."""
    ids = [f"r{hour}-{number}" for number in range(len(statuses))]
    at = [NOON + (hour - 1) * HOUR] * len(statuses)
    arms = ["champion"] * len(statuses)
    errors = ["month 6 was never seen" if status == "error" else None for status in statuses]
    columns = {"request_id": ids, "at": pa.array(at, pa.timestamp("us", "UTC")), "arm": arms, "status": statuses}
    columns |= {"error": pa.array(errors, pa.string())}
    rest = [field for field in prediction_log.PREDICTION if field.name not in columns]
    columns |= {field.name: pa.nulls(len(statuses), field.type) for field in rest}
    prediction_log.append(endpoint.name, pa.table(columns).select(prediction_log.PREDICTION.names))
    clock.set_to(NOON + hour * HOUR)
    enqueue("monitoring.serving", key=f"serving {hour}")
    drain()


def test_serving__champion_fails__platform_is_called_and_released_when_it_answers(endpoint: Endpoint) -> None:
    asked(endpoint, *["ok"] * 30, *["error"] * 10, hour=1)
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty) == ("serving", "platform")
    assert "10 of 40 requests" in incident.detail
    assert "month 6 was never seen" in incident.detail

    asked(endpoint, *["ok"] * 40, hour=20)
    incident.refresh_from_db()
    assert incident.state == IncidentState.RESOLVED


def test_serving__rare_failures_or_no_traffic__call_nobody(endpoint: Endpoint) -> None:
    asked(endpoint, *["ok"] * 99, "error", hour=1)
    asked(endpoint, *["error"] * 5, hour=20)
    assert not Incident.objects.exists()
