"""What only people and other tools can tell: the model's card, and where the raw data comes from (OpenLineage)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlops.demo.people import Cast
from registry import actions as registry
from registry.actions.openlineage import receive
from registry.models import RegisteredModel

CARD = {
    "intended_use": "Warn travellers in the booking app one hour before departure that their flight may arrive late.",
    "out_of_scope": "Compensation, crew planning, or any decision about a person; flights from other airports.",
    "affected_persons": "Travellers from the three New York airports who opened the app.",
    "decision_role": "advises",
    "risk_reason": "A wrong warning costs a traveller some worry, a missing one some waiting; nothing else follows.",
    "known_gaps": "Cancelled flights have no arrival and no label. The weather feed has one impossible wind reading.",
    "personal_data": "no",
    "limitations": "Trained on one year: it has seen each season once, and no strike and no closed airport.",
    "fallback": "Nobody is warned (score 0).",
    "stop_button": "Paula's group pulls the kill switch of the endpoint in the admin; it works within half a second.",
    "oversight": "Product looks at the share of warnings each week; a rethink is decided by product.",
    "developer": "Dana Reyes",
    "escalation": "delay-science on call",
}

_PRODUCER = "https://airflow.example.org/gatehouse-demo"
_EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FEEDS = (
    ("load_timetable", "9a1f4c1e-0001-4000-8000-000000000001", "bts/on_time_performance", ("flights_schedule",)),
    ("load_movements", "9a1f4c1e-0002-4000-8000-000000000002", "faa/aircraft_movements", ("departures", "arrivals")),
    ("load_weather", "9a1f4c1e-0003-4000-8000-000000000003", "asos/hourly_observations", ("weather",)),
    ("load_register", "9a1f4c1e-0004-4000-8000-000000000004", "faa/aircraft_register", ("planes",)),
)
"""Task, its run, what it read, and the data sources of ours that it wrote."""


def tell(registered_model: RegisteredModel, cast: Cast, *, now: datetime) -> None:
    """Dana writes the card; the team's Airflow tells which tasks fill our data sources."""
    why = "Written before the first version, with product."
    registry.write_card(registered_model, content=CARD, reason=why, actor=cast.dana, now=now)
    receive([_loaded(*feed, at=now) for feed in _FEEDS], actor=cast.pete, latest=now, now=now)


def _loaded(task: str, run: str, raw: str, sources: tuple[str, ...], *, at: datetime) -> dict[str, Any]:
    """An Airflow task that completed, as its OpenLineage client says it."""
    return {
        "eventType": "COMPLETE",
        "eventTime": at.isoformat(),
        "producer": _PRODUCER,
        "schemaURL": _EVENT_SCHEMA,
        "run": {"runId": run},
        "job": {"namespace": "airflow", "name": f"flights.{task}"},
        "inputs": [{"namespace": "warehouse", "name": raw}],
        "outputs": [{"namespace": "gatehouse", "name": source} for source in sources],
    }
