"""Rollouts over HTTP: where a version is, how a rollout goes, pause it; and the gateway, thin, for product teams."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

import pyarrow as pa
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.rest import ApiView, Body, PlainJSONField, Reason
from audit.scopes import DECIDE, SERVE
from features import json_rows
from gates.models import GateRunState
from registry.duties import require
from registry.models import Duty, RegisteredModel, Task
from registry.rest import ListingOfModel, OfModel, visible_rows
from rollout import actions, gateway, prediction_log
from rollout.models import AnalysisRun, Endpoint, Measurement, Rollout, RolloutState
from rollout.standing import STAGES, standing

LONGEST_WAIT = 30.0
LOOK_AGAIN = 0.5
MOST_ROWS = 1000

# ---------------------------------------------------------------------- what is answered


class GateStanding(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=[*GateRunState.values, "unjudged", "void"])
    message = serializers.CharField()
    may_enter_rollout = serializers.BooleanField()
    gate_run = serializers.IntegerField(allow_null=True)
    policy = serializers.IntegerField(allow_null=True)
    missing_evidence = serializers.ListField(child=serializers.CharField())


class RolloutStanding(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    endpoint = serializers.CharField()
    state = serializers.ChoiceField(choices=RolloutState.choices)
    reason = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    step = serializers.IntegerField()


class StandingAnswer(serializers.Serializer[Any]):
    """Where a version is and why."""

    model = serializers.CharField()
    version = serializers.IntegerField()
    stage = serializers.ChoiceField(choices=[(stage, stage) for stage in STAGES])
    why = serializers.CharField(help_text="One sentence with the numbers that decided.")
    since = serializers.DateTimeField(allow_null=True)
    is_champion = serializers.BooleanField()
    gates_ended = serializers.BooleanField(help_text="Nothing more will come from the gates by themselves.")
    gates = GateStanding()
    rollouts = RolloutStanding(many=True)


class MeasurementRow(serializers.ModelSerializer[Measurement]):
    """One metric of one look: difference, interval, limit, evidence for harm and for its absence (log e-values)."""

    class Meta:
        model = Measurement
        fields: tuple[str, ...] = (
            "metric",
            "verdict",
            "message",
            "value",
            "low",
            "high",
            "limit",
            "n",
            "harm",
            "no_harm",
            "needed",
        )
        read_only_fields = fields


class LookRow(serializers.ModelSerializer[AnalysisRun]):
    measurements = MeasurementRow(many=True, read_only=True)

    class Meta:
        model = AnalysisRun
        fields: tuple[str, ...] = (
            "number", "stage", "step", "at", "conclusion", "summary", "candidate_rows", "incumbent_rows",
            "measurements",
        )  # fmt: skip
        read_only_fields = fields


class RolloutRow(serializers.ModelSerializer[Rollout]):
    model = serializers.CharField(source="registered_model", read_only=True)
    endpoint = serializers.CharField(read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)
    incumbent = serializers.IntegerField(source="incumbent.number", read_only=True, allow_null=True, default=None)
    gate_run = serializers.IntegerField(source="gate_run_id", read_only=True)
    state = serializers.ChoiceField(choices=RolloutState.choices, read_only=True)

    class Meta:
        model = Rollout
        fields: tuple[str, ...] = (
            "id", "model", "endpoint", "version", "incumbent", "gate_run", "state", "state_reason", "state_since",
            "step", "step_since", "created_at", "shadow_since", "canary_since", "ended_at",
        )  # fmt: skip
        read_only_fields = fields


class RolloutDetail(RolloutRow):
    latest_look = serializers.SerializerMethodField(help_text="The newest measurements; null before the first look.")

    class Meta(RolloutRow.Meta):
        fields = (*RolloutRow.Meta.fields, "plan", "latest_look")
        read_only_fields = fields

    @extend_schema_field(LookRow(allow_null=True))
    def get_latest_look(self, rollout: Rollout) -> dict[str, Any] | None:
        look = rollout.analyses.prefetch_related("measurements").order_by("-number").first()
        return dict(LookRow(look).data) if look else None


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


# ---------------------------------------------------------------------- where a version is


class VersionStanding(OfModel):
    """Where is this version, and why?"""

    query = ("wait",)

    @extend_schema(
        operation_id="versions_standing",
        responses=StandingAnswer,
        parameters=[
            OpenApiParameter(
                "wait",
                {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT},
                description="Seconds to wait for the gates to end; the answer comes as soon as they have.",
            )
        ],
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        version = self.version(number)
        until = time.monotonic() + self._wait()
        found = standing(version)
        while not found.gates_ended and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_AGAIN, left))
            found = standing(version)
        return Response(StandingAnswer(found.as_dict()).data)

    def _wait(self) -> float:
        text = self.request.query_params.get("wait", "0")
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= LONGEST_WAIT:
            raise exceptions.ValidationError({"wait": [f"Seconds from 0 to {LONGEST_WAIT:g}."]})
        return seconds


# ---------------------------------------------------------------------- rollouts


class RolloutFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=RolloutState.choices)
    endpoint = filters.CharFilter(field_name="endpoint__name")
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=2**31 - 1)


ROLLOUTS: QuerySet[Rollout] = Rollout.objects.select_related("registered_model", "endpoint", "version", "incumbent")


class Rollouts(ListingOfModel):
    """A model's rollouts, newest first."""

    queryset = ROLLOUTS
    serializer_class = RolloutRow
    filterset_class = RolloutFilter


class OneRollout(ApiView):
    """How a rollout goes, with the newest measurements."""

    @extend_schema(operation_id="rollouts_retrieve", responses=RolloutDetail)
    def get(self, request: Request, pk: int) -> Response:
        return Response(RolloutDetail(_rollout(self, pk)).data)


def _rollout(view: ApiView, pk: int) -> Rollout:
    found: Rollout | None = visible_rows(ROLLOUTS, view).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no rollout {pk}, or it is not yours to see.")
    return found


class RolloutVerb(ApiView):
    """One decision about a rollout, with its reason."""

    scope = DECIDE

    verb: ClassVar[Callable[..., None]]

    def decide(self, pk: int) -> Response:
        rollout = _rollout(self, pk)
        body = self.read(Reason)
        type(self).verb(rollout, actor=self.user, reason=body["reason"], now=clock.now())
        return Response(RolloutDetail(_rollout(self, pk)).data)


class Pause(RolloutVerb):
    verb = staticmethod(actions.pause)

    @extend_schema(operation_id="rollouts_pause", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """Take the candidate off the traffic for a while."""
        return self.decide(pk)


class Resume(RolloutVerb):
    verb = staticmethod(actions.resume)

    @extend_schema(operation_id="rollouts_resume", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """Go on where it was paused."""
        return self.decide(pk)


class Abort(RolloutVerb):
    verb = staticmethod(actions.abort)

    @extend_schema(operation_id="rollouts_abort", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """End it; the champion answers everybody again."""
        return self.decide(pk)


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
