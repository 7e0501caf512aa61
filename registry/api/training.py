"""Training runs over HTTP."""

from __future__ import annotations

from django.urls import reverse
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import Body, MappingField
from audit.scopes import REGISTER
from registry import actions
from registry.models import (
    RunState,
    TrainingRun,
)
from registry.rest import ListingOfModel, OfModel


class TrainingRunRow(serializers.ModelSerializer[TrainingRun]):
    model = serializers.CharField(source="registered_model", read_only=True)
    pipeline = serializers.CharField(source="pipeline.name", read_only=True)
    state = serializers.ChoiceField(choices=RunState.choices, read_only=True)
    dataset = serializers.CharField(source="dataset.digest", read_only=True, allow_null=True, default=None)
    version = serializers.IntegerField(
        source="version.number", read_only=True, allow_null=True, default=None, help_text="What it made, once it has."
    )
    requested_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = TrainingRun
        fields: tuple[str, ...] = (
            "id", "model", "pipeline", "state", "state_reason", "state_since", "trigger", "window", "parameters",
            "seed", "held", "dataset", "commit", "dirty", "code_digest", "metrics", "version", "requested_by",
            "requested_at", "wall_seconds",
        )  # fmt: skip
        read_only_fields = fields


class TrainingBody(Body):
    pipeline = serializers.CharField()
    window = MappingField(help_text='{"name": "expanding"}, {"name": "last-month", "days": 28} or with start and end.')
    parameters = MappingField(required=False, help_text="Laid over the pipeline's own.")
    reason = serializers.CharField(max_length=2000)


class TrainingRunFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=RunState.choices)
    pipeline = filters.CharFilter(field_name="pipeline__name")


TRAINING_RUNS = TrainingRun.objects.select_related("registered_model", "pipeline", "dataset", "requested_by", "version")


class TrainingRuns(ListingOfModel):
    """A model's training runs, newest first; a training is requested here."""

    scope = REGISTER

    queryset = TRAINING_RUNS
    serializer_class = TrainingRunRow
    filterset_class = TrainingRunFilter

    @extend_schema(
        operation_id="training_runs_create",
        request=TrainingBody,
        responses={201: OpenApiResponse(TrainingRunRow, "Requested; Location says where to ask how it went.")},
    )
    def post(self, request: Request, name: str) -> Response:
        """Request a training. One may be open per model (409)."""
        body = self.read(TrainingBody)
        pipeline = self.registered_model.pipelines.filter(name=body["pipeline"]).first()
        if pipeline is None:
            names = ", ".join(self.registered_model.pipelines.values_list("name", flat=True)) or "none"
            raise InvalidInput({"pipeline": f"There is no pipeline {body['pipeline']!r}; there are: {names}."})
        run = actions.request_training(
            pipeline,
            window=body["window"],
            trigger="person",
            parameters=body.get("parameters"),
            actor=self.user,
            reason=body["reason"],
            now=clock.now(),
        )
        url = reverse("api:training-run", args=[name, run.pk])
        answer = TrainingRunRow(TRAINING_RUNS.get(pk=run.pk)).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})


class OneTrainingRun(OfModel):
    """How a training went."""

    @extend_schema(operation_id="training_runs_retrieve", responses=TrainingRunRow)
    def get(self, request: Request, name: str, pk: int) -> Response:
        return Response(TrainingRunRow(self.mine(TRAINING_RUNS.all(), pk)).data)
