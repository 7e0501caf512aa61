"""One logged prediction: who asked when, which version answered what on which inputs, and how it turned out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from django.contrib.auth.models import AbstractBaseUser

from audit.errors import NotFound
from registry.models import ModelVersion, RegisteredModel
from rollout import prediction_log
from rollout.gateway import CANARY, CHAMPION
from rollout.models import Endpoint, Rollout
from rollout.routing import Serving, serving


@dataclass(frozen=True)
class Prediction:
    """A row of the prediction log with what it refers to.

    ``table`` is the row as it was logged, one row with all columns of its file. ``rollout`` is the one under way then.
    ``asked`` was to answer (None: nobody could), ``answering`` did (None: the endpoint's fallback, or nobody). Both say
    under which names a version's inputs were logged.
    """

    endpoint: Endpoint
    table: pa.Table
    rollout: Rollout | None
    asked: Serving | None
    answering: Serving | None
    outcome: dict[str, Any] | None

    @property
    def row(self) -> dict[str, Any]:
        """The log's own columns."""
        return dict(self.table.select(prediction_log.PREDICTION.names).to_pylist()[0])

    @property
    def request_id(self) -> str:
        return str(self.table["request_id"][0].as_py())

    @property
    def at(self) -> datetime:
        moment: datetime = self.table["at"][0].as_py()
        return moment

    @property
    def score(self) -> float | None:
        score: float | None = self.table["score"][0].as_py()
        return score

    @property
    def version(self) -> ModelVersion | None:
        """The version that answered."""
        return self.answering.version if self.answering else None

    @property
    def lineage_key(self) -> str:
        return f"prediction:{self.endpoint.name}/{self.request_id}"

    @property
    def line(self) -> Serving | None:
        """The version whose inputs are looked at: who answered, else who should have."""
        return self.answering or self.asked

    def inputs(self) -> pa.Table | None:
        """What that version was given, under its own names and in its order; None where it was not logged."""
        line = self.line
        if line is None or any(column not in self.table.column_names for column in line.logged.values()):
            return None
        return pa.table({name: self.table[line.logged[name]] for name in line.inputs})

    def as_dict(self) -> dict[str, Any]:
        row, inputs, version = self.row, self.inputs(), self.version
        outcome = self.outcome
        return {
            "endpoint": self.endpoint.name,
            "request_id": self.request_id,
            "at": self.at,
            "model": (self.line.version if self.line else self.endpoint).registered_model.name,
            "version": version.number if version else None,
            "asked_version": self.asked.version.number if self.asked else None,
            "arm": row["arm"],
            "answered_by": row["answered_by"],
            "score": self.score,
            "status": row["status"],
            "error": row["error"] or "",
            "entity": row["entity"],
            "is_sticky": row["sticky"],
            "stage": row["stage"],
            "step": row["step"],
            "share": row["share"],
            "rollout": self.rollout.pk if self.rollout else None,
            "latency_ms": row["latency_ms"],
            "inputs": None if inputs is None else plain(inputs.to_pylist()[0]),
            "outcome": {"label": outcome["label"], "arrived_at": outcome["arrived_at"]} if outcome else None,
            "lineage": self.lineage_key,
        }


def plain(value: Any) -> Any:
    """A value of the log as JSON has it: what is no number is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value


def find(
    endpoint_name: str, request_id: str, *, reader: AbstractBaseUser, now: datetime, at: datetime | None = None
) -> Prediction:
    """The logged prediction; ``at`` (any moment of its day) spares a search through all days.

    Raises NotFound: no such endpoint or prediction, or its model is not ``reader``'s to see.
    """
    endpoint = visible_endpoint(endpoint_name, reader)
    table = prediction_log.find_row(endpoint.name, request_id, at=at)
    if table is None:
        when = f" on {at:%Y-%m-%d}" if at else ""
        raise NotFound(f"{endpoint} logged no prediction {request_id!r}{when}.")
    row = table.select(prediction_log.PREDICTION.names).to_pylist()[0]
    rollout = rollout_of(endpoint, row["salt"])
    asked = _asked(row, rollout)
    answering = _answering(row, asked, rollout)
    for each in (asked, answering):
        if each is not None and not _is_visible(each.version.registered_model, reader):
            raise NotFound(f"{request_id!r} was for a model that is not yours to see.")
    outcome = prediction_log.find_outcome(endpoint.name, request_id, at=row["at"], as_of=now)
    return Prediction(endpoint, table, rollout, asked, answering, outcome)


def visible_endpoint(name: str, reader: AbstractBaseUser) -> Endpoint:
    """Raises NotFound where there is none, or it is not the reader's to see."""
    visible = RegisteredModel.objects.visible_to(reader)
    found = Endpoint.objects.select_related("registered_model").filter(name=name, registered_model__in=visible).first()
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}, or it is not yours to see.")
    return found


def _is_visible(model: RegisteredModel, reader: AbstractBaseUser) -> bool:
    return bool(RegisteredModel.objects.visible_to(reader).filter(pk=model.pk).exists())


def rollout_of(endpoint: Endpoint, salt: str | None) -> Rollout | None:
    """The rollout that was under way: its salt is in the row."""
    if not salt:
        return None
    related = ("incumbent__service", "incumbent__registered_model", "version__service", "version__registered_model")
    return Rollout.objects.filter(endpoint=endpoint, salt=salt).select_related(*related).first()


def _asked(row: dict[str, Any], rollout: Rollout | None) -> Serving | None:
    """Who was to answer. A candidate's inputs got names of their own where the champion had logged under its names."""
    related = ("registered_model", "service", "conversion")
    version = ModelVersion.objects.select_related(*related).filter(pk=row["version_id"]).first()
    if version is None:
        return None
    incumbent = rollout.incumbent if rollout is not None and row["arm"] == CANARY else None
    return serving(version, beside=serving(incumbent) if incumbent is not None else None)


def answered_by(row: Mapping[str, Any], rollout: Rollout | None) -> int | None:
    """Primary key of the version that answered; None: the endpoint's fallback did, or nobody.

    A candidate's failed row was answered by the champion, whom the row does not name: it is the incumbent of the
    rollout under way.
    """
    if row["answered_by"] == row["arm"]:
        asked: int | None = row["version_id"]
        return asked
    return rollout.incumbent_id if row["answered_by"] == CHAMPION and rollout is not None else None


def _answering(row: dict[str, Any], asked: Serving | None, rollout: Rollout | None) -> Serving | None:
    answered = answered_by(row, rollout)
    if asked is not None and answered == asked.version.pk:
        return asked
    incumbent = rollout.incumbent if rollout is not None else None
    return serving(incumbent) if incumbent is not None and answered == incumbent.pk else None
