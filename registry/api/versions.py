"""Versions over HTTP: register one, and everything it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import cached_property
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import Body, MappingField
from audit.scopes import REGISTER
from features.models import Dataset, FeatureService
from registry import actions, artifacts
from registry.duties import require
from registry.intake import Received, receive
from registry.lineage import trace
from registry.manifest import MAX_FILES
from registry.models import (
    Duty,
    LoadClass,
    ModelVersion,
)
from registry.rest import ListingOfModel, OfModel
from registry.sight import visible_services
from registry.uploads import Upload, VersionParser

FORM = "multipart/form-data"


def version_url(version: ModelVersion) -> str:
    return reverse("api:version", args=[version.registered_model.name, version.number])


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
