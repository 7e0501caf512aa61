"""A model's rollouts: how each goes, and what people decide about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import ApiView, Reason
from audit.scopes import DECIDE
from registry.rest import ListingOfModel, visible_rows
from rollout import actions
from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState

# ---------------------------------------------------------------------- what is answered


class MeasurementRow(serializers.ModelSerializer[Measurement]):
    """One metric of one look: difference, interval, limit, evidence for harm and for its absence (log e-values)."""

    class Meta:
        model = Measurement
        fields: tuple[str, ...] = (
            "metric",
            "verdict",
            "message",
            "value",
            "low",
            "high",
            "limit",
            "n",
            "harm",
            "no_harm",
            "needed",
        )
        read_only_fields = fields


class LookRow(serializers.ModelSerializer[AnalysisRun]):
    measurements = MeasurementRow(many=True, read_only=True)

    class Meta:
        model = AnalysisRun
        fields: tuple[str, ...] = (
            "number", "stage", "step", "at", "conclusion", "summary", "candidate_rows", "incumbent_rows",
            "measurements",
        )  # fmt: skip
        read_only_fields = fields


class RolloutRow(serializers.ModelSerializer[Rollout]):
    model = serializers.CharField(source="registered_model", read_only=True)
    endpoint = serializers.CharField(read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)
    incumbent = serializers.IntegerField(source="incumbent.number", read_only=True, allow_null=True, default=None)
    gate_run = serializers.IntegerField(source="gate_run_id", read_only=True)
    state = serializers.ChoiceField(choices=RolloutState.choices, read_only=True)

    class Meta:
        model = Rollout
        fields: tuple[str, ...] = (
            "id", "model", "endpoint", "version", "incumbent", "gate_run", "state", "state_reason", "state_since",
            "step", "step_since", "created_at", "shadow_since", "canary_since", "ended_at",
        )  # fmt: skip
        read_only_fields = fields


class RolloutDetail(RolloutRow):
    latest_look = serializers.SerializerMethodField(help_text="The newest measurements; null before the first look.")

    class Meta(RolloutRow.Meta):
        fields = (*RolloutRow.Meta.fields, "plan", "latest_look")
        read_only_fields = fields

    @extend_schema_field(LookRow(allow_null=True))
    def get_latest_look(self, rollout: Rollout) -> dict[str, Any] | None:
        look = rollout.analyses.prefetch_related("measurements").order_by("-number").first()
        return dict(LookRow(look).data) if look else None


# ---------------------------------------------------------------------- looking


class RolloutFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=RolloutState.choices)
    endpoint = filters.CharFilter(field_name="endpoint__name")
    version = filters.NumberFilter(field_name="version__number", min_value=1, max_value=2**31 - 1)


ROLLOUTS: QuerySet[Rollout] = Rollout.objects.select_related("registered_model", "endpoint", "version", "incumbent")


class Rollouts(ListingOfModel):
    """A model's rollouts, newest first."""

    queryset = ROLLOUTS
    serializer_class = RolloutRow
    filterset_class = RolloutFilter


class OneRollout(ApiView):
    """How a rollout goes, with the newest measurements."""

    @extend_schema(operation_id="rollouts_retrieve", responses=RolloutDetail)
    def get(self, request: Request, pk: int) -> Response:
        return Response(RolloutDetail(_rollout(self, pk)).data)


def _rollout(view: ApiView, pk: int) -> Rollout:
    found: Rollout | None = visible_rows(ROLLOUTS, view).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no rollout {pk}, or it is not yours to see.")
    return found


# ---------------------------------------------------------------------- deciding


class RolloutVerb(ApiView):
    """One decision about a rollout, with its reason."""

    scope = DECIDE

    verb: ClassVar[Callable[..., None]]

    def decide(self, pk: int) -> Response:
        rollout = _rollout(self, pk)
        body = self.read(Reason)
        type(self).verb(rollout, actor=self.user, reason=body["reason"], now=clock.now())
        return Response(RolloutDetail(_rollout(self, pk)).data)


class Pause(RolloutVerb):
    verb = staticmethod(actions.pause)

    @extend_schema(operation_id="rollouts_pause", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """Take the candidate off the traffic for a while."""
        return self.decide(pk)


class Resume(RolloutVerb):
    verb = staticmethod(actions.resume)

    @extend_schema(operation_id="rollouts_resume", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """Go on where it was paused."""
        return self.decide(pk)


class Abort(RolloutVerb):
    verb = staticmethod(actions.abort)

    @extend_schema(operation_id="rollouts_abort", request=Reason, responses=RolloutDetail)
    def post(self, request: Request, pk: int) -> Response:
        """End it; the champion answers everybody again."""
        return self.decide(pk)
