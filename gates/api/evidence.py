"""Evidence over HTTP: submit a report, see what was read from it."""

from __future__ import annotations

from django.urls import reverse
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import Body, PlainJSONField
from audit.scopes import REGISTER
from gates import actions
from gates.models import Evidence, EvidenceKind, Verdict
from registry.rest import ListingOfModel, OfModel


class EvidenceRow(serializers.ModelSerializer[Evidence]):
    model = serializers.CharField(source="registered_model", read_only=True)
    version = serializers.IntegerField(
        source="version.number",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Of a measurement: the version it was made of.",
    )
    submitted_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Evidence
        fields: tuple[str, ...] = (
            "id", "model", "kind", "verdict", "summary", "code_digest", "commit", "version", "name", "payload",
            "submitted_by", "submitted_at",
        )  # fmt: skip
        read_only_fields = fields


class EvidenceBody(Body):
    kind = serializers.ChoiceField(choices=EvidenceKind.choices)
    code_digest = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        help_text="SHA-256 over the code folder that the report is about. Every kind but measurement needs it.",
    )
    commit = serializers.CharField(required=False, allow_blank=True, default="", max_length=64)
    version = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        help_text="Number of the version that a measurement was made of. A measurement needs it, no other kind has it.",
    )
    name = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=100,
        help_text="Of a measurement: what was measured, where the report does not say it as metric.",
    )
    report = PlainJSONField(
        help_text=(
            "unit, integration: JUnit XML as text. lint: ruff's JSON, or text with a line per finding as flake8 prints "
            "it (with --count). coverage: coverage.py's JSON, or Cobertura XML as text. measurement: an object with "
            "metric, value and optionally n, low, high, confidence; the policy judges it, so it carries no bar."
        )
    )


class EvidenceFilter(filters.FilterSet):
    kind = filters.ChoiceFilter(choices=EvidenceKind.choices)
    verdict = filters.ChoiceFilter(choices=Verdict.choices)
    code_digest = filters.CharFilter()
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=2**31 - 1)
    name = filters.CharFilter()


EVIDENCE = Evidence.objects.select_related("registered_model", "version", "submitted_by")


class EvidenceListing(ListingOfModel):
    """Reports about a model's code and measurements of its versions, newest first; a pipeline submits its own here."""

    scope = REGISTER

    queryset = EVIDENCE
    serializer_class = EvidenceRow
    filterset_class = EvidenceFilter

    @extend_schema(
        operation_id="evidence_create",
        request=EvidenceBody,
        responses={201: OpenApiResponse(EvidenceRow, "Recorded, with the verdict that we read from it.")},
    )
    def post(self, request: Request, name: str) -> Response:
        """Submit a report. Gatehouse reads the verdict from it itself."""
        body = self.read(EvidenceBody)
        version = None if body["version"] is None else self.version(body["version"])
        try:
            evidence = actions.submit_evidence(
                registered_model=self.registered_model,
                kind=body["kind"],
                code_digest=body["code_digest"],
                commit=body["commit"],
                version=version,
                name=body["name"],
                payload=body["report"],
                actor=self.user,
                now=clock.now(),
            )
        except InvalidInput as refusal:  # what is kept of a report is its payload; here it is still the report
            named = {"report" if field == "payload" else field: why for field, why in refusal.errors.items()}
            raise InvalidInput(named) from refusal
        url = reverse("api:evidence", args=[name, evidence.pk])
        return Response(EvidenceRow(evidence).data, status=status.HTTP_201_CREATED, headers={"Location": url})


class OneEvidence(OfModel):
    """One report as it was read."""

    @extend_schema(operation_id="evidence_retrieve", responses=EvidenceRow)
    def get(self, request: Request, name: str, pk: int) -> Response:
        return Response(EvidenceRow(self.mine(EVIDENCE.all(), pk)).data)
