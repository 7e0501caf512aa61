"""OpenLineage events as tools send them: an Airflow task that makes one table of two, dbt, a catalogue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.builders import NOON

PRODUCER = "https://github.com/apache/airflow"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
RUN = "0176a8c2-fe01-7439-87e6-56a1a1b4029f"
RAW, PLANES, CLEAN = "raw.flights", "raw.planes", "clean.flights"
WAREHOUSE = "postgres://warehouse:5432"
ETL = "airflow"


def facet(name: str, **content: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"https://openlineage.io/spec/facets/1-0-0/{name}.json", **content}


def schema(*columns: str) -> dict[str, Any]:
    return facet("SchemaDatasetFacet", fields=[{"name": name, "type": "text"} for name in columns])


def made_from(**columns: tuple[str, str]) -> dict[str, Any]:
    """Column lineage: output column = (input dataset, input column)."""
    return facet(
        "ColumnLineageDatasetFacet",
        fields={
            name: {"inputFields": [{"namespace": WAREHOUSE, "name": table, "field": field}]}
            for name, (table, field) in columns.items()
        },
    )


def dataset(name: str, namespace: str = WAREHOUSE, **facets: Any) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "facets": facets}


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def run_event(
    event_type: str = "COMPLETE", *, hours: float = 0, run: str = RUN, job: str = "clean_flights", **parts: Any
) -> dict[str, Any]:
    """A task read two tables and wrote one, ``hours`` after noon."""
    event: dict[str, Any] = {
        "eventType": event_type,
        "eventTime": at(NOON + timedelta(hours=hours)),
        "producer": PRODUCER,
        "schemaURL": SCHEMA + "RunEvent",
        "run": {"runId": run, "facets": {}},
        "job": {"namespace": ETL, "name": job, "facets": {}},
        "inputs": [dataset(RAW), dataset(PLANES)],
        "outputs": [dataset(CLEAN)],
    }
    return event | parts


def job_event(*, hours: float = 0, **parts: Any) -> dict[str, Any]:
    event = run_event(hours=hours)
    del event["run"], event["eventType"]
    return event | {"schemaURL": SCHEMA + "JobEvent"} | parts


def dataset_event(name: str = CLEAN, *, hours: float = 0, namespace: str = WAREHOUSE, **facets: Any) -> dict[str, Any]:
    return {
        "eventTime": at(NOON + timedelta(hours=hours)),
        "producer": PRODUCER,
        "schemaURL": SCHEMA + "DatasetEvent",
        "dataset": dataset(name, namespace, **facets),
    }
