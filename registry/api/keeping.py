"""What is kept of a version and a model over HTTP: files, legal holds, the model card."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.rest import MappingField, Reason, etag_of
from audit.scopes import DECIDE
from registry import actions
from registry.downloads import attachment
from registry.models import (
    LegalHold,
    ModelCard,
    RegisteredModel,
)
from registry.rest import OfModel


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
