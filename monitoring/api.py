"""Incidents over HTTP: what needs somebody, take it, close it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import ApiView, Listing, Reason
from audit.scopes import DECIDE
from monitoring.actions import incidents
from monitoring.models import Incident, IncidentKind, IncidentState
from monitoring.sight import visible_incidents
from registry.models import Duty

INCIDENTS: QuerySet[Incident] = Incident.objects.select_related(
    "registered_model", "version", "owner", "acknowledged_by"
)


class IncidentRow(serializers.ModelSerializer[Incident]):
    model = serializers.CharField(source="registered_model", read_only=True, allow_null=True)
    version = serializers.IntegerField(source="version.number", read_only=True, allow_null=True, default=None)
    owner = serializers.CharField(read_only=True, allow_null=True, help_text="The group that has to act.")
    state = serializers.ChoiceField(choices=IncidentState.choices, read_only=True)
    acknowledged_by = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Incident
        fields = (
            "id", "model", "version", "kind", "duty", "owner", "severity", "title", "detail", "evidence", "state",
            "state_reason", "state_since", "occurrences", "opened_at", "acknowledged_at", "acknowledged_by",
            "resolved_at",
        )  # fmt: skip
        read_only_fields = fields


class IncidentFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=IncidentState.choices)
    kind = filters.ChoiceFilter(choices=IncidentKind.choices)
    duty = filters.ChoiceFilter(choices=Duty.choices)
    model = filters.CharFilter(field_name="registered_model__name")


class Incidents(Listing):
    """The incidents that the caller may see, newest first."""

    queryset = INCIDENTS
    serializer_class = IncidentRow
    filterset_class = IncidentFilter

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return visible_incidents(self.user, rows)


class OneIncident(ApiView):
    """What happened, and who has it."""

    @extend_schema(operation_id="incidents_retrieve", responses=IncidentRow)
    def get(self, request: Request, pk: int) -> Response:
        return Response(IncidentRow(_incident(self, pk)).data)


def _incident(view: ApiView, pk: int) -> Incident:
    found: Incident | None = visible_incidents(view.user, INCIDENTS).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no incident {pk}, or it is not yours to see.")
    return found


class IncidentVerb(ApiView):
    """One step of an incident, with its reason."""

    scope = DECIDE

    verb: ClassVar[Callable[..., None]]

    def decide(self, pk: int) -> Response:
        incident = _incident(self, pk)
        body = self.read(Reason)
        type(self).verb(incident, actor=self.user, reason=body["reason"], now=clock.now())
        return Response(IncidentRow(_incident(self, pk)).data)


class Acknowledge(IncidentVerb):
    verb = staticmethod(incidents.acknowledge)

    @extend_schema(operation_id="incidents_acknowledge", request=Reason, responses=IncidentRow)
    def post(self, request: Request, pk: int) -> Response:
        """Take it."""
        return self.decide(pk)


class Resolve(IncidentVerb):
    verb = staticmethod(incidents.resolve)

    @extend_schema(operation_id="incidents_resolve", request=Reason, responses=IncidentRow)
    def post(self, request: Request, pk: int) -> Response:
        """The cause is gone."""
        return self.decide(pk)
