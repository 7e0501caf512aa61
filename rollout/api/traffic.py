"""The gateway, thin, for product teams: ask for predictions, and say later what really happened."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pyarrow as pa
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.rest import ApiView, Body, PlainJSONField
from audit.scopes import SERVE
from features import json_rows
from registry.duties import require
from registry.models import Duty, RegisteredModel, Task
from registry.rest import visible_rows
from rollout import gateway, prediction_log
from rollout.models import Endpoint

MOST_ROWS = 1000

# ---------------------------------------------------------------------- what is answered


class Prediction(serializers.Serializer[Any]):
    request_id = serializers.CharField()
    at = serializers.DateTimeField(help_text="When it was asked; an outcome names it as predicted_at.")
    score = serializers.FloatField(allow_null=True, help_text="Null: nobody could answer and there is no fallback.")
    decision = serializers.BooleanField(allow_null=True, help_text="The score is at or above the threshold.")
    arm = serializers.ChoiceField(choices=["champion", "canary", "fallback"], help_text="Who should have answered.")
    answered_by = serializers.ChoiceField(choices=["champion", "canary", "fallback"])
    version = serializers.IntegerField(allow_null=True, help_text="Number of the version that answered.")
    status = serializers.ChoiceField(choices=["ok", "error", "fallback"])


class Predictions(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    rows = Prediction(many=True)


class OutcomesAnswer(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    stored = serializers.IntegerField()
    arrived_at = serializers.DateTimeField()


# ---------------------------------------------------------------------- what is asked


class PredictBody(Body):
    rows = serializers.ListField(
        child=serializers.DictField(child=PlainJSONField(allow_null=True)),
        min_length=1,
        max_length=MOST_ROWS,
        help_text="request_id, the endpoint's entity, join keys and request features; optionally at (ISO time).",
    )


class OutcomeRow(Body):
    request_id = serializers.CharField(max_length=200)
    label = serializers.FloatField(  # type: ignore[assignment]  # a field, where the base has a text
        help_text="What really happened; 0 or 1 for a classification."
    )
    predicted_at = serializers.DateTimeField(help_text="The prediction's at.")


class OutcomesBody(Body):
    rows = OutcomeRow(many=True, allow_empty=False, max_length=MOST_ROWS)  # type: ignore[call-arg]  # of the list


# ---------------------------------------------------------------------- the gateway


class EndpointView(ApiView):
    """An endpoint of a model that the caller may see; traffic is for those who have a duty for it."""

    scope = SERVE
    takes_keys = False  # a request_id counts once, of outcomes the latest

    def endpoint(self, name: str) -> Endpoint:
        found: Endpoint | None = (
            visible_rows(Endpoint.objects.select_related("registered_model"), self).filter(name=name).first()
        )
        if found is None:
            raise NotFound(f"There is no endpoint {name!r}, or it is not yours to see.")
        owners = RegisteredModel.objects.select_related("data_science", "platform", "product")
        require(self.user, owners.get(pk=found.registered_model_id), *Duty)
        return found


class Predict(EndpointView):
    """The gateway: route, features, score, log, answer."""

    @extend_schema(operation_id="endpoints_predict", request=PredictBody, responses=Predictions)
    def post(self, request: Request, name: str) -> Response:
        """Answer requests; each is logged before its answer leaves. A repeated request_id counts once."""
        self.endpoint(name)
        now = clock.now()
        asked = json_rows.table(self.read(PredictBody)["rows"], field="rows", times=("at",))
        moments = _moments(asked, now)
        served = gateway.serve(name, asked, now=now)
        rows = json_rows.rows(served.table)
        for row, at in zip(rows, moments, strict=True):
            row["at"] = at
        return Response({"endpoint": name, "rows": rows})


def _moments(asked: pa.Table, now: datetime) -> list[datetime]:
    """Each request's own time. Nobody asks tomorrow."""
    if "at" not in asked.column_names:
        return [now] * len(asked)
    moments = [at or now for at in asked["at"].to_pylist()]
    if any(at > now for at in moments):
        raise InvalidInput({"rows.at": f"A request can not be later than now ({now.isoformat()})."})
    return moments


class Outcomes(EndpointView):
    """What really happened, when it is known."""

    @extend_schema(operation_id="endpoints_outcomes", request=OutcomesBody, responses=OutcomesAnswer)
    def post(self, request: Request, name: str) -> Response:
        """Log outcomes; they arrive now. Sending one again, or a corrected one later, is fine: the latest counts."""
        endpoint = self.endpoint(name)
        rows = self.read(OutcomesBody)["rows"]
        now = clock.now()
        _check_outcomes(endpoint, rows, now)
        columns: dict[str, list[Any]] = {
            "request_id": [row["request_id"] for row in rows],
            "label": [row["label"] for row in rows],
            "arrived_at": [now] * len(rows),
            "predicted_at": [row["predicted_at"] for row in rows],
        }
        schema = prediction_log.OUTCOME
        prediction_log.append_outcomes(name, pa.table([columns[each.name] for each in schema], schema=schema))
        return Response({"endpoint": name, "stored": len(rows), "arrived_at": now})


def _check_outcomes(endpoint: Endpoint, rows: list[dict[str, Any]], now: datetime) -> None:
    wrong = {}
    binary = endpoint.registered_model.task == Task.BINARY_CLASSIFICATION
    for place, row in enumerate(rows):
        if not math.isfinite(row["label"]) or (binary and row["label"] not in (0.0, 1.0)):
            wrong[f"rows.{place}.label"] = "0 or 1 is needed." if binary else "A finite number is needed."
        if row["predicted_at"] > now:
            wrong[f"rows.{place}.predicted_at"] = "A prediction can not be later than now."
    if wrong:
        raise InvalidInput(dict(list(wrong.items())[:20]))
