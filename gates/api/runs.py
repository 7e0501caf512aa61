"""The gates over HTTP: submit evidence, see why a version passed or failed, have it judged again."""

from __future__ import annotations

from django.db.models import QuerySet
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
from gates.models import CheckResult, Evidence, EvidenceKind, GateRun, GateRunState, Verdict
from registry.rest import ListingOfModel, OfModel

# ---------------------------------------------------------------------- what is answered


class EvidenceRow(serializers.ModelSerializer[Evidence]):
    model = serializers.CharField(source="registered_model", read_only=True)
    submitted_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Evidence
        fields: tuple[str, ...] = (
            "id", "model", "kind", "verdict", "summary", "code_digest", "commit", "payload", "submitted_by",
            "submitted_at",
        )  # fmt: skip
        read_only_fields = fields


class CheckRow(serializers.ModelSerializer[CheckResult]):
    """One check's verdict with its numbers."""

    class Meta:
        model = CheckResult
        fields: tuple[str, ...] = (
            "check_id", "kind", "blocking", "verdict", "message", "value", "low", "high", "n", "threshold", "detail",
        )  # fmt: skip
        read_only_fields = fields


class GateRunRow(serializers.ModelSerializer[GateRun]):
    model = serializers.CharField(source="registered_model", read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)
    policy = serializers.IntegerField(source="policy.number", read_only=True)
    champion = serializers.IntegerField(
        source="champion.number", read_only=True, allow_null=True, default=None, help_text="What it was compared with."
    )
    holdout = serializers.CharField(
        source="holdout.digest", read_only=True, allow_null=True, default=None, help_text="Digest of the judged rows."
    )
    state = serializers.ChoiceField(choices=GateRunState.choices, read_only=True)

    class Meta:
        model = GateRun
        fields: tuple[str, ...] = (
            "id", "model", "version", "number", "policy", "state", "state_reason", "state_since", "champion", "holdout",
            "seed", "required_checks", "opened_at", "deadline", "wall_seconds",
        )  # fmt: skip
        read_only_fields = fields


class GateRunDetail(GateRunRow):
    missing_evidence = serializers.SerializerMethodField(help_text="Kinds that an open run still waits for.")
    checks = CheckRow(source="results", many=True, read_only=True)

    class Meta(GateRunRow.Meta):
        fields = (*GateRunRow.Meta.fields, "missing_evidence", "checks")
        read_only_fields = fields

    def get_missing_evidence(self, run: GateRun) -> list[str]:
        return list(actions.missing_evidence(run)) if run.state == GateRunState.OPEN else []


# ---------------------------------------------------------------------- what is asked


class EvidenceBody(Body):
    kind = serializers.ChoiceField(choices=EvidenceKind.choices)
    code_digest = serializers.CharField(help_text="SHA-256 over the code folder that the report is about.")
    commit = serializers.CharField(required=False, allow_blank=True, default="", max_length=64)
    report = PlainJSONField(
        help_text=(
            "unit, integration: JUnit XML as text. lint: ruff's JSON. measurement: an object with metric, value and "
            "optionally n, at_least, at_most."
        )
    )


class GateRunBody(Body):
    version = serializers.IntegerField(min_value=1, help_text="Number of the version to judge once more.")
    reason = serializers.CharField(max_length=2000)


# ---------------------------------------------------------------------- evidence


class EvidenceFilter(filters.FilterSet):
    kind = filters.ChoiceFilter(choices=EvidenceKind.choices)
    verdict = filters.ChoiceFilter(choices=Verdict.choices)
    code_digest = filters.CharFilter()


EVIDENCE = Evidence.objects.select_related("registered_model", "submitted_by")


class EvidenceListing(ListingOfModel):
    """Reports about a model's code, newest first; a pipeline submits its own here."""

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
        try:
            evidence = actions.submit_evidence(
                registered_model=self.registered_model,
                kind=body["kind"],
                code_digest=body["code_digest"],
                commit=body["commit"],
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


# ---------------------------------------------------------------------- gate runs


class GateRunFilter(filters.FilterSet):
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=2**31 - 1)
    state = filters.ChoiceFilter(choices=GateRunState.choices)


RUNS: QuerySet[GateRun] = GateRun.objects.select_related(
    "registered_model", "version__registered_model", "policy", "champion", "holdout"
)


class GateRuns(ListingOfModel):
    """Judgements of a model's versions, newest first."""

    scope = REGISTER

    queryset = RUNS
    serializer_class = GateRunRow
    filterset_class = GateRunFilter

    @extend_schema(
        operation_id="gate_runs_create",
        request=GateRunBody,
        responses={201: OpenApiResponse(GateRunDetail, "Opened; Location says where to ask for its end.")},
    )
    def post(self, request: Request, name: str) -> Response:
        """Judge a version once more. Refused (409) while it is being judged, and when it has passed already."""
        body = self.read(GateRunBody)
        version = self.version(body["version"])
        run = actions.rerun(version, actor=self.user, reason=body["reason"], now=clock.now())
        url = reverse("api:gate-run", args=[name, run.pk])
        answer = GateRunDetail(RUNS.get(pk=run.pk)).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})


class OneGateRun(OfModel):
    """Every check with its verdict and numbers."""

    @extend_schema(operation_id="gate_runs_retrieve", responses=GateRunDetail)
    def get(self, request: Request, name: str, pk: int) -> Response:
        return Response(GateRunDetail(self.mine(RUNS.prefetch_related("results"), pk)).data)
