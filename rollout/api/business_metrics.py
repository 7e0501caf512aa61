"""What the product wants of an endpoint: its business metrics over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import ApiView, Body, Listing, Reason
from audit.scopes import DECIDE
from registry.rest import visible_rows
from rollout import actions
from rollout.actions.business_metrics import LONGEST_WINDOW
from rollout.models import Better, BusinessMetric, Endpoint, MeasuredPer, Missing

METRICS: QuerySet[BusinessMetric] = BusinessMetric.objects.select_related("endpoint__registered_model")


class BusinessMetricRow(serializers.ModelSerializer[BusinessMetric]):
    """What is measured, when it may be read, and how much worse a canary may be."""

    endpoint = serializers.CharField(read_only=True)
    window_seconds = serializers.SerializerMethodField(
        help_text="How long after the prediction, or the entity's first."
    )

    class Meta:
        model = BusinessMetric
        fields: tuple[str, ...] = (
            "id", "endpoint", "name", "title", "unit", "per", "better", "window_seconds", "missing",
            "is_heavy_tailed", "harm_from", "tolerated_harm", "guards", "created_at", "retired_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_window_seconds(self, metric: BusinessMetric) -> float:
        return metric.window.total_seconds()


class BusinessMetricBody(Body):
    name = serializers.CharField(max_length=40)
    title = serializers.CharField(max_length=120)
    unit = serializers.CharField(max_length=30, default="", allow_blank=True)
    per = serializers.ChoiceField(choices=MeasuredPer.choices)
    better = serializers.ChoiceField(choices=Better.choices)
    window_seconds = serializers.FloatField(
        min_value=1, max_value=LONGEST_WINDOW.total_seconds(), help_text="It is read only when this has passed."
    )
    missing = serializers.ChoiceField(choices=Missing.choices, help_text="What it means that nothing was reported.")
    is_heavy_tailed = serializers.BooleanField(default=False, help_text="Compared on log(1 + value).")
    harm_from = serializers.FloatField(default=0.0, help_text="Worse by more than this, proven, rolls back.")
    tolerated_harm = serializers.FloatField(help_text="It goes on when worse by this is excluded.")
    guards = serializers.BooleanField(default=True, help_text="false: only reported.")
    reason = serializers.CharField(max_length=2000, default="", allow_blank=True)


class BusinessMetricFilter(filters.FilterSet):
    retired = filters.BooleanFilter(field_name="retired_at", lookup_expr="isnull", exclude=True)


class _OfEndpoint(ApiView):
    """Below an endpoint of a model that the caller may see."""

    scope = DECIDE

    def endpoint(self, name: str) -> Endpoint:
        mine = visible_rows(Endpoint.objects.select_related("registered_model"), self)
        found: Endpoint | None = mine.filter(name=name).first()
        if found is None:
            raise NotFound(f"There is no endpoint {name!r}, or it is not yours to see.")
        return found


class BusinessMetrics(_OfEndpoint, Listing):
    """An endpoint's business metrics, newest first; those of the past among them."""

    queryset = METRICS
    serializer_class = BusinessMetricRow
    filterset_class = BusinessMetricFilter

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(endpoint=self.endpoint(self.kwargs["name"]))

    @extend_schema(
        operation_id="business_metrics_define", request=BusinessMetricBody, responses={201: BusinessMetricRow}
    )
    def post(self, request: Request, name: str) -> Response:
        """Define a metric, or define it anew: the one before is retired, running canaries keep to it."""
        endpoint = self.endpoint(name)
        body = self.read(BusinessMetricBody)
        window = timedelta(seconds=body.pop("window_seconds"))
        metric = actions.define_business_metric(endpoint, **body, window=window, actor=self.user, now=clock.now())
        return Response(BusinessMetricRow(metric).data, status=status.HTTP_201_CREATED)


class RetireBusinessMetric(_OfEndpoint):
    """Measure it no more."""

    @extend_schema(operation_id="business_metrics_retire", request=Reason, responses=BusinessMetricRow)
    def post(self, request: Request, name: str, metric: str) -> Response:
        """Retire the metric of this name that is in force; running canaries keep to it."""
        body = self.read(Reason)
        found = METRICS.filter(endpoint=self.endpoint(name), name=metric, retired_at=None).first()
        if found is None:
            raise NotFound(f"{name} has no metric {metric!r} in force.")
        actions.retire_business_metric(found, reason=body["reason"], actor=self.user, now=clock.now())
        return Response(BusinessMetricRow(found).data)
