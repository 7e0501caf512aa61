"""Tell another tool what happened here, as OpenLineage: training runs, gate runs, promotions. Off unless it is set up.

``GATEHOUSE_OPENLINEAGE_URL`` names a receiver (Marquez, DataHub, a second Gatehouse), ``GATEHOUSE_OPENLINEAGE_KEY`` its
token. An event is told by a job of its own: a receiver that is down costs nothing but that job.

========================  =================================================================================
training run              a run of the job ``training/<model>/<pipeline>``: data sources and the dataset go in,
                          the model comes out, a dataset of the type MODEL whose version is the version's number
gate run                  a run of the job ``gates/<model>`` with a ``test`` facet, one entry per check
promotion                 the model as it is now: its version, tagged as champion of the endpoint
========================  =================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from django.conf import settings
from django.db.models import Model

from audit.models import Event
from features.models import Dataset
from gates.models import CheckResult, GateRun, Verdict
from jobs.run import enqueue
from registry.models import ModelVersion, TrainingRun
from registry.openlineage import OURS
from rollout.models import Rollout

PRODUCER = "urn:gatehouse"
SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
FACETS = "https://openlineage.io/spec/facets/"
OWN_FACETS = "urn:gatehouse:facets:1"
ADDRESS = "/api/v1/lineage"
ATTEMPTS = 8
"""With the jobs' back-off, ten minutes of a receiver that is down. Then the job is dead, and may be redelivered."""
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
LONGEST_TEXT = 1000

Document = dict[str, Any]


class Undelivered(RuntimeError):
    """The receiver can not be reached, or did not take the event; the job is tried again."""


# ---------------------------------------------------------------------- when something happened


def emit(event: Event) -> None:
    """A reaction: ask for the event to be told, if anybody is to be told."""
    if settings.OPENLINEAGE_URL:
        enqueue(
            "mlops.emit_lineage", key=f"emit-lineage:{event.pk}", payload={"event": event.pk}, max_attempts=ATTEMPTS
        )


def send(document: Document) -> None:
    """Post one event. Raises Undelivered for whatever is not taken; no redirect is followed, it may lead anywhere."""
    headers = {"Content-Type": "application/json"}
    if settings.OPENLINEAGE_KEY:
        headers["Authorization"] = f"Bearer {settings.OPENLINEAGE_KEY}"
    address = settings.OPENLINEAGE_URL.rstrip("/") + ADDRESS
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", address, content=json.dumps(document), headers=headers) as answer,
        ):
            if answer.is_success:
                return
            said = next(answer.iter_text(LONGEST_TEXT), "")[:LONGEST_TEXT]
            raise Undelivered(f"{address} answered {answer.status_code}: {said}")
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        raise Undelivered(f"{address} can not be reached: {type(problem).__name__} {problem}") from problem


# ---------------------------------------------------------------------- what is told


def document(event: Event) -> Document:
    """An event of ours as an OpenLineage event. Raises KeyError for one that is not told."""
    return _TOLD[event.subject_type](event)


def _training(event: Event) -> Document:
    related = ("registered_model", "pipeline__service", "dataset__service", "version")
    run = TrainingRun.objects.select_related(*related).get(pk=event.subject_id)
    kinds = {"running": "START", "succeeded": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
    kind = kinds[event.name.rpartition(".")[2]]
    has_ended = kind != "START"
    pipeline = run.pipeline
    names = {pipeline.entity_frame, pipeline.outcomes}
    for pinned in pipeline.service.pinned():
        names |= {source.name for source in pinned.view_version.sources.all()}
    inputs = [_named(name) for name in sorted(names)]
    if has_ended and run.dataset is not None:
        inputs.append(_dataset(run.dataset))
    version = getattr(run, "version", None) if kind == "COMPLETE" else None
    facets = {"executionParameters": _parameters(run), "gatehouse_code": _code(run)}
    if kind == "FAIL":
        facets["errorMessage"] = _facet(
            "1-0-1/ErrorMessageRunFacet", message=event.reason, programmingLanguage="python"
        )
    return _run_event(
        event,
        kind,
        run_id=_run_id(run, run.requested_at),
        facets=facets,
        job=_job(f"training/{run.registered_model.name}/{pipeline.name}", "TRAINING"),
        inputs=inputs,
        outputs=[_model(version)] if version is not None else [],
    )


def _gates(event: Event) -> Document:
    run = GateRun.objects.select_related("version__registered_model", "holdout__service").get(pk=event.subject_id)
    kind = {"running": "START", "error": "FAIL"}.get(event.name.rpartition(".")[2], "COMPLETE")
    tests = [] if kind == "START" else [_test(each) for each in run.results.order_by("id")]
    inputs = [_model(run.version), *([_dataset(run.holdout)] if run.holdout is not None else [])]
    return _run_event(
        event,
        kind,
        run_id=_run_id(run, run.opened_at),
        facets={"test": _facet("1-0-1/TestRunFacet", tests=tests)} if tests else {},
        job=_job(f"gates/{run.version.registered_model.name}", "VALIDATION"),
        inputs=inputs,
        outputs=[],
    )


def _promotion(event: Event) -> Document:
    rollout = Rollout.objects.select_related("version__registered_model", "endpoint").get(pk=event.subject_id)
    described = _model(rollout.version)
    tags = [("alias", "champion"), ("endpoint", rollout.endpoint.name)]
    described["facets"]["tags"] = _facet(
        "1-0-0/TagsDatasetFacet", tags=[{"key": key, "value": value, "source": OURS} for key, value in tags]
    )
    return {**_head(event, "DatasetEvent"), "dataset": described}


_TOLD: Mapping[str, Callable[[Event], Document]] = {
    "registry.trainingrun": _training,
    "gates.gaterun": _gates,
    "rollout.rollout": _promotion,
}


# ---------------------------------------------------------------------- its parts


def _head(event: Event, kind: str) -> Document:
    moment = event.at.astimezone(UTC).isoformat(timespec="milliseconds")
    return {"eventTime": moment.replace("+00:00", "Z"), "producer": PRODUCER, "schemaURL": SPEC + kind}


def _run_event(
    event: Event,
    kind: str,
    *,
    run_id: str,
    facets: Mapping[str, Document],
    job: Document,
    inputs: list[Document],
    outputs: list[Document],
) -> Document:
    run = {"runId": run_id, "facets": dict(facets)}
    return {
        **_head(event, "RunEvent"),
        "eventType": kind,
        "run": run,
        "job": job,
        "inputs": inputs,
        "outputs": outputs,
    }


def _run_id(run: Model, began: datetime) -> str:
    """The same for every event of a run, and another one in another portal's database."""
    return str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{run._meta.label_lower}:{run.pk}:{began.isoformat()}"))


def _facet(schema: str, **content: Any) -> Document:
    address = f"{FACETS}{schema}.json#/$defs/{schema.partition('/')[2]}"
    return {"_producer": PRODUCER, "_schemaURL": address, **content}


def _own_facet(**content: Any) -> Document:
    return {"_producer": PRODUCER, "_schemaURL": OWN_FACETS, **content}


def _job(name: str, kind: str) -> Document:
    told = _facet("2-0-4/JobTypeJobFacet", processingType="BATCH", integration="GATEHOUSE", jobType=kind)
    return {"namespace": OURS, "name": name, "facets": {"jobType": told}}


def _named(name: str, **facets: Document) -> Document:
    return {"namespace": OURS, "name": name, "facets": facets}


def _model(version: ModelVersion) -> Document:
    """A model as a dataset: its name, and which version of it."""
    return _named(
        version.registered_model.name,
        version=_facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=str(version.number)),
        datasetType=_facet("1-0-1/DatasetTypeDatasetFacet", datasetType="MODEL"),
        gatehouse_artifact=_own_facet(sha256=version.artifact_digest, loadClass=version.load_class),
    )


def _dataset(dataset: Dataset) -> Document:
    described = _named(
        f"datasets/{dataset.digest}",
        version=_facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=dataset.digest),
    )
    described["inputFacets"] = {
        "inputStatistics": _facet("1-0-0/InputStatisticsInputDatasetFacet", rowCount=dataset.rows)
    }
    return described


def _parameters(run: TrainingRun) -> Document:
    """What the run was told, with its window and seed; values as texts, which is what the spec has."""
    told = {**run.parameters, "window": run.window, "seed": run.seed}
    parameters = [{"key": key, "name": key, "value": _text(value)} for key, value in sorted(told.items())]
    return _facet("1-0-0/ExecutionParametersRunFacet", parameters=parameters)


def _code(run: TrainingRun) -> Document:
    return _own_facet(commit=run.commit, dirty=run.dirty, sha256=run.code_digest)


def _test(result: CheckResult) -> Document:
    """A check as a test. What could not be decided or measured did not find anything: it is no pass and no fail."""
    status = {Verdict.PASSED: "pass", Verdict.FAILED: "fail"}.get(Verdict(result.verdict), "skip")
    return {
        "name": result.check_id,
        "status": status,
        "severity": "error" if result.blocking else "warn",
        "type": result.kind,
        "description": f"{result.verdict}: {result.message}",
        "expected": result.threshold or None,
        "actual": None if result.value is None else repr(result.value),
        "params": {"verdict": result.verdict, "low": result.low, "high": result.high, "n": result.n},
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
