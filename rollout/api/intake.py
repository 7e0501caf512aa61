"""Predictions and outcomes of teams that serve elsewhere, many at once: JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import exceptions, parsers, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import TooLarge, refuse_larger
from rollout import intake, intake_bodies
from rollout.api.traffic import EndpointView
from rollout.intake_bodies import LINES, MOST_BYTES, PARQUET, Kind
from rollout.models import Endpoint

# ---------------------------------------------------------------------- what is answered


class PredictionsKept(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    stored = serializers.IntegerField(help_text="New ones.")
    repeated = serializers.IntegerField(help_text="In the log already, or twice in the body: counted once.")
    arrived_at = serializers.DateTimeField()


class OutcomesLearned(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    labels = serializers.IntegerField(help_text="Predictions that a label was kept for.")
    values = serializers.IntegerField(help_text="Values of business metrics.")
    unmatched = serializers.IntegerField(help_text="Labels of entities about which no prediction was made in time.")
    arrived_at = serializers.DateTimeField()


# ---------------------------------------------------------------------- what is asked


class _Bytes(parsers.BaseParser):
    """The body as it came, up to ``MOST_BYTES``."""

    def parse(  # type: ignore[override]  # neither fields nor files: read as what it is by who knows its form
        self, stream: Any, media_type: Any = None, parser_context: Any = None
    ) -> bytes:
        refuse_larger(parser_context["request"], MOST_BYTES)
        body = bytes(stream.read(MOST_BYTES + 1))
        if len(body) > MOST_BYTES:  # a server that passes on what was not announced
            raise TooLarge(f"The body has more than the {MOST_BYTES:,} bytes that are accepted.")
        return body


class LinesBytes(_Bytes):
    media_type = LINES


class ParquetBytes(_Bytes):
    media_type = PARQUET


_ENDPOINT = OpenApiParameter("endpoint", OpenApiTypes.STR, required=True, description="Whose rows these are.")
_FIELDS: Mapping[Kind, type[serializers.Field[Any, Any, Any, Any]]] = {
    Kind.TEXT: serializers.CharField,
    Kind.NUMBER: serializers.FloatField,
    Kind.WHOLE: serializers.IntegerField,
    Kind.TIME: serializers.DateTimeField,
}


def _body(name: str, kinds: Mapping[str, Kind], needed: Collection[str]) -> dict[str, Any]:
    """The body for the API's schema: JSON lines as the list of their objects."""
    fields = {each: _FIELDS[kind](required=each in needed) for each, kind in kinds.items()}
    return {LINES: inline_serializer(name, fields, many=True), PARQUET: OpenApiTypes.BINARY}


_PREDICTIONS = _body("PredictionLine", intake.PREDICTION_FIELDS, ("request_id", "at"))
_OUTCOMES = _body("OutcomeLine", intake.OUTCOME_FIELDS, ())


class IntakeView(EndpointView):
    """Rows of one endpoint (``?endpoint=``): all are kept, or none and the answer names line and field."""

    parser_classes = (LinesBytes, ParquetBytes)
    query: ClassVar[tuple[str, ...]] = ("endpoint",)

    def asked(self) -> Endpoint:
        name = self.request.query_params.get("endpoint", "")
        if not name:
            raise exceptions.ValidationError({"endpoint": ["Say by ?endpoint= whose rows these are."]})
        return self.endpoint(name)

    def sent(self, kinds: Any, *, extra: bool) -> intake_bodies.Sent:
        """The rows of the body. Raises InvalidInput by place and field, 413 and 415."""
        offer = f"Send {LINES} or {PARQUET}, not encoded."
        encoding = self.request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise exceptions.UnsupportedMediaType(encoding, f"The content encoding {encoding!r} is not read. {offer}")
        try:
            body = self.request.data
        except exceptions.UnsupportedMediaType as problem:
            said = f"The content type {self.request.content_type!r} is not read. {offer}"
            raise exceptions.UnsupportedMediaType(str(self.request.content_type), said) from problem
        if not isinstance(body, bytes) or not body:
            raise InvalidInput({"body": f"There is no row in it. {offer}"})
        media_type = str(self.request.content_type).partition(";")[0].strip().lower()
        return intake_bodies.read(body, media_type, kinds, extra=extra)


class PredictionsIntake(IntakeView):
    """What was predicted elsewhere."""

    @extend_schema(
        operation_id="predictions_push", parameters=[_ENDPOINT], request=_PREDICTIONS, responses={200: PredictionsKept}
    )
    def post(self, request: Request) -> Response:
        """Log predictions that were served elsewhere (docs/api.md has the fields). Sent twice, they count once; an id
        that is known with another content is refused (409), and nothing is stored."""
        endpoint = self.asked()
        now = clock.now()
        kept = intake.log_predictions(endpoint, self.sent(intake.PREDICTION_FIELDS, extra=True), now=now)
        return Response(
            {"endpoint": endpoint.name, "stored": kept.stored, "repeated": kept.repeated, "arrived_at": now}
        )


class OutcomesIntake(IntakeView):
    """What really happened."""

    @extend_schema(
        operation_id="outcomes_push", parameters=[_ENDPOINT], request=_OUTCOMES, responses={200: OutcomesLearned}
    )
    def post(self, request: Request) -> Response:
        """Keep labels and values of business metrics, by request or entity (docs/api.md has the fields). They arrive
        now; sending one again, or a corrected one later, is fine: the latest counts."""
        endpoint = self.asked()
        now = clock.now()
        learned = intake.learn_outcomes(endpoint, self.sent(intake.OUTCOME_FIELDS, extra=False), now=now)
        counts = {"labels": learned.labels, "values": learned.values, "unmatched": learned.unmatched}
        return Response({"endpoint": endpoint.name, **counts, "arrived_at": now})
