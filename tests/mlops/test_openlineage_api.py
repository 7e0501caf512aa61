"""The OpenLineage receiver over HTTP: as its clients send, and as an enemy would."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from django.test import Client

from audit.models import Event
from jobs.drain import drain
from mlops.openlineage_api import MOST_BYTES
from registry.models import ExternalNode, LineageEvent
from tests.builders import person
from tests.mlops.calls import JSON, Caller, problem, refused_fields, token
from tests.registry import lineage_events as events

pytestmark = pytest.mark.django_db


def sender(*scopes: str) -> Caller:
    return Caller(person("airflow"), *(scopes or ("lineage",)))


def raw(body: bytes, *, coding: str = "gzip", address: str = "lineage") -> Any:
    caller = sender()
    return caller.client.post(f"/api/v1/{address}", body, content_type=JSON, headers={"Content-Encoding": coding})


def compressed(document: Any) -> bytes:
    return gzip.compress(json.dumps(document).encode())


# ---------------------------------------------------------------------- one event


def test_post__with_and_without_slash__is_the_same_address() -> None:
    first = sender().post("lineage", events.run_event())
    assert (first.status_code, first.json()) == (201, {"status": "stored"})
    again = sender().post("lineage/", events.run_event())
    assert (again.status_code, again.json()) == (200, {"status": "known"})
    assert LineageEvent.objects.get().received_by.username == "airflow"
    assert Event.objects.filter(name="lineage.received").count() == 1


def test_post__folded_soon_after__gives_nodes() -> None:
    sender().post("lineage", events.run_event())
    drain()
    assert ExternalNode.objects.count() == 4


def test_post__without_a_token_or_scope__is_refused() -> None:
    assert problem(Caller().post("lineage", events.run_event()))[0] == 401
    assert problem(sender("read", "register").post("lineage", events.run_event()))[0] == 403
    assert not LineageEvent.objects.exists()


def test_post__wrong_event__names_the_fields() -> None:
    assert refused_fields(sender().post("lineage", events.run_event(eventTime="now", producer=""))) == {
        "eventTime",
        "producer",
    }
    assert refused_fields(sender().post("lineage", [])) == {"body"}
    assert not LineageEvent.objects.exists()


def test_post__what_is_no_json__is_refused() -> None:
    assert problem(raw(b"{", coding="identity"))[0] == 400
    assert problem(raw(b'{"a": NaN}', coding="identity"))[0] == 400
    assert problem(raw(b"[" * 100_000, coding="identity"))[0] == 400


# ---------------------------------------------------------------------- gzip


def test_post__gzip__is_read_also_in_several_members() -> None:
    text = json.dumps(events.run_event()).encode()
    assert raw(gzip.compress(text)).status_code == 201
    assert raw(gzip.compress(text[:100]) + gzip.compress(text[100:])).status_code == 200


def test_post__bomb__is_stopped_at_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(400)) + packer.flush()
    assert len(bomb) < MOST_BYTES
    assert problem(raw(bomb))[0] == 413


def test_post__too_many_bytes__are_refused_compressed_or_not() -> None:
    assert problem(raw(b" " * (MOST_BYTES + 1), coding="identity"))[0] == 413
    assert problem(raw(b"\0" * (MOST_BYTES + 1)))[0] == 413


def test_post__gzip_of_a_thousand_members__is_refused_before_each_is_opened() -> None:
    assert raw(gzip.compress(b"") * 1000).status_code == 400


@pytest.mark.parametrize("body", [b"no gzip at all", compressed(events.run_event())[:-9], b"\x1f\x8b\x08"])
def test_post__broken_gzip__is_a_bad_request(body: bytes) -> None:
    assert problem(raw(body))[0] == 400


def test_post__another_coding__is_not_read() -> None:
    assert problem(raw(b"x", coding="br"))[0] == 415


# ---------------------------------------------------------------------- a batch


def test_batch__partly_wrong__says_which_and_keeps_the_rest() -> None:
    response = sender().post("lineage/batch", [events.run_event(), {"eventTime": "x"}, events.job_event()])
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "partial_success")
    assert body["summary"] == {"received": 3, "successful": 2, "failed": 1, "retriable": 0, "non_retriable": 1}
    (failed,) = body["failed_events"]
    assert (failed["index"], failed["retriable"]) == (1, False)
    assert "eventTime" in failed["reason"]
    assert LineageEvent.objects.count() == 2


def test_batch__all_good_all_wrong_or_none__is_told_apart() -> None:
    good = raw(compressed([events.run_event(), events.dataset_event()]), address="lineage/batch/").json()
    assert (good["status"], good["summary"]["successful"], good["failed_events"]) == ("success", 2, [])
    assert sender().post("lineage/batch", [{}]).json()["status"] == "failure"
    assert sender().post("lineage/batch", []).json()["summary"]["received"] == 0
    assert refused_fields(sender().post("lineage/batch", {})) == {"body"}
    assert refused_fields(sender().post("lineage/batch", [{}] * 1001)) == {"body"}


# ---------------------------------------------------------------------- the real client


@pytest.mark.django_db(transaction=True)
def test_real_client__over_http_with_gzip__is_understood(site: str) -> None:
    from openlineage.client import OpenLineageClient, event_v2
    from openlineage.client.facet_v2 import column_lineage_dataset, schema_dataset, source_code_location_job
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpCompression, HttpConfig, HttpTransport

    config = HttpConfig(
        url=site,
        auth=ApiKeyTokenProvider({"apiKey": token(person("airflow"), "lineage")}),
        compression=HttpCompression.GZIP,
    )
    made = column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={
            "delay": column_lineage_dataset.Fields(
                inputFields=[column_lineage_dataset.InputField(events.WAREHOUSE, events.RAW, "arr_delay")]
            )
        }
    )
    columns = schema_dataset.SchemaDatasetFacet(fields=[schema_dataset.SchemaDatasetFacetFields("delay", "double")])
    code = source_code_location_job.SourceCodeLocationJobFacet(type="git", url="https://example.org/etl.git")
    now, producer = "2013-04-01T12:00:00Z", events.PRODUCER
    out = {"columnLineage": made, "schema": columns}
    job = event_v2.Job(events.ETL, "clean_flights", facets={"sourceCodeLocation": code})
    client = OpenLineageClient(transport=HttpTransport(config))
    client.emit(
        event_v2.RunEvent(
            eventTime=now,
            producer=producer,
            eventType=event_v2.RunState.COMPLETE,
            run=event_v2.Run(events.RUN),
            job=job,
            inputs=[event_v2.InputDataset(events.WAREHOUSE, events.RAW)],
            outputs=[event_v2.OutputDataset(events.WAREHOUSE, events.CLEAN, facets=out)],
        )
    )
    client.emit(event_v2.JobEvent(eventTime=now, producer=producer, job=job))
    dataset = event_v2.StaticDataset(events.WAREHOUSE, events.CLEAN, facets=out)
    client.emit(event_v2.DatasetEvent(eventTime=now, producer=producer, dataset=dataset))
    client.close()

    assert sorted(LineageEvent.objects.values_list("kind", flat=True)) == ["dataset", "job", "run"]
    drain()
    assert set(LineageEvent.objects.values_list("problem", flat=True)) == {""}
    clean = ExternalNode.objects.get(name=events.CLEAN)
    assert clean.facts["schema"]["fields"][0]["name"] == "delay"
    columns_of = {edge.upstream.name: edge.columns for edge in clean.in_edges.all()}
    assert columns_of == {"clean_flights": {}, events.RAW: {"delay": ["arr_delay"]}}
    assert ExternalNode.objects.get(kind="job").facts["sourceCodeLocation"]["url"] == "https://example.org/etl.git"


def test_get__is_not_there() -> None:
    assert Client().get("/api/v1/lineage").status_code == 401
    assert problem(sender("read", "lineage").get("lineage"))[0] == 405
