"""The registry over HTTP: models, their versions with lineage, training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponseBase, QueryDict
from django.urls import reverse
from django.utils.functional import cached_property
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.rest import Body, Listing, MappingField, PlainJSONField, Reason, etag_of
from audit.scopes import DECIDE, REGISTER
from features import online
from features.models import Dataset, FeatureService
from registry import actions, artifacts
from registry.downloads import attachment
from registry.duties import require
from registry.intake import Received, receive
from registry.lineage import trace
from registry.manifest import MAX_FILES
from registry.models import (
    Alias,
    Duty,
    LegalHold,
    LoadClass,
    ModelCard,
    ModelVersion,
    RegisteredModel,
    RunState,
    Task,
    Tier,
    TrainingPipeline,
    TrainingRun,
)
from registry.rest import ListingOfModel, OfModel
from registry.sight import visible_services
from registry.uploads import Upload, VersionParser

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
            "training_run", "label", "metrics", "commit", "dirty", "code_digest", "content_digest", "manifest_digest",
            "note", "registered_by", "registered_at",
        )  # fmt: skip
        read_only_fields = fields


class VersionDetail(VersionRow):
    load_class_because = serializers.SerializerMethodField(help_text="Why it may be loaded so, or not.")
    lineage = serializers.SerializerMethodField(help_text="What it was made from, as a tree; unverified parts say so.")

    class Meta(VersionRow.Meta):
        fields: tuple[str, ...] = (
            *VersionRow.Meta.fields, "load_class_because", "registered_with", "claims", "parameters", "importance",
            "environment", "environment_lock", "seed", "signature", "lineage",
        )  # fmt: skip
        read_only_fields = fields

    def get_load_class_because(self, version: ModelVersion) -> str:
        return artifacts.why_loaded(version)

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
    environment_lock = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, max_length=500_000,
        help_text="Every package with its version, as a lock file has them.",
    )  # fmt: skip
    claims = MappingField(
        required=False, help_text="What you say of yourself (user, host, run id): kept, not believed."
    )
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
    """A form; ``lineage`` is a JSON text. A file's name is its path in the version, relative and plain."""

    artifact = serializers.FileField(
        help_text="The model: skops, ONNX, XGBoost's JSON, LightGBM's text, or a document of an external model. "
        "Anything else is kept in quarantine and never loaded."
    )
    files = serializers.ListField(
        child=serializers.FileField(),
        required=False,
        max_length=MAX_FILES,
        help_text="What lies beside it, such as its documentation; repeat the part.",
    )
    lineage = LineageBody(required=False)


class OwnersBody(Body):
    """The groups with the three duties; one that is not named stays."""

    data_science = serializers.CharField(required=False)
    platform = serializers.CharField(required=False)
    product = serializers.CharField(required=False)


class ModelChange(Reason):
    """What is not named stays as it is."""

    title = serializers.CharField(required=False, max_length=200)
    description = serializers.CharField(required=False, allow_blank=True, max_length=20_000)
    tier = serializers.ChoiceField(required=False, choices=Tier.choices)
    owners = OwnersBody(required=False)


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

    scope = DECIDE

    @extend_schema(operation_id="models_retrieve", responses=ModelDetail)
    def get(self, request: Request, name: str) -> Response:
        return Response(self._detail())

    @extend_schema(operation_id="models_change", request=ModelChange, responses=ModelDetail)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is said of a model, its tier or its owners, as it was when you read it (If-Match).

        Words: any owner. A duty is handed on by the group that has it, the tier by the product owner.
        """
        body = self.read(ModelChange)
        owners = _groups(body.pop("owners", {}))
        with transaction.atomic():
            # first to the row's lock, first to change: the other finds another ETag
            model = RegisteredModel.objects.select_for_update(no_key=True, of=("self",)).get(
                pk=self.registered_model.pk
            )
            self.require_match(self._detail())
            present = {each: getattr(model, each) for each in ("title", "description", "tier", *Duty.values)}
            actions.change_model(model, **{**present, **owners, **body}, actor=self.user, now=clock.now())
        changed = self._detail()
        return Response(changed, headers={"ETag": etag_of(changed)})

    def _detail(self) -> Any:
        rows = _with_champions(RegisteredModel.objects.filter(pk=self.registered_model.pk))
        return ModelDetail(rows.prefetch_related("pipelines__service").get()).data


def _groups(named: Mapping[str, str]) -> dict[str, Group]:
    found = {group.name: group for group in Group.objects.filter(name__in=named.values())}
    if wrong := {f"owners.{duty}": f"There is no group {name!r}." for duty, name in named.items() if name not in found}:
        raise InvalidInput(wrong)
    return {duty: found[name] for duty, name in named.items()}


# ---------------------------------------------------------------------- versions


class VersionFilter(filters.FilterSet):
    load_class = filters.ChoiceFilter(choices=LoadClass.choices)
    code_digest = filters.CharFilter()
    artifact_digest = filters.CharFilter()


class Versions(ListingOfModel):
    """A model's versions, newest first; a new one is registered here."""

    scope = REGISTER

    queryset = ModelVersion.objects.select_related("registered_model", "service", "dataset", "registered_by")
    serializer_class = VersionRow
    filterset_class = VersionFilter
    parser_classes = (VersionParser,)

    @extend_schema(
        operation_id="versions_create",
        request={FORM: VersionBody},
        responses={
            201: OpenApiResponse(VersionDetail, "Registered; Location says where it is."),
            200: OpenApiResponse(VersionDetail, "The same content is registered already: this is it."),
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Register a version: its model file, what lies beside it, and its lineage.

        Idempotent by content: the same files made from the same things are the same version, so this may be repeated
        after a lost answer. Who registers is who calls; what the form says of itself is kept as claims.
        """
        now, lineage = clock.now(), _resolved(self.body.get("lineage", {}), self.user)
        version = actions.register_version(
            registered_model=self.registered_model,
            artifact=self.received,
            registered_with=getattr(request.auth, "token_key", ""),
            actor=self.user,
            now=now,
            **lineage,
        )
        is_new = version.registered_at == now  # to the microsecond: one that was there already is older
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        answer = VersionDetail(self.version(version.number)).data
        return Response(answer, status=code, headers={"Location": version_url(version)})

    def prepare_post(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Look into the file and store it: seconds, and what is stored for nothing is swept up later."""
        _resolved(self.body.get("lineage", {}), self.user)  # what is refused anyway is refused first
        self.received  # noqa: B018  # kept until ``post`` asks for it

    @cached_property
    def body(self) -> Mapping[str, Any]:
        body = self.read(VersionBody)
        self._refuse_second("artifact", "lineage")
        return body

    @cached_property
    def received(self) -> Received:
        require(self.user, self.registered_model, Duty.DATA_SCIENCE)
        artifact: Upload = self.body["artifact"]
        return receive(
            registered_model=self.registered_model,
            artifact=artifact.staged,
            artifact_name=artifact.name,
            files=[(file.name, file.staged) for file in self.body.get("files", ())],
        )

    def _refuse_second(self, *parts: str) -> None:
        """Of two parts with one name, readers choose differently."""
        form = cast("QueryDict", self.request.data)  # what the parser of forms makes
        if twice := [name for name in parts if len(form.getlist(name)) > 1]:
            raise InvalidInput(dict.fromkeys(twice, "This part may be in the form once."))


def _resolved(lineage: Mapping[str, Any], user: User) -> dict[str, Any]:
    """The lineage with its feature service and dataset found by their names, among those that ``user`` may see.

    What a version takes is visible to its model's owners from then on: naming it must not be the way to see it.
    """
    fields, wrong = dict(lineage), {}
    services = visible_services(user)
    if "service" in fields:
        named = fields["service"]
        fields["service"] = _service(named, services)
        if fields["service"] is None:
            wrong["lineage.service"] = (
                f"There is no feature service {named!r}, or it is not yours to see; name it as name@number."
            )
    if "dataset" in fields:
        digest = fields["dataset"]
        datasets = Dataset.objects.filter(service__in=services.values("pk")).select_related("service")
        fields["dataset"] = datasets.filter(digest=digest).first()
        if fields["dataset"] is None:
            wrong["lineage.dataset"] = f"There is no dataset with the digest {digest!r}, or it is not yours to see."
    if wrong:
        raise InvalidInput(wrong)
    return fields


def _service(named: str, among: QuerySet[FeatureService]) -> FeatureService | None:
    name, _, number = named.partition("@")
    if not (number.isascii() and number.isdigit() and len(number) < 9):
        return None
    return among.filter(name=name, number=int(number)).first()


class Version(OfModel):
    """One version with everything it was made from."""

    @extend_schema(operation_id="versions_retrieve", responses=VersionDetail)
    def get(self, request: Request, name: str, number: int) -> Response:
        return Response(VersionDetail(self.version(number)).data)


# ---------------------------------------------------------------------- files


class FileRow(serializers.Serializer[Any]):
    path = serializers.CharField()
    role = serializers.CharField(help_text="model, or other for what lies beside it.")
    digest = serializers.CharField(source="blob_id", help_text="SHA-256 of its bytes.")
    bytes = serializers.IntegerField(source="blob.bytes")
    removed_at = serializers.DateTimeField(
        source="blob.removed_at", allow_null=True, help_text="When its bytes were removed; null: they are there."
    )


class Manifest(serializers.Serializer[Any]):
    manifest_digest = serializers.CharField(help_text="SHA-256 over 'path NUL digest NUL size LF' per file, by path.")
    files = FileRow(many=True)


class VersionFiles(OfModel):
    """The files of a version."""

    @extend_schema(operation_id="version_files", responses=Manifest)
    def get(self, request: Request, name: str, number: int) -> Response:
        version = self.version(number)
        files = version.files.select_related("blob").order_by("path")
        return Response(Manifest({"manifest_digest": version.manifest_digest, "files": files}).data)


class VersionFile(OfModel):
    """One file of a version."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Whatever the caller accepts: there is one form, the bytes."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="version_file",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, number: int, path: str) -> HttpResponseBase:
        """The bytes as an attachment. Repr-Digest has their SHA-256; an answer that was cut short is damaged."""
        return attachment(self.version(number), path)


# ---------------------------------------------------------------------- holds and cards


class HoldRow(serializers.ModelSerializer[LegalHold]):
    placed_by = serializers.CharField(read_only=True)
    released_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = LegalHold
        fields: tuple[str, ...] = ("id", "reason", "placed_by", "placed_at", "released_by", "released_at")
        read_only_fields = fields


class Hold(OfModel):
    """The legal hold of a version: while one stands, nothing of the version is removed."""

    scope = DECIDE

    def known_query(self) -> set[str]:
        return {"reason"} if self.request.method == "DELETE" else set()

    @extend_schema(operation_id="holds_retrieve", responses=HoldRow(many=True))
    def get(self, request: Request, name: str, number: int) -> Response:
        """All holds of the version, the newest first; one stands while ``released_at`` is null."""
        holds = self.version(number).holds.select_related("placed_by", "released_by")
        return Response(HoldRow(holds, many=True).data)

    @extend_schema(operation_id="holds_place", request=Reason, responses={201: HoldRow})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Place a hold: any owner, any auditor. One stands at a time (409)."""
        reason = self.read(Reason)["reason"]
        hold = actions.place_hold(self.version(number), reason=reason, actor=self.user, now=clock.now())
        return Response(HoldRow(hold).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="holds_release",
        parameters=[OpenApiParameter("reason", str, required=True, description="Why: this is the record.")],
        responses={200: HoldRow},
    )
    def delete(self, request: Request, name: str, number: int) -> Response:
        """Release the standing hold: an auditor or an administrator, and not who placed it."""
        said = Reason(data=request.query_params.dict())
        if not said.is_valid():
            raise InvalidInput(dict(said.errors))
        reason = said.validated_data["reason"]
        hold = actions.release_hold(self.version(number), reason=reason, actor=self.user, now=clock.now())
        return Response(HoldRow(hold).data)


class CardBody(Reason):
    content = MappingField(help_text="What only people know of the model; the whole card, a field left out is unsaid.")


class CardRow(serializers.ModelSerializer[ModelCard]):
    written_by = serializers.CharField(read_only=True)

    class Meta:
        model = ModelCard
        fields: tuple[str, ...] = ("number", "content", "content_hash", "written_by", "written_at")
        read_only_fields = fields


class Card(OfModel):
    """What only people know of a model: purpose, limits, oversight. Numbered, never changed; the newest counts."""

    scope = DECIDE

    @extend_schema(operation_id="cards_retrieve", responses=CardRow)
    def get(self, request: Request, name: str) -> Response:
        card = self._current()
        if card is None:
            raise NotFound(f"{self.registered_model} has no card yet.")
        return Response(CardRow(card).data)

    @extend_schema(operation_id="cards_write", request=CardBody, responses=CardRow)
    def put(self, request: Request, name: str) -> Response:
        """Write the next card: any owner. The same content again is the card in force. If-Match is heeded."""
        body = self.read(CardBody)
        with transaction.atomic():
            RegisteredModel.objects.select_for_update(no_key=True).get(pk=self.registered_model.pk)
            current = self._current()
            if "If-Match" in request.headers:
                self.require_match(CardRow(current).data if current else None)
            card = actions.write_card(self.registered_model, **body, actor=self.user, now=clock.now())
        answer = CardRow(card).data
        return Response(answer, headers={"ETag": etag_of(answer)})

    def _current(self) -> ModelCard | None:
        newest: ModelCard | None = self.registered_model.cards.select_related("written_by").first()
        return newest


# ---------------------------------------------------------------------- training runs


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
