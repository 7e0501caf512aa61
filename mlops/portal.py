"""The portal: pages for owners, product teams and auditors. Each view finds its rows, calls one verb or none, renders.

Everybody signed in sees the models their groups own (auditors and superusers: all). Nothing is edited here; decisions
are verbs of the apps, which check the duty themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.core.paginator import Paginator
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from audit import chain, checkpoints, clock, verification
from audit.errors import InvalidInput
from audit.models import Event
from gates.models import GateRun
from jobs.models import Heartbeat, Job, JobState
from mlops import (
    charts,
    portal_dossier,
    portal_endpoints,
    portal_features,
    portal_gates,
    portal_lineage,
    portal_policies,
    portal_replay,
    portal_rollouts,
)
from mlops.scorecard import scorecard
from mlops.sight import causes, effects, visible_events
from mlops.waiting import waiting_for
from monitoring import delivery
from monitoring.actions import incidents, rethinks
from monitoring.actions.incidents import is_owner
from monitoring.evidence import readable
from monitoring.models import DriftRun, Incident, IncidentState, Rethink, RethinkState, Retraining
from monitoring.sight import visible_incidents
from registry import artifacts, duties, measured
from registry.downloads import attachment
from registry.lineage import trace
from registry.models import Alias, Duty, ModelVersion, RegisteredModel
from rollout.models import ACTIVE, Rollout

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
app_name = "portal"


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _models(request: HttpRequest) -> QuerySet[RegisteredModel]:
    visible: QuerySet[RegisteredModel] = RegisteredModel.objects.visible_to(_user(request))
    return visible


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """What waits for me, and which models need attention."""
    context = {
        "title": "What needs me",
        "waiting": waiting_for(_user(request)),
        "fleet": _fleet(_models(request)),
        "now": clock.now(),
    }
    return render(request, "portal/home.html", context)


def _fleet(visible: QuerySet[RegisteredModel]) -> list[dict[str, Any]]:
    """One line a model, worst first, in a fixed number of queries."""
    open_incidents = Count("incidents", filter=~Q(incidents__state=IncidentState.RESOLVED), distinct=True)
    proposed = Count("rethinks", filter=Q(rethinks__state=RethinkState.PROPOSED), distinct=True)
    champions = Prefetch("aliases", Alias.objects.filter(name=Alias.CHAMPION).select_related("version"))
    active = Prefetch("rollouts", Rollout.objects.filter(state__in=ACTIVE).select_related("version"))
    rows = visible.annotate(open_incidents=open_incidents, open_rethinks=proposed).prefetch_related(champions, active)
    lines = [
        {
            "model": row,
            "champion": next((alias for alias in row.aliases.all()), None),
            "rollout": next(iter(row.rollouts.all()), None),
            "incidents": row.open_incidents,
            "rethinks": row.open_rethinks,
        }
        for row in rows
    ]
    return sorted(lines, key=lambda line: (-line["rethinks"], -line["incidents"], str(line["model"])))


@login_required
def model_page(request: HttpRequest, name: str) -> HttpResponse:
    """Is this model fit to serve today, and if not, who acts?"""
    registered_model = get_object_or_404(_models(request), name=name)
    now = clock.now()
    versions = registered_model.versions.select_related("service", "training_run").prefetch_related(
        Prefetch("gate_runs", GateRun.objects.order_by("-number")),
        Prefetch("rollouts", Rollout.objects.select_related("endpoint").order_by("-id")),
        "aliases",
    )
    performance = DriftRun.objects.filter(registered_model=registered_model, kind="performance").order_by("window_to")
    drift = DriftRun.objects.filter(registered_model=registered_model, kind="drift").order_by("window_to")
    context = {
        "title": registered_model.title,
        "model": registered_model,
        "champion": registered_model.champion(),
        "scorecard": scorecard(registered_model, now=now),
        "owners": [(duty, registered_model.owner(duty)) for duty in Duty],
        "versions": versions,
        "rollouts": registered_model.rollouts.select_related("version", "endpoint", "incumbent")[:10],
        "endpoints": registered_model.endpoints.all(),
        "incidents": registered_model.incidents.select_related("owner").order_by("-opened_at")[:15],
        "retrainings": registered_model.retrainings.prefetch_related("candidates__training_run__version")[:10],
        "rethinks": registered_model.rethinks.select_related("decided_by"),
        "events": Event.objects.filter(registered_model=name).select_related("actor")[:15],
        "performance_chart": charts.performance(list(performance.select_related("version"))),
        "drift_chart": charts.drift(list(drift)),
        "now": now,
    }
    return render(request, "portal/model.html", context)


@login_required
def version_page(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """What is this version made from, and where did it end?"""
    versions = ModelVersion.objects.filter(registered_model__in=_models(request))
    related = ("registered_model", "service", "dataset", "training_run__pipeline", "registered_by", "conversion")
    version = get_object_or_404(versions.select_related(*related), registered_model__name=name, number=number)
    context = {
        "title": str(version),
        "version": version,
        "model": version.registered_model,
        "lineage": trace(version),
        "files": version.files.select_related("blob"),
        "loaded_because": artifacts.why_loaded(version),
        "measures": measured.measures(version.metrics),
        "gate_runs": version.gate_runs.select_related("policy"),
        "rollouts": version.rollouts.select_related("endpoint"),
        "importance_chart": charts.importance(version.importance),
        "now": clock.now(),
    }
    return render(request, "portal/version.html", context)


@login_required
def version_file(request: HttpRequest, name: str, number: int, path: str) -> HttpResponseBase:
    """A file of the version, to be saved."""
    versions = ModelVersion.objects.filter(registered_model__in=_models(request))
    version = get_object_or_404(versions.select_related("registered_model"), registered_model__name=name, number=number)
    return attachment(version, path)


@login_required
def incident_page(request: HttpRequest, pk: int) -> HttpResponse:
    """What happened, who has it, what was done?"""
    incident = get_object_or_404(_incidents(request), pk=pk)
    context = {
        "title": incident.title,
        "incident": incident,
        "events": Event.objects.about(incident).select_related("actor", "cause"),
        "evidence": readable(incident.evidence),
        "may_act": is_owner(_user(request), incident),
        "retrainings": Retraining.objects.filter(incident=incident),
        "now": clock.now(),
    }
    return render(request, "portal/incident.html", context)


def _incidents(request: HttpRequest) -> QuerySet[Incident]:
    return visible_incidents(_user(request)).select_related("registered_model", "owner", "version", "acknowledged_by")


@login_required
@require_POST
def incident_verb(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Acknowledge or resolve an incident, with a reason."""
    incident = get_object_or_404(_incidents(request), pk=pk)
    act = _chosen(verb, {"acknowledge": incidents.acknowledge, "resolve": incidents.resolve})
    act(incident, actor=_user(request), reason=_said(request, "reason"), now=clock.now())
    messages.success(request, f"Recorded: {verb}.")
    return redirect("portal:incident", pk=pk)


def _chosen(verb: str, verbs: Mapping[str, Any]) -> Any:
    """The verb of this name; there is no page for any other."""
    if verb not in verbs:
        raise Http404
    return verbs[verb]


def _said(request: HttpRequest, field: str) -> str:
    """What the person wrote. Every decision says why."""
    text = request.POST.get(field, "").strip()
    if not text:
        raise InvalidInput({field: "Say why: this is the record of the decision."})
    return text


@login_required
def rethink_page(request: HttpRequest, pk: int) -> HttpResponse:
    """What do I decide, on which evidence?"""
    visible = Rethink.objects.filter(registered_model__in=_models(request))
    rethink = get_object_or_404(visible.select_related("registered_model", "decided_by"), pk=pk)
    context = {
        "title": str(rethink),
        "rethink": rethink,
        "model": rethink.registered_model,
        "evidence": readable(rethink.evidence),
        "may_decide": duties.has_duty(_user(request), rethink.registered_model, *rethinks.DECIDERS),
        "events": Event.objects.about(rethink).select_related("actor", "cause"),
        "now": clock.now(),
    }
    return render(request, "portal/rethink.html", context)


@login_required
@require_POST
def rethink_verb(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Approve (with the new approach) or decline (with the reason) a rethink."""
    rethink = get_object_or_404(Rethink.objects.filter(registered_model__in=_models(request)), pk=pk)
    act = _chosen(verb, {"approve": _approve, "decline": _decline, "close": _close})
    act(rethink, _said(request, "note"), _user(request), clock.now())
    messages.success(request, f"Recorded: {verb}.")
    return redirect("portal:rethink", pk=pk)


def _approve(rethink: Rethink, note: str, actor: User, now: datetime) -> None:
    rethinks.approve(rethink, approach=note, actor=actor, now=now)


def _decline(rethink: Rethink, note: str, actor: User, now: datetime) -> None:
    rethinks.decline(rethink, reason=note, actor=actor, now=now)


def _close(rethink: Rethink, note: str, actor: User, now: datetime) -> None:
    rethinks.close(rethink, reason=note, actor=actor, now=now)


@login_required
def events_page(request: HttpRequest) -> HttpResponse:
    """What happened, newest first; by model and by name."""
    names = list(_models(request).values_list("name", flat=True))
    events = visible_events(_user(request)).select_related("actor", "cause")
    chosen, name = request.GET.get("model", ""), request.GET.get("name", "")
    if chosen:
        events = events.filter(registered_model=chosen)
    if name:
        events = events.filter(name__startswith=name)
    page = Paginator(events, 50).get_page(request.GET.get("page"))
    context = {"title": "Events", "page": page, "models": names, "chosen": chosen, "name": name, "now": clock.now()}
    return render(request, "portal/events.html", context)


@login_required
def event_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The chain of causes that led to an event, and what followed from it."""
    user = _user(request)
    event = get_object_or_404(visible_events(user).select_related("actor"), pk=pk)
    context = {
        "title": str(event),
        "event": event,
        "chain": causes(event, user),
        "effects": effects(event, user),
        "data": readable(event.data),
        "now": clock.now(),
    }
    return render(request, "portal/event.html", context)


@login_required
def delivery_page(request: HttpRequest) -> HttpResponse:
    """Days, not months? Lead time, automation and incidents, against the targets."""
    now = clock.now()
    models = list(_models(request).values_list("pk", flat=True))
    found = delivery.report(since=BEGINNING, until=now, models=models)
    context = {
        "title": "Delivery",
        "report": found,
        "medians": [(path, found.median_lead(path)) for path in delivery.Path],
        "now": now,
    }
    return render(request, "portal/delivery.html", context)


@login_required
def system_page(request: HttpRequest) -> HttpResponse:
    """Is the governor itself alive?"""
    counts = dict(Job.objects.values_list("state").annotate(Count("id")))
    waiting = Job.objects.filter(state=JobState.QUEUED).order_by("created_at")
    context = {
        "title": "System",
        "heartbeats": Heartbeat.objects.all(),
        "counts": [(label, counts.get(value, 0)) for value, label in JobState.choices],
        "oldest": waiting.first(),
        "dead": Job.objects.filter(state=JobState.DEAD)[:20],
        "log": chain.head(),
        "checkpoint": checkpoints.latest(),
        "log_problems": Event.objects.filter(name=verification.FAILED).count(),
        "now": clock.now(),
    }
    return render(request, "portal/system.html", context)


urlpatterns = [
    path("", home, name="home"),
    path(
        "login/", LoginView.as_view(template_name="portal/login.html", extra_context={"title": "Sign in"}), name="login"
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("models/<slug:name>/", model_page, name="model"),
    path("models/<slug:name>/versions/<int:number>/", version_page, name="version"),
    path("models/<slug:name>/versions/<int:number>/files/<path:path>", version_file, name="version-file"),
    *portal_dossier.urlpatterns,  # before the verbs of incidents
    *portal_gates.urlpatterns,
    *portal_policies.urlpatterns,
    *portal_rollouts.urlpatterns,
    *portal_endpoints.urlpatterns,
    path("incidents/<int:pk>/", incident_page, name="incident"),
    path("incidents/<int:pk>/<str:verb>/", incident_verb, name="incident-verb"),
    path("rethinks/<int:pk>/", rethink_page, name="rethink"),
    path("rethinks/<int:pk>/<str:verb>/", rethink_verb, name="rethink-verb"),
    *portal_features.urlpatterns,
    *portal_lineage.urlpatterns,
    *portal_replay.urlpatterns,
    path("events/", events_page, name="events"),
    path("events/<int:pk>/", event_page, name="event"),
    path("delivery/", delivery_page, name="delivery"),
    path("system/", system_page, name="system"),
]
