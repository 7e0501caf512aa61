"""A logged prediction over HTTP, and its replay.

A request id is whatever the caller chose: it may hold slashes, line breaks, anything. What stands between
``predictions/`` and the last slash is the id. One that ends in ``/replay`` is looked at (GET) at the address at which
the id before it is replayed (POST).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.urls import path, register_converter
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock, scopes
from audit.rest import ApiView, PlainJSONField
from mlops import predictions, replay


class AnyText:
    """Of an address, also what the usual converters do not take: slashes and line breaks."""

    regex = r"[\s\S]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(AnyText, "any_text")

REQUEST_ID = OpenApiParameter(
    "request_id", {"type": "string", "minLength": 1}, OpenApiParameter.PATH, description="As the caller chose it."
)
DAY = OpenApiParameter(
    "at",
    {"type": "string", "format": "date-time"},
    description="Any moment of the day (UTC) on which it was asked: spares looking through all days.",
)

# ---------------------------------------------------------------------- what is answered


class OutcomeAnswer(serializers.Serializer[Any]):
    label = serializers.FloatField(allow_null=True)  # type: ignore[assignment]  # a field, where the base has a text
    arrived_at = serializers.DateTimeField()


class PredictionAnswer(serializers.Serializer[Any]):
    """A row of the prediction log with what it refers to."""

    endpoint = serializers.CharField()
    request_id = serializers.CharField()
    at = serializers.DateTimeField(help_text="When it was asked.")
    model = serializers.CharField()
    version = serializers.IntegerField(allow_null=True, help_text="Who answered; null: no version did.")
    asked_version = serializers.IntegerField(allow_null=True, help_text="Who was to answer.")
    arm = serializers.ChoiceField(choices=["champion", "canary", "fallback"])
    answered_by = serializers.ChoiceField(choices=["champion", "canary", "fallback"])
    score = serializers.FloatField(allow_null=True)
    status = serializers.ChoiceField(choices=["ok", "error", "fallback"])
    error = serializers.CharField(allow_blank=True)
    entity = serializers.CharField(allow_null=True, help_text="Who sticks to an arm.")
    is_sticky = serializers.BooleanField(allow_null=True, help_text="False: the request named no entity.")
    stage = serializers.CharField(allow_blank=True, allow_null=True, help_text="Of the rollout under way then.")
    step = serializers.IntegerField(allow_null=True)
    share = serializers.FloatField(allow_null=True, help_text="The candidate's share then.")
    rollout = serializers.IntegerField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    inputs = serializers.DictField(
        child=PlainJSONField(allow_null=True),
        allow_null=True,
        help_text="What the version was given; null: not logged.",
    )
    outcome = OutcomeAnswer(allow_null=True, help_text="What really happened, as far as known.")
    lineage = serializers.CharField(help_text="Its key, for lineage/backwards/?of=.")


class InputAnswer(serializers.Serializer[Any]):
    feature = serializers.CharField()
    origin = serializers.CharField(help_text="View version or transform, feature store, or request.")
    served = PlainJSONField(allow_null=True)
    recomputed = PlainJSONField(allow_null=True, help_text="What it should have been, as known then.")
    difference = serializers.FloatField(allow_null=True, help_text="Served minus recomputed, of two numbers.")
    is_checked = serializers.BooleanField(help_text="It was recomputed.")
    differs = serializers.BooleanField()
    is_late = serializers.BooleanField(
        help_text="It differs because the store still held the value of the slot before."
    )


class EnvironmentChange(serializers.Serializer[Any]):
    name = serializers.CharField()
    then = serializers.CharField()
    now = serializers.CharField()


CAUSES = [replay.REPRODUCED, replay.FEATURE_SKEW, replay.ARTIFACT_DIFFERENCE, replay.NOT_REPRODUCIBLE]


class ReplayAnswer(serializers.Serializer[Any]):
    """Was it the code, the data, or both?"""

    endpoint = serializers.CharField()
    request_id = serializers.CharField()
    version = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField(allow_null=True)
    cause = serializers.ChoiceField(choices=CAUSES, help_text="The first of the causes.")
    causes = serializers.ListField(child=serializers.ChoiceField(choices=CAUSES), help_text="All that hold.")
    message = serializers.CharField(help_text="One sentence with the numbers.")
    served = serializers.FloatField(allow_null=True, help_text="The score that was served.")
    replayed = serializers.FloatField(allow_null=True, help_text="The version's score of the logged inputs, now.")
    recomputed = serializers.FloatField(allow_null=True, help_text="Its score of the recomputed features.")
    tolerance = serializers.FloatField(help_text="Two scores no further apart are the same.")
    form = serializers.CharField(allow_blank=True, help_text="How the version was loaded.")
    features = InputAnswer(many=True, help_text="Those that were served with another value.")
    inputs = InputAnswer(many=True, help_text="All inputs of the version, in its order.")
    environment = EnvironmentChange(many=True, help_text="Where this environment is not the one of the training.")


# ---------------------------------------------------------------------- the addresses


class OnePrediction(ApiView):
    """A logged prediction: what was asked, who answered what on which inputs, how it turned out."""

    query = ("at",)

    @extend_schema(operation_id="predictions_retrieve", parameters=[REQUEST_ID, DAY], responses=PredictionAnswer)
    def get(self, request: Request, name: str, request_id: str) -> Response:
        found = predictions.find(name, request_id, reader=self.user, now=clock.now(), at=_at(request))
        return Response(PredictionAnswer(found.as_dict()).data)


class ReplayPrediction(ApiView):
    """Recompute the features as they were known, ask the version again, and say what differs."""

    query = ("at",)
    scope: ClassVar[str] = scopes.READ  # it computes, and changes nothing
    takes_keys: ClassVar[bool] = False

    @extend_schema(
        operation_id="predictions_replay", parameters=[REQUEST_ID, DAY], request=None, responses=ReplayAnswer
    )
    def post(self, request: Request, name: str, request_id: str) -> Response:
        """Replay a prediction. 404 for one that was not logged, or is not the caller's to see."""
        now = clock.now()
        found = predictions.find(name, request_id, reader=self.user, now=now, at=_at(request))
        return Response(ReplayAnswer(replay.of(found).as_dict()).data)

    @extend_schema(exclude=True)
    def get(self, request: Request, name: str, request_id: str) -> Response:
        """The prediction whose own id ends in ``/replay``."""
        whole = f"{request_id}/replay"
        found = predictions.find(name, whole, reader=self.user, now=clock.now(), at=_at(request))
        return Response(PredictionAnswer(found.as_dict()).data)


def _at(request: Request) -> datetime | None:
    """The moment that the query names. Raises ValidationError (400)."""
    text = request.query_params.get("at")
    if text is None:
        return None
    try:
        moment: datetime = serializers.DateTimeField(default_timezone=UTC).run_validation(text)
        return moment.astimezone(UTC)
    except (serializers.ValidationError, OverflowError):
        raise exceptions.ValidationError({"at": ["A date and time, such as 2026-03-01T12:00:00Z."]}) from None


PREDICTION = "endpoints/<slug:name>/predictions/<any_text:request_id>/"
urlpatterns = [
    path(f"{PREDICTION}replay/", ReplayPrediction.as_view(), name="prediction-replay"),
    path(PREDICTION, OnePrediction.as_view(), name="prediction"),
]
