"""The API of the log as evidence: its checkpoints, and what one needs to verify them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import chain, checkpoints, signing
from audit.models import Checkpoint
from audit.rest import ApiView, Listing


class CheckpointRow(serializers.ModelSerializer[Checkpoint]):
    """The log's length, last hash and Merkle root (RFC 6962) at a moment. As signed: ``at`` with six decimals, Z."""

    at = serializers.SerializerMethodField()

    class Meta:
        model = Checkpoint
        fields = ("size", "head", "root", "at", "key_id", "signature")
        read_only_fields = fields

    def get_at(self, checkpoint: Checkpoint) -> str:
        return signing.moment(checkpoint.at)


class Checkpoints(Listing):
    """Signed checkpoints, newest first. Ed25519 over the canonical JSON (RFC 8785) of all but the signature."""

    queryset = Checkpoint.objects.all()
    serializer_class = CheckpointRow
    ordering = "-id"

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows  # hashes tell nothing of what happened


class LogState(serializers.Serializer[Any]):
    """Where the log ends now, the last checkpoint, and the public key that checkpoints are verified with."""

    position = serializers.IntegerField(help_text="Events in the chain.")
    head = serializers.CharField(help_text="Hash of the last link; empty: there is none.")
    checkpoint = CheckpointRow(allow_null=True, help_text="The newest; null: there is none yet.")
    public_key = serializers.CharField(help_text="Ed25519, 32 bytes hexadecimal; empty: no key is set up.")
    key_id = serializers.CharField(help_text="First characters of the SHA-256 of the public key.")


class LogVerification(ApiView):
    """What one needs to verify the log and its checkpoints. Verified it is by night and by manage.py verify_audit."""

    @extend_schema(operation_id="log_verification_retrieve", responses=LogState)
    def get(self, request: Request) -> Response:
        head = chain.head()
        try:
            key = checkpoints.private_key().public_key()
        except ImproperlyConfigured:
            key = None
        state = {
            "position": head.position,
            "head": head.hash,
            "checkpoint": checkpoints.latest(),
            "public_key": key.public_bytes_raw().hex() if key else "",
            "key_id": signing.key_id(key) if key else "",
        }
        return Response(LogState(state).data)
