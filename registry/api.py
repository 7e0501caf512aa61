"""The registry over HTTP: models, their versions with lineage, training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.db.models import Prefetch, QuerySet
from django.urls import reverse
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import Body, Listing, MappingField, PlainJSONField, refuse_larger
from features import online
from features.models import Dataset, FeatureService
from registry import actions
from registry.lineage import trace
from registry.models import (
    Alias,
    LoadClass,
    ModelVersion,
    RegisteredModel,
    RunState,
    Task,
    Tier,
    TrainingPipeline,
    TrainingRun,
)
from registry.rest import ListingOfModel, OfModel

FORM_BYTES = 2**20
"""What a registration may have beside its artifact: the lineage and the form itself."""
FORM = "multipart/form-data"


def version_url(version: ModelVersion) -> str:
    return reverse("api:version", args=[version.registered_model.name, version.number])


# ---------------------------------------------------------------------- what is answered


class Owners(serializers.Serializer[RegisteredModel]):
    """The groups with the three duties."""

    data_science = serializers.CharField()
    platform = serializers.CharField()
    product = serializers.CharField()


class ModelRow(serializers.ModelSerializer[RegisteredModel]):
    owners = Owners(source="*", read_only=True)
    champion = serializers.SerializerMethodField(help_text="Number of the version that serves; null: none yet.")

    class Meta:
        model = RegisteredModel
        fields: tuple[str, ...] = ("name", "title", "task", "tier", "owners", "champion", "automation", "created_at")
        read_only_fields = fields

    def get_champion(self, row: RegisteredModel) -> int | None:
        return next((alias.version.number for alias in row.aliases.all() if alias.name == Alias.CHAMPION), None)


class PipelineRow(serializers.ModelSerializer[TrainingPipeline]):
    service = serializers.CharField(read_only=True, help_text="Feature service, name@number.")

    class Meta:
        model = TrainingPipeline
        fields: tuple[str, ...] = (
            "name",
            "entry_point",
            "service",
            "label",
            "parameters",
            "windows",
            "holdout_days",
            "automatic",
        )
        read_only_fields = fields


class ModelDetail(ModelRow):
    pipelines = PipelineRow(many=True, read_only=True)

    class Meta(ModelRow.Meta):
        fields = (*ModelRow.Meta.fields, "description", "pipelines")
        read_only_fields = fields


class VersionRow(serializers.ModelSerializer[ModelVersion]):
    model = serializers.CharField(source="registered_model", read_only=True)
    service = serializers.CharField(read_only=True, allow_null=True, help_text="Feature service, name@number.")
    dataset = serializers.CharField(source="dataset.digest", read_only=True, allow_null=True, default=None)
    training_run = serializers.IntegerField(source="training_run_id", read_only=True, allow_null=True)
    registered_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = ModelVersion
        fields: tuple[str, ...] = (
            "model", "number", "artifact_digest", "artifact_name", "artifact_bytes", "load_class", "service", "dataset",
            "training_run", "label", "metrics", "commit", "dirty", "code_digest", "content_digest", "note",
            "registered_by", "registered_at",
        )  # fmt: skip
        read_only_fields = fields


class VersionDetail(VersionRow):
    lineage = serializers.SerializerMethodField(help_text="What it was made from, as a tree; unverified parts say so.")

    class Meta(VersionRow.Meta):
        fields: tuple[str, ...] = (
            *VersionRow.Meta.fields, "parameters", "importance", "environment", "seed", "signature", "lineage",
        )  # fmt: skip
        read_only_fields = fields

    def get_lineage(self, version: ModelVersion) -> dict[str, Any]:
        return trace(version).as_dict()


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


# ---------------------------------------------------------------------- what is asked


class LineageBody(Body):
    """What a version was made from. What is not given stays empty and is shown as unverified."""

    service = serializers.CharField(required=False, help_text="Feature service, name@number.")
    dataset = serializers.CharField(required=False, help_text="SHA-256 digest of a dataset that Gatehouse made.")
    label = serializers.CharField(  # type: ignore[assignment]  # a field, where the base has a text
        required=False, allow_blank=True, max_length=60
    )
    parameters = MappingField(required=False)
    metrics = MappingField(required=False)
    importance = MappingField(required=False, help_text="Share of importance per feature, summing to 1.")
    commit = serializers.CharField(required=False, allow_blank=True, max_length=64)
    dirty = serializers.BooleanField(required=False)
    code_digest = serializers.RegexField(
        r"^[0-9a-f]{64}$", required=False, help_text="SHA-256 over the code folder; binds the CI evidence."
    )
    environment = MappingField(required=False)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
    signature = MappingField(required=False, help_text='{"inputs": [{"name": …, "type": …}, …]}, in order.')
    note = serializers.CharField(required=False, allow_blank=True, max_length=5000)

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        """Its part of a form is one text (REST framework would look for ``lineage.seed`` and so on)."""
        return dictionary.get(self.field_name, serializers.empty)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError("A part with JSON text is needed, not a file.")
        try:
            lineage = json.loads(data)
        except (ValueError, RecursionError) as problem:
            raise serializers.ValidationError(f"This is not JSON: {problem}.") from problem
        return super().to_internal_value(lineage)


class VersionBody(Body):
    """A form with two parts; ``lineage`` is a JSON text."""

    artifact = serializers.FileField(help_text="The model file (skops).")
    lineage = LineageBody(required=False)


class TrainingBody(Body):
    pipeline = serializers.CharField()
    window = MappingField(help_text='{"name": "expanding"}, {"name": "last-month", "days": 28} or with start and end.')
    parameters = MappingField(required=False, help_text="Laid over the pipeline's own.")
    reason = serializers.CharField(max_length=2000)


class OnlineBody(Body):
    number = serializers.IntegerField(required=False, min_value=1, help_text="Of the service; the newest without it.")
    rows = serializers.ListField(
        child=serializers.DictField(child=PlainJSONField(allow_null=True)),
        min_length=1, max_length=online.MOST_ENTITIES,
        help_text="The join keys of one entity each, and the service's request features where it has transforms.",
    )  # fmt: skip


class OnlineAnswer(serializers.Serializer[Any]):
    service = serializers.CharField(help_text="name@number")
    at = serializers.DateTimeField(help_text="The values are as of this instant.")
    names = serializers.ListField(child=serializers.CharField(), help_text="The columns, in the vector's order.")
    rows = serializers.ListField(
        child=serializers.ListField(child=PlainJSONField(allow_null=True)),
        help_text="One per row asked for, in its order: a value per name.",
    )
    ages = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(allow_null=True)),
        help_text="Likewise: seconds since the event that gave the value; null where nothing is known.",
    )
    statuses = serializers.ListField(
        child=serializers.ListField(child=serializers.ChoiceField(choices=online.STATUSES)),
        help_text="Likewise: why a value is null.",
    )


# ---------------------------------------------------------------------- models


class ModelFilter(filters.FilterSet):
    tier = filters.ChoiceFilter(choices=Tier.choices)
    task = filters.ChoiceFilter(choices=Task.choices)


def _with_champions(rows: QuerySet[Any]) -> QuerySet[Any]:
    champions = Prefetch("aliases", Alias.objects.filter(name=Alias.CHAMPION).select_related("version"))
    return rows.select_related("data_science", "platform", "product").prefetch_related(champions)


class Models(Listing):
    """The models that the caller's groups own (auditors and administrators: all), by name."""

    queryset = RegisteredModel.objects.all()
    serializer_class = ModelRow
    filterset_class = ModelFilter
    ordering = "name"

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return _with_champions(rows.filter(pk__in=RegisteredModel.objects.visible_to(self.user).values("pk")))


class Model(OfModel):
    """One model: tier, owners, champion, and how it is trained."""

    @extend_schema(operation_id="models_retrieve", responses=ModelDetail)
    def get(self, request: Request, name: str) -> Response:
        rows = _with_champions(RegisteredModel.objects.filter(pk=self.registered_model.pk))
        return Response(ModelDetail(rows.prefetch_related("pipelines__service").get()).data)


# ---------------------------------------------------------------------- versions


class VersionFilter(filters.FilterSet):
    load_class = filters.ChoiceFilter(choices=LoadClass.choices)
    code_digest = filters.CharFilter()
    artifact_digest = filters.CharFilter()


class Versions(ListingOfModel):
    """A model's versions, newest first; a new one is registered here."""

    queryset = ModelVersion.objects.select_related("registered_model", "service", "dataset", "registered_by")
    serializer_class = VersionRow
    filterset_class = VersionFilter
    parser_classes = (MultiPartParser,)

    @extend_schema(
        operation_id="versions_create",
        request={FORM: VersionBody},
        responses={
            201: OpenApiResponse(VersionDetail, "Registered; Location says where it is."),
            200: OpenApiResponse(VersionDetail, "The same content is registered already: this is it."),
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Register a version: its artifact with its lineage.

        Idempotent by content: the same artifact made from the same things is the same version, so this may be repeated
        after a lost answer.
        """
        refuse_larger(request, settings.GATEHOUSE_MAX_ARTIFACT_BYTES + FORM_BYTES)
        django = request._request
        django.upload_handlers = [TemporaryFileUploadHandler(django)]  # a file on disk, never in memory
        body = self.read(VersionBody)
        artifact = cast(TemporaryUploadedFile, body["artifact"])
        now = clock.now()
        version = actions.register_version(
            registered_model=self.registered_model,
            artifact=Path(artifact.temporary_file_path()),
            artifact_name=artifact.name or "artifact",
            actor=self.user,
            now=now,
            **_resolved(body.get("lineage", {})),
        )
        is_new = version.registered_at == now  # to the microsecond: one that was there already is older
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        answer = VersionDetail(self.version(version.number)).data
        return Response(answer, status=code, headers={"Location": version_url(version)})


def _resolved(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """The lineage with its feature service and dataset found by their names."""
    fields, wrong = dict(lineage), {}
    if "service" in fields:
        named = fields["service"]
        fields["service"] = _service(named)
        if fields["service"] is None:
            wrong["lineage.service"] = f"There is no feature service {named!r}; name it as name@number."
    if "dataset" in fields:
        digest = fields["dataset"]
        fields["dataset"] = Dataset.objects.filter(digest=digest).select_related("service").first()
        if fields["dataset"] is None:
            wrong["lineage.dataset"] = f"There is no dataset with the digest {digest!r}."
    if wrong:
        raise InvalidInput(wrong)
    return fields


def _service(named: str) -> FeatureService | None:
    name, _, number = named.partition("@")
    if not (number.isascii() and number.isdigit() and len(number) < 9):
        return None
    return FeatureService.objects.filter(name=name, number=int(number)).first()


class Version(OfModel):
    """One version with everything it was made from."""

    @extend_schema(operation_id="versions_retrieve", responses=VersionDetail)
    def get(self, request: Request, name: str, number: int) -> Response:
        return Response(VersionDetail(self.version(number)).data)


# ---------------------------------------------------------------------- training runs


class TrainingRunFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=RunState.choices)
    pipeline = filters.CharFilter(field_name="pipeline__name")


TRAINING_RUNS = TrainingRun.objects.select_related("registered_model", "pipeline", "dataset", "requested_by", "version")


class TrainingRuns(ListingOfModel):
    """A model's training runs, newest first; a training is requested here."""

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
