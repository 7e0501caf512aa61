"""The portal's pages of reports: issue one, see which were issued and how complete they are, read and download them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.urls import path, reverse

from audit import clock
from audit.errors import Conflict
from audit.models import Report
from mlops import dossier
from mlops.dossier.handing import TYPES, handed_out
from mlops.dossier.issuing import may_issue, may_issue_incident
from monitoring.models import Incident
from monitoring.sight import visible_incidents
from registry.models import ModelVersion, RegisteredModel


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _version(request: HttpRequest, name: str, number: int) -> ModelVersion:
    visible = RegisteredModel.objects.visible_to(_user(request))
    versions = ModelVersion.objects.filter(registered_model__in=visible).select_related("registered_model")
    return get_object_or_404(versions, registered_model__name=name, number=number)


def _incident(request: HttpRequest, pk: int) -> Incident:
    rows = Incident.objects.select_related("registered_model", "version", "owner")
    incident: Incident = get_object_or_404(visible_incidents(_user(request), rows), pk=pk)
    return incident


@login_required
def version_reports(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Which dossiers of this version exist, and what do they know? A POST issues one."""
    version = _version(request, name, number)
    back = reverse("portal:dossiers", args=[name, number])
    if request.method == "POST":
        report = dossier.issue(version, actor=_user(request), now=clock.now())
        return _issued(request, report, back)
    context = {
        "title": f"Dossiers of {version}",
        "about": version,
        "about_url": reverse("portal:version", args=[name, number]),
        "what": "dossier",
        "may_issue": may_issue(version, _user(request)),
    }
    return _listed(request, version, context)


@login_required
def incident_reports(request: HttpRequest, pk: int) -> HttpResponse:
    """Which reports of this incident exist? A POST issues one."""
    incident = _incident(request, pk)
    if request.method == "POST":
        report = dossier.issue_incident(incident, actor=_user(request), now=clock.now())
        return _issued(request, report, reverse("portal:incident-reports", args=[pk]))
    context = {
        "title": f"Reports of incident {incident.pk}",
        "about": incident,
        "about_url": reverse("portal:incident", args=[pk]),
        "what": "incident report",
        "may_issue": may_issue_incident(incident, _user(request)),
    }
    return _listed(request, incident, context)


def _issued(request: HttpRequest, report: Report, back: str) -> HttpResponse:
    messages.success(request, f"Issued as of log position {report.position}. SHA-256 {report.digest}.")
    return redirect(back)


def _listed(request: HttpRequest, subject: models.Model, context: dict[str, Any]) -> HttpResponse:
    about = Report.objects.filter(subject_type=subject._meta.label_lower, subject_id=str(subject.pk))
    reports = list(about.select_related("issued_by")[:50])
    shown = _completeness(reports[0]) if reports else {}
    context |= {"reports": reports, "forms": list(TYPES), "now": clock.now(), **shown}
    return render(request, "portal/dossiers.html", context)


def _completeness(newest: Report) -> dict[str, Any]:
    """Of the newest report, by section; why not, when it can not be built again."""
    try:
        document = dossier.document_of(newest)
    except Conflict as problem:
        return {"problem": str(problem)}
    counts = document["completeness"]["by_section"]
    sections = [{"title": each["title"], **counts[each["key"]]} for each in document["sections"]]
    return {"completeness": document["completeness"], "sections": sections}


def _report(request: HttpRequest, pk: int) -> Report:
    """A report about something that the user may see."""
    report = get_object_or_404(Report.objects.select_related("issued_by"), pk=pk)
    if report.subject_type == ModelVersion._meta.label_lower:
        visible = RegisteredModel.objects.visible_to(_user(request))
        there = ModelVersion.objects.filter(registered_model__in=visible, pk=report.subject_id).exists()
    else:
        there = visible_incidents(_user(request)).filter(pk=report.subject_id).exists()
    if not there:
        raise Http404
    return report


@login_required
def report_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The report for reading."""
    document = dossier.document_of(_report(request, pk))
    return HttpResponse(dossier.render_html(document, stylesheet=static("gatehouse/dossier.css")))


@login_required
def report_file(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """The report in a form, to be saved."""
    if form not in TYPES:
        raise Http404
    return handed_out(_report(request, pk), form)


urlpatterns = [
    path("models/<slug:name>/versions/<int:number>/dossiers/", version_reports, name="dossiers"),
    path("incidents/<int:pk>/reports/", incident_reports, name="incident-reports"),
    path("reports/<int:pk>/", report_page, name="report"),
    path("reports/<int:pk>/<slug:form>/", report_file, name="report-file"),
]
