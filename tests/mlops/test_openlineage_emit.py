"""What is told to another tool: checked against the spec's own classes, and against a receiver on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from openlineage.client import event_v2
from openlineage.client.facet_v2 import (
    dataset_type_dataset,
    dataset_version_dataset,
    error_message_run,
    execution_parameters_run,
    input_statistics_input_dataset,
    job_type_job,
    tags_dataset,
    test_run,
)

from audit import clock
from audit.models import Event
from audit.trail import record
from jobs.drain import drain
from jobs.models import Job
from mlops import openlineage
from registry.models import ExternalEdge, ExternalNode, LineageEvent
from tests.builders import NOON, ROBOT, person
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.mlops.world import World

pytestmark = pytest.mark.django_db

FACETS: dict[str, Any] = {
    "executionParameters": execution_parameters_run.ExecutionParametersRunFacet,
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "test": test_run.TestRunFacet,
    "jobType": job_type_job.JobTypeJobFacet,
    "version": dataset_version_dataset.DatasetVersionDatasetFacet,
    "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet,
    "tags": tags_dataset.TagsDatasetFacet,
    "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
}
PARTS: dict[str, Any] = {
    "parameters": execution_parameters_run.ExecutionParameter,
    "tests": test_run.TestExecution,
    "tags": tags_dataset.TagsDatasetFacetFields,
}


@pytest.fixture
def world() -> Iterator[World]:
    """A team's world whose own reactions are done."""
    with clock.at(NOON + timedelta(days=40)):
        built = building.build("delay")
        drain()
        yield built


def told(world: World, name: str, row: str) -> dict[str, Any]:
    """The OpenLineage event of an event of this name about this row."""
    event = record(name, world[row], actor=ROBOT, reason="It had its reasons.")
    return openlineage.document(event)


def by_the_spec(document: dict[str, Any]) -> Any:
    """The event built of the classes that the spec's authors generate: an unknown or missing field is an error."""
    facets = [document.get("run", {}), document.get("job", {}), document.get("dataset", {})]
    for each in [*facets, *document.get("inputs", []), *document.get("outputs", [])]:
        for name, facet in [*each.get("facets", {}).items(), *each.get("inputFacets", {}).items()]:
            _check_facet(name, facet)
    common = {"eventTime": document["eventTime"], "producer": document["producer"]}
    if "dataset" in document:
        dataset = {"namespace": document["dataset"]["namespace"], "name": document["dataset"]["name"]}
        return event_v2.DatasetEvent(**common, dataset=event_v2.StaticDataset(**dataset))
    return event_v2.RunEvent(
        **common,
        eventType=event_v2.RunState(document["eventType"]),
        run=event_v2.Run(document["run"]["runId"]),
        job=event_v2.Job(document["job"]["namespace"], document["job"]["name"]),
        inputs=[event_v2.InputDataset(each["namespace"], each["name"]) for each in document["inputs"]],
        outputs=[event_v2.OutputDataset(each["namespace"], each["name"]) for each in document["outputs"]],
    )


def _check_facet(name: str, facet: dict[str, Any]) -> None:
    assert facet["_producer"] == "urn:gatehouse"
    if name.startswith("gatehouse_"):
        return
    kind = FACETS[name]
    assert facet["_schemaURL"] == kind._get_schema()
    content = {key: value for key, value in facet.items() if not key.startswith("_")}
    for key, values in content.items():
        if key in PARTS:
            content[key] = [PARTS[key](**each) for each in values]
    kind(**content)


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in datasets]


def test_training_run__start_and_end__are_one_run_with_inputs_and_the_model(world: World) -> None:
    start = told(world, "training_run.running", "training_run")
    end = told(world, "training_run.succeeded", "training_run")
    assert by_the_spec(start).eventType == event_v2.RunState.START
    assert by_the_spec(end).eventType == event_v2.RunState.COMPLETE
    assert start["run"]["runId"] == end["run"]["runId"]
    dataset = f"datasets/{world['dataset'].digest}"
    assert names(start["inputs"]) == ["delay-flights", "outcomes", "requests"]
    assert names(end["inputs"]) == [*names(start["inputs"]), dataset]
    (model,) = end["outputs"]
    assert (model["namespace"], model["name"]) == ("gatehouse", "delay-arrival")
    assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert model["facets"]["version"]["datasetVersion"] == "1"
    parameters = {each["key"]: each["value"] for each in end["run"]["facets"]["executionParameters"]["parameters"]}
    assert parameters == {"window": '{"name": "expanding"}', "seed": "0"}
    assert start["outputs"] == []


def test_training_run__failed_or_cancelled__says_so(world: World) -> None:
    failed = told(world, "training_run.failed", "training_run")
    assert by_the_spec(failed).eventType == event_v2.RunState.FAIL
    assert failed["run"]["facets"]["errorMessage"]["message"] == "It had its reasons."
    assert told(world, "training_run.cancelled", "training_run")["eventType"] == "ABORT"
    assert failed["outputs"] == []


def test_gate_run__checks__are_tests_with_what_was_expected(world: World) -> None:
    refused = told(world, "gate_run.failed", "refused_run")
    assert by_the_spec(refused).eventType == event_v2.RunState.COMPLETE
    (test,) = refused["run"]["facets"]["test"]["tests"]
    assert (test["name"], test["status"], test["severity"]) == ("auc-floor", "fail", "error")
    assert test["actual"] == "0.612"
    assert "below 0.65" in test["description"]
    assert names(refused["inputs"]) == ["delay-arrival"]
    passed = told(world, "gate_run.passed", "gate_run")
    assert passed["run"]["facets"]["test"]["tests"][0]["status"] == "pass"
    assert told(world, "gate_run.error", "gate_run")["eventType"] == "FAIL"
    assert "test" not in told(world, "gate_run.running", "gate_run")["run"]["facets"]


def test_promotion__is_the_model_with_its_version_and_tags(world: World) -> None:
    document = told(world, "rollout.promoted", "rollout")
    by_the_spec(document)
    facets = document["dataset"]["facets"]
    assert {each["key"]: each["value"] for each in facets["tags"]["tags"]} == {
        "alias": "champion",
        "endpoint": "delay-warning",
    }
    assert facets["version"]["datasetVersion"] == str(world["rollout"].version.number)


def test_nobody_set_up__nothing_is_asked_for(world: World) -> None:
    record("rollout.promoted", world["rollout"], actor=ROBOT)
    drain()
    assert not Job.objects.filter(kind="mlops.emit_lineage").exists()


# ---------------------------------------------------------------------- on a real socket


class Receiver(BaseHTTPRequestHandler):
    """Answers what the test wants, and remembers what it was asked."""

    status: ClassVar[int] = 201
    asked: ClassVar[list[tuple[str, str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked.append((self.path, self.headers.get("Authorization", ""), json.loads(body)))
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    kind = type("Receiver", (Receiver,), {"status": status, "asked": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kind.asked  # type: ignore[attr-defined]  # it is a Receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def job_after(settings: Any, world: World, url: str) -> Job:
    """The job after one attempt to tell of a promotion at this address."""
    settings.OPENLINEAGE_URL, settings.OPENLINEAGE_KEY = url, "secret"
    record("rollout.promoted", world["rollout"], actor=ROBOT)
    drain()
    job: Job = Job.objects.get(kind="mlops.emit_lineage")
    return job


def test_receiver__takes_it__once_with_the_key(settings: Any, world: World) -> None:
    with receiver(204) as (url, asked):
        job = job_after(settings, world, url + "/")
    assert (job.state, job.attempts, job.result) == ("done", 1, {"told": True})
    assert [(path, key, body["dataset"]["name"]) for path, key, body in asked] == [
        ("/api/v1/lineage", "Bearer secret", "delay-arrival")
    ]


@pytest.mark.parametrize("status", [302, 401, 500])
def test_receiver__does_not_take_it__is_tried_again_and_no_redirect_followed(
    settings: Any, world: World, status: int
) -> None:
    with receiver(status) as (url, asked):
        job = job_after(settings, world, url)
    assert (job.state, job.attempts, len(asked)) == ("queued", 1, 1)
    assert f"answered {status}" in job.error
    assert "secret" not in job.error


def test_receiver__down__costs_the_job_only(settings: Any, world: World) -> None:
    with receiver(200) as (url, _):
        pass
    job = job_after(settings, world, url)
    assert job.state == "queued"
    assert "can not be reached" in job.error
    others = Job.objects.exclude(pk=job.pk).exclude(kind="gates.prepare")
    assert set(others.values_list("state", flat=True)) <= {"done", "dead"}


@pytest.mark.django_db(transaction=True)
def test_our_own_receiver__understands_what_we_tell(settings: Any, world: World, site: str) -> None:
    settings.OPENLINEAGE_URL = site
    settings.OPENLINEAGE_KEY = token(person("gatehouse-2"), "lineage")
    before = LineageEvent.objects.count()
    for name, row in (
        ("training_run.succeeded", "training_run"),
        ("gate_run.passed", "gate_run"),
        ("rollout.promoted", "rollout"),
    ):
        record(name, world[row], actor=ROBOT)
    drain()

    assert LineageEvent.objects.count() == before + 3
    assert set(LineageEvent.objects.values_list("problem", flat=True)) == {""}
    assert not Job.objects.filter(kind="mlops.emit_lineage").exclude(state="done").exists()
    model = ExternalNode.objects.get(namespace="gatehouse", name="delay-arrival")
    assert model.facts["datasetType"] == {"datasetType": "MODEL"}
    trained = ExternalEdge.objects.get(downstream=model)
    assert trained.upstream.name == "training/delay-arrival/trees"
    sources = {edge.upstream.name: edge.upstream.source for edge in trained.upstream.in_edges.all()}
    assert sources["delay-flights"] == world["data_source"], "there the graphs join"
    assert Event.objects.filter(name="lineage.received").count() >= 3
