"""Dossiers and incident reports over HTTP: issue one, list those issued, fetch one in a form; and the verifier."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.utils.functional import cached_property
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.models import Report
from audit.rest import ApiView, Body, Listing
from audit.scopes import LINEAGE
from mlops import dossier
from mlops.dossier.handing import HTML, JSON, PDF, ZIP, handed_out, verifier
from monitoring.models import Incident
from monitoring.sight import visible_incidents
from registry.rest import ListingOfModel, OfModel

REPORTS: QuerySet[Report] = Report.objects.select_related("issued_by")
FORMS = (JSON, HTML, PDF, ZIP)


class ReportRow(serializers.ModelSerializer[Report]):
    """A report that was issued. For its position its bytes are always the same."""

    issued_by = serializers.CharField(read_only=True)

    class Meta:
        model = Report
        fields = ("kind", "subject_label", "position", "digest", "generator", "issued_by", "issued_at")
        read_only_fields = fields


class Nothing(Body):
    """Nothing needs to be said."""


class Bytes(ApiView):
    """What is answered has one form, whatever the caller accepts."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)


FORM = OpenApiParameter("form", str, enum=FORMS, description="zip has all of them, with the verifier. Else: json.")
FILES = {
    (200, "application/json"): OpenApiTypes.OBJECT,
    (200, "text/html"): OpenApiTypes.STR,
    (200, "application/pdf"): OpenApiTypes.BINARY,
    (200, "application/zip"): OpenApiTypes.BINARY,
}


def reports_about(subject: models.Model) -> QuerySet[Report]:
    """The reports that were issued about a row."""
    return REPORTS.filter(subject_type=subject._meta.label_lower, subject_id=str(subject.pk))


def _fetched(subject: models.Model, position: int, request: Request) -> HttpResponseBase:
    form = request.query_params.get("form", JSON)
    if form not in FORMS:
        raise exceptions.ValidationError({"form": [f"There is no form {form!r}. There are: {', '.join(FORMS)}."]})
    report = reports_about(subject).filter(position=position).order_by("-id").first()
    if report is None:
        raise NotFound(f"No report of {subject} was issued at position {position}.")
    return handed_out(report, form)


class Dossiers(ListingOfModel):
    """Dossiers of a version that were issued, newest first."""

    queryset = REPORTS
    serializer_class = ReportRow
    scope = LINEAGE
    takes_keys = False  # the same position is the same report

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return reports_about(self.version(self.kwargs["number"]))

    @extend_schema(operation_id="dossiers_issue", request=Nothing, responses={201: ReportRow})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Issue the dossier as of now. The last one again while nothing has been recorded since."""
        self.read(Nothing)
        report = dossier.issue(self.version(number), actor=self.user, now=clock.now())
        return Response(ReportRow(report).data, status=status.HTTP_201_CREATED)


class OneDossier(OfModel, Bytes):
    """One dossier, in the form asked for, to be saved."""

    query = ("form",)

    @extend_schema(operation_id="dossiers_retrieve", parameters=[FORM], responses=FILES)
    def get(self, request: Request, name: str, number: int, position: int) -> HttpResponseBase:
        """The report issued at this position of the log, built again and compared with the digest it was issued with.

        409: it does not have that digest any more; the record was changed, or another generator wrote it.
        """
        return _fetched(self.version(number), position, request)


class OfIncident(ApiView):
    """A view below ``incidents/<id>/``. Whether it is there is settled before anything is read or done."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.incident  # noqa: B018  # raises NotFound

    @cached_property
    def incident(self) -> Incident:
        related = ("registered_model", "version", "owner")
        found = visible_incidents(self.user, Incident.objects.select_related(*related)).filter(pk=self.kwargs["pk"])
        incident: Incident | None = found.first()
        if incident is None:
            raise NotFound(f"There is no incident {self.kwargs['pk']}, or it is not yours to see.")
        return incident


class IncidentReports(OfIncident, Listing):
    """Reports of an incident that were issued, newest first."""

    queryset = REPORTS
    serializer_class = ReportRow
    scope = LINEAGE
    takes_keys = False

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return reports_about(self.incident)

    @extend_schema(operation_id="incident_reports_issue", request=Nothing, responses={201: ReportRow})
    def post(self, request: Request, pk: int) -> Response:
        """Issue the report as of now. The last one again while nothing has been recorded since."""
        self.read(Nothing)
        report = dossier.issue_incident(self.incident, actor=self.user, now=clock.now())
        return Response(ReportRow(report).data, status=status.HTTP_201_CREATED)


class OneIncidentReport(OfIncident, Bytes):
    """One incident report, in the form asked for, to be saved."""

    query = ("form",)

    @extend_schema(operation_id="incident_reports_retrieve", parameters=[FORM], responses=FILES)
    def get(self, request: Request, pk: int, position: int) -> HttpResponseBase:
        """The report issued at this position of the log; like a dossier."""
        return _fetched(self.incident, position, request)


class Verifier(Bytes):
    """The script that checks a report offline."""

    @extend_schema(operation_id="dossiers_verifier", responses={(200, "text/x-python"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponseBase:
        """Python 3.9, standard library alone. Exit code 0: the report is intact."""
        return verifier()
