"""The pages of decision points: who answers, what was decided, what is to come, and the product owner's forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from audit import clock
from audit.errors import InvalidInput
from mlops import endpoint_words
from registry import duties
from registry.models import Duty, ModelVersion, RegisteredModel
from rollout import actions
from rollout.actions.fallbacks import add_fallback, retire_fallback
from rollout.actions.freezes import freeze, unfreeze
from rollout.actions.schedule import withdraw
from rollout.freezes import Span, frozen
from rollout.models import (
    ACTIVE,
    BusinessMetric,
    Decision,
    DecisionKind,
    Endpoint,
    Fallback,
    FreezeWindow,
    GatewayProcess,
    Rollout,
    RolloutState,
    SpoolSegment,
)
from rollout.standstill import freeze_of, plan_of

ROUTE = (
    "registered_model",
    "route__champion__registered_model",
    "route__candidate__registered_model",
    "route__fallback__version",
    "route__rollout",
)
DECISIONS_A_PAGE = 15
FORGOTTEN_AFTER = timedelta(days=1)
"""A gateway process that ended this long ago is not shown any more."""


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _endpoints(request: HttpRequest) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(registered_model__in=RegisteredModel.objects.visible_to(_user(request)))


# ---------------------------------------------------------------------- the list


@login_required
def endpoints_page(request: HttpRequest) -> HttpResponse:
    """Which decision points are there, who answers at each, and what is about to change?"""
    now = clock.now()
    waiting = Decision.objects.filter(endpoint=OuterRef("pk"), takes_effect_at__isnull=False, outcome=None)
    rows: QuerySet[Any] = (
        _endpoints(request)
        .select_related(*ROUTE)
        .prefetch_related(Prefetch("freezes", FreezeWindow.objects.filter(lifted_at=None, ends_at__gt=now)))
    )
    rows = rows.annotate(
        queued=Count("rollouts", filter=Q(rollouts__state=RolloutState.PENDING), distinct=True),
        next_change=Subquery(waiting.order_by("takes_effect_at").values("takes_effect_at")[:1]),
    ).order_by("name")
    page = Paginator(rows, 50).get_page(request.GET.get("page"))
    context = {
        "title": "Endpoints",
        "page": page,
        "lines": [(each, endpoint_words.standing(each, is_frozen=_is_frozen(each, now))) for each in page],
        "now": now,
    }
    return render(request, "portal/endpoints.html", context)


def _is_frozen(endpoint: Endpoint, now: datetime) -> bool:
    """``standstill.freeze_of`` from the windows that were read with the list."""
    windows = [Span(each.starts_at, each.ended_at, each.note) for each in endpoint.freezes.all()]
    return frozen(windows, plan_of(endpoint).canary.freeze, now) is not None


# ---------------------------------------------------------------------- one endpoint


@login_required
def endpoint_page(request: HttpRequest, name: str) -> HttpResponse:
    """Who answers here now, since when and by whose decision, and what is to come?"""
    owners = tuple(f"registered_model__{duty}" for duty in Duty)
    endpoint = get_object_or_404(_endpoints(request).select_related(*ROUTE, *owners), name=name)
    now, user, model = clock.now(), _user(request), endpoint.registered_model
    decisions = Decision.objects.filter(endpoint=endpoint)
    told = decisions.select_related("decided_by", "registered_model", "fallback", "outcome__decided_by")
    scheduled = list(told.filter(takes_effect_at__isnull=False, outcome=None).order_by("takes_effect_at", "id"))
    freezes = FreezeWindow.objects.filter(endpoint=endpoint, ends_at__gt=now, lifted_at=None)
    may_decide = duties.has_duty(user, model, Duty.PRODUCT)
    is_frozen = freeze_of(endpoint, now=now)
    unended = endpoint.rollouts.filter(state__in=[RolloutState.PENDING, *ACTIVE]).select_related("version")
    open_ones = list(unended.order_by("id"))
    fallbacks = endpoint.fallbacks.filter(retired_at=None).select_related("version")
    context = {
        "title": endpoint.title,
        "endpoint": endpoint,
        "model": model,
        "route": endpoint.route,
        "standing": endpoint_words.standing(endpoint, is_frozen=is_frozen is not None),
        "share_width": 100 * endpoint.route.share if endpoint.route.stage == "canary" else 0,
        "sentence": endpoint_words.sentence(endpoint),
        "frozen": is_frozen,
        "last_switch": told.filter(kind__in=[DecisionKind.STOP, DecisionKind.RESUME]).first(),
        "scheduled": scheduled,
        "decisions": Paginator(told.order_by("-id"), DECISIONS_A_PAGE).get_page(request.GET.get("decisions")),
        "rollouts": endpoint.rollouts.select_related("version", "incumbent").order_by("-id")[:6],
        "active": [each for each in open_ones if each.state in ACTIVE],
        "queue": [each for each in open_ones if each.state == RolloutState.PENDING],
        "fallbacks": list(fallbacks),
        "freezes": list(freezes.select_related("decided_by")),
        "weekly": plan_of(endpoint).canary.freeze,
        "business": BusinessMetric.objects.filter(endpoint=endpoint, retired_at=None),
        "gateways": _gateways(endpoint, now),
        "segments": _spooled().aggregate(n=Count("id"), torn=Sum("torn_bytes")),
        "traffic": endpoint.traffic_plans.order_by("-id")[:5],
        "may_decide": may_decide,
        "product": model.owner(Duty.PRODUCT),
        "choices": _choices(user) if may_decide else [],
        "earlier": _earlier(endpoint) if may_decide else [],
        "now": now,
    }
    return render(request, "portal/endpoint.html", context)


def _choices(user: User) -> list[RegisteredModel]:
    """The models that this person may let serve: those they are product owner of."""
    every = RegisteredModel.objects.visible_to(user).filter(product__in=user.groups.all())
    return list(every.order_by("name").distinct())


def _spooled() -> QuerySet[SpoolSegment]:
    """Segments of gateways that are not yet in the log whole; the logs of other backends never are."""
    return SpoolSegment.objects.filter(finished_at=None).exclude(name__startswith="access-log:")


def _earlier(endpoint: Endpoint) -> list[ModelVersion]:
    """Versions that were promoted for the endpoint's model: what a fallback may be."""
    promoted = Rollout.objects.filter(registered_model=endpoint.registered_model, state=RolloutState.PROMOTED)
    versions = ModelVersion.objects.filter(pk__in=promoted.values("version")).select_related("registered_model")
    return list(versions.order_by("-number")[:20])


@dataclass(frozen=True)
class Gateway:
    """A gateway process as it told of itself last, and what it says of this endpoint."""

    process: GatewayProcess
    tone: str
    word: str
    told: endpoint_words.Told


def _gateways(endpoint: Endpoint, now: datetime) -> list[Gateway]:
    recent = GatewayProcess.objects.filter(Q(ended_at=None) | Q(ended_at__gt=now - FORGOTTEN_AFTER))
    found = []
    for process in recent.order_by("-seen_at")[:20]:
        told = endpoint_words.told(process, endpoint.name, endpoint.route.revision)
        if told is not None:
            tone, word = endpoint_words.health(process, now=now)
            found.append(Gateway(process, tone, word, told))
    return found


# ---------------------------------------------------------------------- the product owner's verbs


@login_required
@require_POST
def endpoint_verb(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """A decision of the product owner, with a note that says why; everybody else is refused."""
    endpoint = get_object_or_404(_endpoints(request).select_related("registered_model"), name=name)
    if verb not in VERBS:
        raise Http404
    duties.require(_user(request), endpoint.registered_model, Duty.PRODUCT)
    messages.success(request, VERBS[verb](request, endpoint))
    return redirect("portal:endpoint", name=name)


def _said(request: HttpRequest, field: str) -> str:
    text = request.POST.get(field, "").strip()
    if not text:
        raise InvalidInput({field: "Say why: this is the record of the decision."})
    return text


def _moment(request: HttpRequest, field: str) -> datetime | None:
    """A moment in UTC from a form's ``datetime-local`` field; None when it was left empty."""
    text = request.POST.get(field, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        raise InvalidInput({field: "Write the moment as 2026-01-31T16:00 (UTC)."}) from problem
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _needed(request: HttpRequest, field: str) -> datetime:
    moment = _moment(request, field)
    if moment is None:
        raise InvalidInput({field: "Say when."})
    return moment


def _chosen(request: HttpRequest, field: str, among: QuerySet[Any]) -> Any:
    """The row whose id the form sent; InvalidInput when it is not one of these."""
    text = request.POST.get(field, "")
    found = among.filter(pk=int(text)).first() if text.isdecimal() and len(text) < 19 else None
    if found is None:
        raise InvalidInput({field: "Choose one of the list."})
    return found


def _serve(request: HttpRequest, endpoint: Endpoint) -> str:
    note = _said(request, "note")
    visible = RegisteredModel.objects.visible_to(_user(request))
    chosen = _chosen(request, "registered_model", visible)
    return _decide(request, endpoint, DecisionKind.SERVE, note, registered_model=chosen)


def _stop(request: HttpRequest, endpoint: Endpoint) -> str:
    note = _said(request, "note")
    named = Fallback.objects.filter(endpoint=endpoint)
    fallback = _chosen(request, "fallback", named) if request.POST.get("fallback") else None
    return _decide(request, endpoint, DecisionKind.STOP, note, fallback=fallback)


def _plain(kind: DecisionKind) -> Callable[[HttpRequest, Endpoint], str]:
    def carry_out(request: HttpRequest, endpoint: Endpoint) -> str:
        return _decide(request, endpoint, kind, _said(request, "note"))

    return carry_out


def _decide(
    request: HttpRequest,
    endpoint: Endpoint,
    kind: DecisionKind,
    note: str,
    *,
    registered_model: RegisteredModel | None = None,
    fallback: Fallback | None = None,
) -> str:
    at = _moment(request, "takes_effect_at")
    actions.decide(
        endpoint,
        kind=kind,
        registered_model=registered_model or endpoint.registered_model,
        note=note,
        actor=_user(request),
        now=clock.now(),
        takes_effect_at=at,
        fallback=fallback,
    )
    return f"Decided: it takes effect on {at:%Y-%m-%d %H:%M} UTC." if at is not None else "Decided and carried out."


def _withdraw(request: HttpRequest, endpoint: Endpoint) -> str:
    reason = _said(request, "note")
    decision = _chosen(request, "decision", Decision.objects.filter(endpoint=endpoint).select_related("endpoint"))
    withdraw(decision, reason=reason, actor=_user(request), now=clock.now())
    return "Withdrawn: it will not take effect."


def _freeze(request: HttpRequest, endpoint: Endpoint) -> str:
    note, now = _said(request, "note"), clock.now()
    starts_at = _moment(request, "starts_at") or now
    window = freeze(
        endpoint, starts_at=starts_at, ends_at=_needed(request, "ends_at"), note=note, actor=_user(request), now=now
    )
    return f"Frozen from {window.starts_at:%Y-%m-%d %H:%M} to {window.ends_at:%Y-%m-%d %H:%M} UTC."


def _unfreeze(request: HttpRequest, endpoint: Endpoint) -> str:
    reason = _said(request, "note")
    windows = FreezeWindow.objects.filter(endpoint=endpoint).select_related("endpoint__registered_model")
    unfreeze(_chosen(request, "freeze", windows), reason=reason, actor=_user(request), now=clock.now())
    return "The freeze has ended."


def _add_fallback(request: HttpRequest, endpoint: Endpoint) -> str:
    note = _said(request, "note")
    text = request.POST.get("score", "").strip()
    try:
        score = float(text) if text else None
    except ValueError as problem:
        raise InvalidInput({"score": "Write a number, such as 0.2."}) from problem
    known = ModelVersion.objects.filter(registered_model=endpoint.registered_model)
    version = _chosen(request, "version", known) if request.POST.get("version") else None
    made = add_fallback(
        endpoint,
        name=request.POST.get("name", "").strip(),
        note=note,
        score=score,
        version=version,
        actor=_user(request),
        now=clock.now(),
    )
    return f"The kill switch can name {made.name} now."


def _retire_fallback(request: HttpRequest, endpoint: Endpoint) -> str:
    reason = _said(request, "note")
    named = Fallback.objects.filter(endpoint=endpoint).select_related("endpoint__registered_model")
    retire_fallback(_chosen(request, "fallback", named), reason=reason, actor=_user(request), now=clock.now())
    return "It can not be named any more."


VERBS: dict[str, Callable[[HttpRequest, Endpoint], str]] = {
    "serve": _serve,
    "stop": _stop,
    "resume": _plain(DecisionKind.RESUME),
    "pause": _plain(DecisionKind.PAUSE),
    "continue": _plain(DecisionKind.CONTINUE),
    "withdraw": _withdraw,
    "freeze": _freeze,
    "unfreeze": _unfreeze,
    "add-fallback": _add_fallback,
    "retire-fallback": _retire_fallback,
}

urlpatterns = [
    path("endpoints/", endpoints_page, name="endpoints"),
    path("endpoints/<slug:name>/", endpoint_page, name="endpoint"),
    path("endpoints/<slug:name>/<str:verb>/", endpoint_verb, name="endpoint-verb"),
]
