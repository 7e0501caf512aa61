"""The page of a rollout: where it stands and why, the evidence of every look, where the two versions differ, what a
person may do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from audit import clock
from audit.errors import InvalidInput
from audit.models import Event
from mlops import rollout_report, rollout_words
from registry import duties
from registry.models import Duty, RegisteredModel
from rollout import actions
from rollout.models import ACTIVE, AnalysisRun, BusinessMetric, FreezeWindow, Measurement, Rollout, RolloutState
from rollout.plan import RolloutPlan
from rollout.standstill import waits_for

LOOKS_A_PAGE = 20
RELATED = (
    "version",
    "endpoint__registered_model",
    "incumbent",
    "gate_run",
    *(f"registered_model__{duty}" for duty in Duty),
)
RUNNING = (RolloutState.SHADOW, RolloutState.CANARY)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _rollouts(request: HttpRequest) -> QuerySet[Rollout]:
    return Rollout.objects.filter(registered_model__in=RegisteredModel.objects.visible_to(_user(request)))


@login_required
def rollout_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Where does this candidate stand, on which evidence, and if it was rolled back, why?"""
    rollout = get_object_or_404(_rollouts(request).select_related(*RELATED), pk=pk)
    now = clock.now()
    looks = rollout_report.looks_of(rollout)
    drawn = rollout_report.drawn(looks)
    events = list(Event.objects.about(rollout).select_related("actor").order_by("id"))
    queue = _queue(rollout)
    latest = looks[-1] if looks else None
    freeze = waits_for(rollout.endpoint, now=now) if rollout.ended_at is None else ""
    metrics = list(BusinessMetric.objects.filter(endpoint=rollout.endpoint).order_by("name", "id"))
    titles = {each.name: each.title for each in metrics}
    stages = [stage for stage in (RolloutState.CANARY, RolloutState.SHADOW) if any(x.stage == stage for x in looks)]
    offered = _actions(_user(request), rollout, latest)
    context = {
        "title": str(rollout),
        "rollout": rollout,
        "model": rollout.registered_model,
        "headline": rollout_words.headline(rollout, latest, waits_for=freeze, ahead=_ahead(rollout, queue)),
        "steps": rollout_report.steps(rollout, events, looks),
        "latest": latest,
        "rows": rollout_report.rows(latest, rollout, titles),
        "stages": [_stage(rollout, stage, looks, drawn, events, titles) for stage in stages],
        "differences": rollout_report.differences(rollout),
        "business": [(each, _measured(each, latest)) for each in metrics if each.retired_at is None],
        "plan": rollout_words.plan_in_words(rollout.plan),
        "looks": Paginator(looks[::-1], LOOKS_A_PAGE).get_page(request.GET.get("looks")),
        "queue": [each for each in queue if each.pk != rollout.pk],
        "freezes": FreezeWindow.objects.filter(endpoint=rollout.endpoint, lifted_at=None, ends_at__gt=now),
        "actions": offered,
        "may_act": any(each.is_offered for each in offered),
        "events": events[::-1],
        "now": now,
    }
    return render(request, "portal/rollout.html", context)


def _stage(
    rollout: Rollout,
    stage: str,
    looks: Sequence[AnalysisRun],
    drawn: Sequence[AnalysisRun],
    events: Sequence[Event],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """The curves and spreads of one stage, from its last look."""
    last = next(look for look in reversed(looks) if look.stage == stage)
    detail = rollout.analyses.values_list("detail", flat=True).get(pk=last.pk)
    return {
        "name": stage,
        "is_now": stage == rollout.state or (rollout.ended_at is not None and last == looks[-1]),
        "looks": sum(look.stage == stage for look in looks),
        "curves": rollout_report.curves(drawn, events, stage=stage, titles=titles),
        "spreads": rollout_report.spreads(detail, stage=stage),
    }


def _queue(rollout: Rollout) -> list[Rollout]:
    """What else is active or waits at the endpoint, in the order of its turn."""
    open_ones = Rollout.objects.filter(endpoint=rollout.endpoint, state__in=[RolloutState.PENDING, *ACTIVE])
    found = open_ones.select_related("version__registered_model", "endpoint").order_by("id")
    return sorted(found, key=lambda each: (each.state == RolloutState.PENDING, each.pk))


def _ahead(rollout: Rollout, queue: Sequence[Rollout]) -> int:
    pks = [each.pk for each in queue]
    return pks.index(rollout.pk) if rollout.pk in pks else 0


def _measured(metric: BusinessMetric, latest: AnalysisRun | None) -> Measurement | None:
    """What the latest look measured of a business metric."""
    found = latest.measurements.all() if latest is not None else ()
    return next((each for each in found if each.metric == metric.name), None)


# ---------------------------------------------------------------------- what a person may do


@dataclass(frozen=True)
class Action:
    """A verb, what follows from it, whose it is, and whether it is offered to the reader."""

    verb: str
    label: str
    consequence: str
    owners: tuple[str, ...]
    is_offered: bool
    variant: str = ""


def _actions(user: User, rollout: Rollout, latest: AnalysisRun | None) -> list[Action]:
    """What can be done now, whoever may: who may not is told whose it is."""
    model = rollout.registered_model
    operators = (model.owner(Duty.DATA_SCIENCE).name, model.owner(Duty.PLATFORM).name)
    may_operate = duties.has_duty(user, model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    may_decide = duties.has_duty(user, model, Duty.PRODUCT)
    rest = f"v{rollout.incumbent.number}" if rollout.incumbent is not None else "the champion"
    found = []
    if rollout_words.is_held(rollout, latest):
        is_last = rollout.state == RolloutState.CANARY and _is_last(rollout)
        what = "It becomes champion" if is_last else "It takes the next step"
        said = f"{what}, undecided as it is: your decision, recorded as such."
        label = "Promote it" if is_last else "Let it go on"
        found.append(Action("go-on", label, said, (model.owner(Duty.PRODUCT).name,), may_decide, "primary"))
    if rollout.state in RUNNING:
        said = f"{rest} answers everybody until it is resumed; nothing is judged meanwhile."
        found.append(Action("pause", "Pause", said, operators, may_operate))
    if rollout.state == RolloutState.PAUSED:
        said = "It goes on where it was, with the same share for the same entities."
        found.append(Action("resume", "Resume", said, operators, may_operate, "primary"))
    if rollout.ended_at is None:
        said = f"It ends for good; {rest} keeps all traffic."
        found.append(Action("abort", "Abort", said, operators, may_operate, "danger"))
    return found


def _is_last(rollout: Rollout) -> bool:
    return RolloutPlan.model_validate(rollout.plan).is_last(rollout.step)


def _go_on(rollout: Rollout, **said: Any) -> None:
    """The step that a held rollout waits for."""
    if rollout.state == RolloutState.CANARY and _is_last(rollout):
        actions.promote(rollout, **said)
    else:
        actions.advance(rollout, **said)


VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "pause": (actions.pause, "It is paused."),
    "resume": (actions.resume, "It goes on."),
    "abort": (actions.abort, "It is aborted."),
    "go-on": (_go_on, "Your decision is recorded."),
}


@login_required
@require_POST
def rollout_verb(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Pause, resume or abort a rollout, or let a held one go on, with a reason."""
    rollout = get_object_or_404(_rollouts(request), pk=pk)
    if verb not in VERBS:
        raise Http404
    reason = request.POST.get("reason", "").strip()
    if not reason:
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    act, done = VERBS[verb]
    act(rollout, actor=_user(request), reason=reason, now=clock.now())
    messages.success(request, done)
    return redirect("portal:rollout", pk=pk)


urlpatterns = [
    path("rollouts/<int:pk>/", rollout_page, name="rollout"),
    path("rollouts/<int:pk>/<str:verb>/", rollout_verb, name="rollout-verb"),
]
