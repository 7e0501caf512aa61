"""Gate runs over HTTP: see why a version passed or failed, have it judged again."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import Body
from audit.scopes import REGISTER
from gates import actions
from gates.models import CheckResult, GateRun, GateRunState, Preparation
from gates.standing import Progress, progress
from registry.rest import ListingOfModel, OfModel


class CheckRow(serializers.ModelSerializer[CheckResult]):
    """One check's verdict with its numbers."""

    class Meta:
        model = CheckResult
        fields: tuple[str, ...] = (
            "check_id", "kind", "blocking", "verdict", "message", "value", "low", "high", "n", "threshold", "detail",
            "wall_seconds",
        )  # fmt: skip
        read_only_fields = fields


class CheckDetail(CheckRow):
    """With the numbers that were judged: judging them again gives the same verdict."""

    class Meta(CheckRow.Meta):
        fields = (*CheckRow.Meta.fields, "measured")
        read_only_fields = fields


class PreparationRow(serializers.ModelSerializer[Preparation]):
    """What the run is measured on, fixed before its first check."""

    class Meta:
        model = Preparation
        fields: tuple[str, ...] = (
            "inputs", "inputs_hash", "scores_digest", "missing", "prepared_at", "wall_seconds",
        )  # fmt: skip
        read_only_fields = fields


class ProgressRow(serializers.Serializer[Progress]):
    done = serializers.IntegerField(help_text="Checks that have their result.")
    all = serializers.IntegerField(help_text="Checks of the policy.")
    waiting_for = serializers.ListField(
        child=serializers.CharField(),
        help_text="Of an open run the evidence that has not come, of a running one the checks whose turn has not come.",
    )
    running = serializers.ListField(
        child=serializers.CharField(), help_text="Checks, or the preparation, that a worker has in its hands."
    )


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
    progress = serializers.SerializerMethodField(help_text="How far it is.")
    preparation = PreparationRow(read_only=True, allow_null=True, default=None)
    checks = CheckRow(source="results", many=True, read_only=True)

    class Meta(GateRunRow.Meta):
        fields = (*GateRunRow.Meta.fields, "missing_evidence", "progress", "preparation", "checks")
        read_only_fields = fields

    @extend_schema_field(ProgressRow)
    def get_progress(self, run: GateRun) -> dict[str, Any]:
        return progress(run).as_dict()

    def get_missing_evidence(self, run: GateRun) -> list[str]:
        return list(actions.missing_evidence(run)) if run.state == GateRunState.OPEN else []


class GateRunBody(Body):
    version = serializers.IntegerField(min_value=1, help_text="Number of the version to judge once more.")
    reason = serializers.CharField(max_length=2000)


class GateRunFilter(filters.FilterSet):
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=2**31 - 1)
    state = filters.ChoiceFilter(choices=GateRunState.choices)


RUNS: QuerySet[GateRun] = GateRun.objects.select_related(
    "registered_model", "version__registered_model", "policy", "champion", "holdout"
)
DETAILED = RUNS.select_related("preparation").prefetch_related("results")


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
        answer = GateRunDetail(DETAILED.get(pk=run.pk)).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})


class OneGateRun(OfModel):
    """How far it is, what it is measured on, every check with its verdict and numbers."""

    @extend_schema(operation_id="gate_runs_retrieve", responses=GateRunDetail)
    def get(self, request: Request, name: str, pk: int) -> Response:
        return Response(GateRunDetail(self.mine(DETAILED, pk)).data)


class OneCheck(OfModel):
    """One check of a run with the numbers that were judged."""

    @extend_schema(operation_id="gate_run_checks_retrieve", responses=CheckDetail)
    def get(self, request: Request, name: str, pk: int, check_id: str) -> Response:
        run = self.mine(RUNS, pk)
        result = run.results.filter(check_id=check_id).first()
        if result is None:
            raise NotFound(f"{run} has no result of a check {check_id!r}.")
        return Response(CheckDetail(result).data)
