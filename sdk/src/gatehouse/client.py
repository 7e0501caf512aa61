"""The client: what a training pipeline or a CI job asks of the portal, one method each."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from gatehouse.answers import (
    Evidence,
    GateRun,
    Model,
    Prediction,
    Push,
    Rollout,
    Standing,
    TrainingRun,
    Vectors,
    Version,
    read,
)
from gatehouse.errors import TimedOut
from gatehouse.plans import Plan
from gatehouse.wire import Retries, Wire

LONGEST_WAIT = 30.0
"""Seconds that the portal keeps one question open."""

LONGEST_PLAN = 600.0
"""Seconds that the portal may measure what a plan would change."""


class Client:
    """A portal at ``url``, as the holder of ``token`` (``manage.py token USER`` prints one).

    Every method raises a ``GatehouseError`` when it is refused. Calls that may be repeated without harm are tried again
    when the portal does not answer or answers 502, 503 or 504; the others (evidence, training requests, decisions about
    rollouts) are not.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self._wire = Wire(url, token, timeout=timeout, retries=retries or Retries(), transport=transport)

    def __repr__(self) -> str:
        return f"<gatehouse.Client {self.url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    # ------------------------------------------------------------------ models and versions

    def models(self) -> list[Model]:
        """The models that this token may see, by name."""
        return [read(Model, row) for row in self._wire.pages("models/")]

    def model(self, name: str) -> Model:
        return read(Model, self._wire.get(_model(name)))

    def versions(self, model: str) -> list[Version]:
        """Newest first."""
        return [read(Version, row) for row in self._wire.pages(f"{_model(model)}versions/")]

    def version(self, model: str, number: int) -> Version:
        """With its lineage."""
        return read(Version, self._wire.get(f"{_model(model)}versions/{number}/"))

    def register_version(
        self,
        model: str,
        artifact: Path | str,
        *,
        service: str | None = None,
        dataset: str | None = None,
        label: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        importance: Mapping[str, float] | None = None,
        commit: str | None = None,
        dirty: bool | None = None,
        code_digest: str | None = None,
        environment: Mapping[str, Any] | None = None,
        seed: int | None = None,
        signature: Mapping[str, Any] | None = None,
        note: str | None = None,
    ) -> Version:
        """Register a model file with what it was made from; the same content again is the same version.

        ``service`` is name@number, ``dataset`` a digest, ``code_digest`` that of ``gatehouse.code_digest(folder)``.
        What is not given is shown as unverified.
        """
        lineage = {
            "service": service,
            "dataset": dataset,
            "label": label,
            "parameters": parameters,
            "metrics": metrics,
            "importance": importance,
            "commit": commit,
            "dirty": dirty,
            "code_digest": code_digest,
            "environment": environment,
            "seed": seed,
            "signature": signature,
            "note": note,
        }
        path = Path(artifact)
        form = {"lineage": json.dumps({name: value for name, value in lineage.items() if value is not None})}

        def send(http: httpx.Client) -> httpx.Response:
            with path.open("rb") as file:
                files = {"artifact": (path.name, file, "application/octet-stream")}
                return http.post(f"{_model(model)}versions/", data=form, files=files)

        return read(Version, self._wire.upload(model, send))

    # ------------------------------------------------------------------ gates

    def submit_evidence(self, model: str, kind: str, report: Any, *, code_digest: str, commit: str = "") -> Evidence:
        """A report about exactly the code ``code_digest``: JUnit XML as text (``unit``, ``integration``), ruff's JSON
        (``lint``), or an object with metric and value (``measurement``). The portal reads the verdict from it itself.
        """
        body = {"kind": kind, "code_digest": code_digest, "commit": commit, "report": report}
        return read(Evidence, self._wire.post(f"{_model(model)}evidence/", body))

    def standing(self, model: str, number: int, *, wait: float = 0.0) -> Standing:
        """Where a version is and why; ``wait`` up to 30 seconds for its gates to end."""
        path = f"{_model(model)}versions/{number}/standing/"
        wait = min(max(wait, 0.0), LONGEST_WAIT)
        return read(Standing, self._wire.get(path, patience=wait, wait=wait or None))

    def wait_for_gates(self, model: str, number: int, *, timeout: float = 900.0) -> Standing:
        """Wait until the gates ended, well or not (``standing.passed``). Raises TimedOut after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while True:
            standing = self.standing(model, number, wait=until - time.monotonic())
            if standing.gates_ended:
                return standing
            if time.monotonic() >= until:
                raise TimedOut(f"After {timeout:g} s: {standing.gates.message}", standing=standing)

    def gate_run(self, model: str, id: int) -> GateRun:
        """Every check with its verdict and numbers."""
        return read(GateRun, self._wire.get(f"{_model(model)}gate-runs/{id}/"))

    def rerun_gates(self, model: str, number: int, *, reason: str) -> GateRun:
        """Have a version judged once more."""
        body = {"version": number, "reason": reason}
        return read(GateRun, self._wire.post(f"{_model(model)}gate-runs/", body))

    # ------------------------------------------------------------------ training

    def request_training(
        self,
        model: str,
        pipeline: str,
        *,
        window: Mapping[str, Any],
        reason: str,
        parameters: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Ask the portal to train; one training may be open per model (Conflict)."""
        body = {"pipeline": pipeline, "window": window, "reason": reason, "parameters": parameters or {}}
        return read(TrainingRun, self._wire.post(f"{_model(model)}training-runs/", body))

    def training_run(self, model: str, id: int) -> TrainingRun:
        return read(TrainingRun, self._wire.get(f"{_model(model)}training-runs/{id}/"))

    # ------------------------------------------------------------------ rollouts

    def rollouts(self, model: str, *, state: str | None = None) -> list[Rollout]:
        """Newest first."""
        return [read(Rollout, row) for row in self._wire.pages(f"{_model(model)}rollouts/", state=state)]

    def rollout(self, id: int) -> Rollout:
        """With its newest measurements."""
        return read(Rollout, self._wire.get(f"rollouts/{id}/"))

    def pause_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/pause/", {"reason": reason}))

    def resume_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/resume/", {"reason": reason}))

    def abort_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/abort/", {"reason": reason}))

    # ------------------------------------------------------------------ feature definitions

    def plan(self, definitions: Mapping[str, Any], *, publish: bool = False) -> Plan:
        """What applying these definitions would do (``gatehouse.repository.load`` reads them from files).

        Nothing is written. New meanings of views are measured on a sample, so it may take a while.
        """
        body = {"definitions": definitions, "publish": publish}
        return read(Plan, self._wire.post("features/plan/", body, repeat=True, patience=LONGEST_PLAN))

    def apply(self, definitions: Mapping[str, Any], *, digest: str, publish: bool = False, reason: str = "") -> Plan:
        """Carry out the plan with this digest: all of it or nothing. Raises Conflict when it is outdated.

        With ``publish`` new versions are published, for the ``reason``; the plan must have been made with it.
        """
        body = {"definitions": definitions, "publish": publish, "digest": digest, "reason": reason}
        return read(Plan, self._wire.post("features/apply/", body, repeat=True, patience=LONGEST_PLAN))

    # ------------------------------------------------------------------ feature values

    def online(self, service: str, entities: Sequence[Mapping[str, Any]]) -> Vectors:
        """The features of a service (name, or name@number) as they are served now, for up to 1,000 entities.

        An entity names its join keys, and the service's request features where it has on-demand transforms.
        """
        name, _, number = service.partition("@")
        body: dict[str, Any] = {"rows": [_said(entity) for entity in entities]}
        if number:
            body["number"] = int(number) if number.isascii() and number.isdigit() else number
        return read(Vectors, self._wire.post(f"features/services/{_name(name)}/online/", body, repeat=True))

    def push(self, source: str, rows: Sequence[Mapping[str, Any]], *, push_id: str | None = None) -> Push:
        """Send up to 10,000 rows to a data source: known to training and served from the moment this returns.

        With the same ``push_id`` it happens once however often it is sent; without one, it is tried again only by this
        very call. Times without a zone are UTC.
        """
        body = {"source": source, "push_id": push_id or uuid.uuid4().hex, "rows": [_said(row) for row in rows]}
        return read(Push, self._wire.post("push/", body, repeat=True))

    # ------------------------------------------------------------------ traffic

    def predict(self, endpoint: str, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Ask an endpoint; each row has a ``request_id``, under which it counts once however often it is sent."""
        answer = self._wire.post(f"endpoints/{_name(endpoint)}/predict/", {"rows": list(rows)}, repeat=True)
        return [read(Prediction, row) for row in answer["rows"]]

    def send_outcomes(self, endpoint: str, outcomes: Sequence[tuple[str, float, datetime]]) -> int:
        """What really happened: request_id, label and the prediction's ``at``. The count that was stored."""
        rows = [
            {"request_id": request_id, "label": label, "predicted_at": at.isoformat()}
            for request_id, label, at in outcomes
        ]
        answer = self._wire.post(f"endpoints/{_name(endpoint)}/outcomes/", {"rows": rows}, repeat=True)
        return int(answer["stored"])


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON can say it: times in ISO, null for numbers that are not finite."""
    said = dict(row)
    for name, value in row.items():
        if isinstance(value, datetime):
            said[name] = value.isoformat()
        elif isinstance(value, float) and not math.isfinite(value):
            said[name] = None
    return said


def _name(text: str) -> str:
    return quote(text, safe="")


def _model(name: str) -> str:
    return f"models/{_name(name)}/"
