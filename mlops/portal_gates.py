"""The gate report: what decided a run, every check with its numbers and pictures, and who does what next."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from audit import clock
from audit.errors import InvalidInput
from gates import actions
from gates.models import ENDED, CheckResult, GateRun, GateRunState, Preparation
from gates.standing import Progress, progress
from mlops import gate_findings, gate_report
from mlops.gate_findings import Step
from registry import duties
from registry.models import Duty, RegisteredModel

RELATED = ("version", "policy", "champion", "holdout", "registered_model")
REFRESH = {GateRunState.RUNNING: 5, GateRunState.OPEN: 60}
"""Seconds after which the page of a run that has not ended loads itself again."""


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _runs(request: HttpRequest) -> QuerySet[GateRun]:
    return GateRun.objects.filter(registered_model__in=RegisteredModel.objects.visible_to(_user(request)))


@dataclass(frozen=True)
class Task:
    """A step with the groups that take it, by their names."""

    step: Step
    owners: tuple[tuple[str, str], ...]


@login_required
def gate_report_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Which gate stopped this version, by how much, and who does what next?"""
    model_owners = tuple(f"registered_model__{duty}" for duty in Duty)
    run = get_object_or_404(_runs(request).select_related(*RELATED, *model_owners), pk=pk)
    results = list(run.results.all())
    others = list(run.version.gate_runs.exclude(pk=run.pk).select_related("policy").order_by("-number"))
    prepared = Preparation.objects.filter(gate_run=run).first()
    has_ended = run.state in ENDED
    far = None if has_ended else progress(run)
    before = _compared(request, others)
    context = {
        "title": f"Gates of {run.version}",
        "run": run,
        "model": run.registered_model,
        "headline": _headline(run, results, far),
        "checks": gate_report.views(run, results, prepared.curves if prepared else {}),
        "tasks": _tasks(run, results) if has_ended else [],
        "progress": far,
        "refresh": REFRESH.get(GateRunState(run.state)),
        "prepared": prepared,
        "inputs": list(gate_report.frozen(prepared.inputs)) if prepared else [],
        "missing": list(gate_report.frozen(prepared.missing)) if prepared else [],
        "others": others,
        "before": before,
        "pairs": gate_report.side_by_side(list(before.results.all()), results) if before else [],
        "may_run_again": _may_run_again(_user(request), run, others),
        "may_pass_on": run.state == GateRunState.PASSED and actions.in_force(run.registered_model) == run.policy,
        "now": clock.now(),
    }
    return render(request, "portal/gate_run.html", context)


def _headline(run: GateRun, results: list[CheckResult], far: Progress | None) -> str:
    if run.state == GateRunState.OPEN:
        missing = ", ".join(far.waiting_for).replace("measurement: ", "measurement ") if far else ""
        return f"Waits for evidence until {run.deadline:%Y-%m-%d %H:%M}: {missing or 'nothing is missing any more'}."
    if run.state == GateRunState.RUNNING:
        return "Is being judged: wait, the page looks again by itself."
    rival = f"v{run.champion.number}" if run.champion else ""
    return gate_findings.headline(
        run.state,
        results,
        required=run.required_checks,
        reason=run.state_reason,
        rival=rival,
    )


def _tasks(run: GateRun, results: list[CheckResult]) -> list[Task]:
    model = run.registered_model
    steps = gate_findings.steps(results)
    return [Task(step, tuple((duty.value, model.owner(duty).name) for duty in step.duties)) for step in steps]


def _compared(request: HttpRequest, others: list[GateRun]) -> GateRun | None:
    """The run that the reader wants to see beside this one."""
    asked = request.GET.get("against", "")
    if not asked:
        return None
    found = next((each for each in others if str(each.pk) == asked), None)
    if found is None:
        raise Http404
    return found


def _may_run_again(user: User, run: GateRun, others: list[GateRun]) -> bool:
    """Whether the button is offered: to the data science owners, where the verb would not refuse at once."""
    if not duties.has_duty(user, run.registered_model, Duty.DATA_SCIENCE):
        return False
    policy = actions.in_force(run.registered_model)
    every = [run, *others]
    has_passed = any(each.state == GateRunState.PASSED and each.policy == policy for each in every)
    return not has_passed and all(each.state in ENDED for each in every)


@login_required
@require_POST
def gate_run_verb(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Run the gates of this version again, with a reason; the earlier run stays as it is."""
    run = get_object_or_404(_runs(request).select_related("version__registered_model"), pk=pk)
    if verb != "rerun":
        raise Http404
    reason = request.POST.get("reason", "").strip()
    if not reason:
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    again = actions.rerun(run.version, actor=_user(request), reason=reason, now=clock.now())
    messages.success(request, f"Run #{again.number} was opened; the earlier ones stay as they are.")
    return redirect("portal:gate-run", pk=again.pk)


urlpatterns = [
    path("gate-runs/<int:pk>/", gate_report_page, name="gate-run"),
    path("gate-runs/<int:pk>/<str:verb>/", gate_run_verb, name="gate-run-verb"),
]
