"""A model's policies: what its versions must prove, who agreed to that, what a change would have meant, and the editor.

Everybody who sees the model sees its policies. Data science proposes; a second person, of product or platform, puts a
proposal in force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from audit import clock
from audit.errors import Conflict, InvalidInput
from audit.models import Event
from gates import actions
from gates.actions.policies import SECOND
from gates.dry_run import DryRun, dry_run
from gates.models import Policy, PolicyDecision, PolicyOutcome
from gates.policy import PolicyDocument, PolicyError
from gates.policy.templates import as_yaml, require_tier
from gates.policy.text import PolicyTextError, Problem, dump, load
from mlops import gate_words, policy_words
from mlops.policy_words import ChangeInWords
from registry import duties
from registry.models import Duty, RegisteredModel, Tier

IN_FORCE = "in-force"
MOST_LINES = 3000
"""Lines that are numbered; a text with more is no policy (``gates.policy.text`` refuses it)."""
RELATED = ("registered_model", "created_by", "decision__decided_by", "loosened_after__version")


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _model(request: HttpRequest, name: str) -> RegisteredModel:
    owners = (duty.value for duty in Duty)
    visible = RegisteredModel.objects.visible_to(_user(request)).select_related(*owners)
    return get_object_or_404(visible, name=name)


def _policies(model: RegisteredModel) -> QuerySet[Policy]:
    policies: QuerySet[Policy] = Policy.objects.filter(registered_model=model).select_related(*RELATED)
    return policies


# ---------------------------------------------------------------------- what a policy asks, for the page


@dataclass(frozen=True)
class Asked:
    """A check in words."""

    check_id: str
    title: str
    kind: str
    blocking: bool
    words: str


def asked(document: Mapping[str, Any]) -> list[tuple[str, list[Asked]]]:
    """The checks of a stored document in groups; also of a form that is no longer read."""
    checks = [_asked(each) for each in document.get("checks", ()) if isinstance(each, Mapping)]
    groups = [(title, [each for each in checks if each.kind in kinds]) for title, kinds in gate_words.GROUPS]
    return [(title, found) for title, found in groups if found]


def _asked(settings: Mapping[str, Any]) -> Asked:
    check_id, kind = str(settings.get("id")), str(settings.get("kind"))
    words = gate_words.told(settings)
    # what the kind leaves open, validation has filled in before it was stored
    return Asked(check_id, gate_words.title(check_id), kind, bool(settings.get("blocking", True)), words)


@dataclass(frozen=True)
class Line:
    """One policy in the history, with what became of it."""

    policy: Policy
    decision: PolicyDecision | None
    state: str

    @property
    def tone(self) -> str:
        return {"in force": "good", "waiting": "warn", "declined": "bad"}.get(self.state, "")


def _line(policy: Policy, current: Policy | None) -> Line:
    state = actions.standing_of(policy, in_force=current.number if current else None)
    return Line(policy, getattr(policy, "decision", None), state)


def _document(policy: Policy | None) -> PolicyDocument | None:
    """The policy's document; None without one, or where its form is no longer read."""
    try:
        return actions.document_of(policy) if policy is not None else None
    except Conflict:
        return None


def _yaml(policy: Policy) -> str:
    """The policy as YAML, with who decided what above it; empty where its form is no longer written."""
    return "" if _document(policy) is None else actions.policy_text(policy)


# ---------------------------------------------------------------------- pages


@login_required
def policies_page(request: HttpRequest, name: str) -> HttpResponse:
    """What must a version of this model prove today, and who agreed to that?"""
    model = _model(request, name)
    current = actions.in_force(model)
    lines = [_line(each, current) for each in _policies(model).annotate(judged=Count("gate_runs")).order_by("-number")]
    here = next((each for each in lines if current is not None and each.policy.pk == current.pk), None)
    context = {
        "title": f"Policy of {model.title}",
        "model": model,
        "current": here,
        "document": current.document if current else {},
        "groups": asked(current.document) if current else [],
        "yaml": _yaml(here.policy) if here else "",
        "waiting": [each for each in lines if each.state == "waiting"],
        "lines": lines,
        "may_propose": duties.has_duty(_user(request), model, Duty.DATA_SCIENCE),
        "now": clock.now(),
    }
    return render(request, "portal/policies.html", context)


@login_required
def policy_page(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """What does this policy change, what would it have meant, and do I agree?"""
    model = _model(request, name)
    policy = get_object_or_404(_policies(model), number=number)
    current = actions.in_force(model)
    line = _line(policy, current)
    waits = line.state == "waiting"
    before = current if waits else _before(policy)
    after = _document(policy)
    wanted = waits or "dry-run" in request.GET
    user = _user(request)
    context = {
        "title": str(policy),
        "model": model,
        "policy": policy,
        "line": line,
        "before": before,
        "changes": _changes(before, after) if before and after else [],
        "can_compare": bool(before and after),
        "loosened": policy_words.loosened(policy.loosened),
        "dry_run": dry_run(model, after) if wanted and after else None,
        "groups": asked(policy.document),
        "document": policy.document,
        "yaml": _yaml(policy),
        "may_decide": waits and actions.may_second(policy, user),
        "may_withdraw": waits and duties.has_duty(user, model, Duty.DATA_SCIENCE),
        "is_proposer": policy.created_by_id == user.pk,
        "seconds": _seconds(model),
        "judged": policy.gate_runs.select_related("version").order_by("-id")[:10],
        "events": Event.objects.about(policy).select_related("actor", "cause"),
        "now": clock.now(),
    }
    return render(request, "portal/policy.html", context)


def _seconds(model: RegisteredModel) -> list[tuple[str, str]]:
    """Who can be the second person: duty and group."""
    return [(duty.value, model.owner(duty).name) for duty in SECOND]


def _changes(before: Policy | None, after: PolicyDocument) -> list[ChangeInWords]:
    return policy_words.in_lines(actions.changes_since(before, after), _document(before), after)


def _before(policy: Policy) -> Policy | None:
    """The policy that was in force before this one."""
    confirmed = Policy.objects.filter(
        registered_model=policy.registered_model_id,
        number__lt=policy.number,
        decision__outcome=PolicyOutcome.CONFIRMED,
    )
    found: Policy | None = confirmed.order_by("-number").first()
    return found


@login_required
def policy_file(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """The policy as YAML, to be kept beside the code."""
    model = _model(request, name)
    policy = get_object_or_404(_policies(model), number=number)
    answer = HttpResponse(actions.policy_text(policy), content_type="application/yaml; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{model.name}-policy-{policy.number}.yaml"'
    return answer


VERBS: Mapping[str, tuple[Callable[..., PolicyDecision], str]] = {
    "confirm": (actions.confirm_policy, "Confirmed: {policy} is in force."),
    "decline": (actions.decline_policy, "Declined: the policy in force stays."),
    "withdraw": (actions.withdraw_policy, "Withdrawn: the policy in force stays."),
}


@login_required
@require_POST
def policy_verb(request: HttpRequest, name: str, number: int, verb: str) -> HttpResponse:
    """Confirm, decline or withdraw a proposal, with a reason."""
    model = _model(request, name)
    policy = get_object_or_404(_policies(model), number=number)
    if verb not in VERBS:
        raise Http404
    reason = request.POST.get("reason", "").strip()
    if not reason:
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    act, told = VERBS[verb]
    act(policy, reason=reason, actor=_user(request), now=clock.now())
    messages.success(request, told.format(policy=policy))
    return redirect("portal:policy", name=model.name, number=policy.number)


# ---------------------------------------------------------------------- the editor


@dataclass(frozen=True)
class Numbered:
    """A line of the text: its number, and what is wrong with it."""

    number: int
    problems: tuple[Problem, ...]

    @property
    def said(self) -> str:
        return " ".join(each.message for each in self.problems)


@dataclass(frozen=True)
class Checked:
    """What the editor found: problems by line, or the document with its changes and what it would have meant."""

    text: str
    problems: tuple[Problem, ...] = ()
    document: PolicyDocument | None = None
    before: Policy | None = None
    tried: DryRun | None = None

    @property
    def lines(self) -> list[Numbered]:
        """Every line of the text, with its problems; no more of them than a policy can have."""
        count = min(self.text.count("\n") + 1, MOST_LINES)
        by_line: dict[int, list[Problem]] = {}
        for problem in self.problems:
            by_line.setdefault(min(max(problem.line, 1), count), []).append(problem)
        return [Numbered(number, tuple(by_line.get(number, ()))) for number in range(1, count + 1)]

    @property
    def changes(self) -> list[ChangeInWords]:
        return _changes(self.before, self.document) if self.document else []

    @property
    def groups(self) -> list[tuple[str, list[Asked]]]:
        return asked(self.document.model_dump(mode="json")) if self.document else []


@login_required
def policy_editor(request: HttpRequest, name: str) -> HttpResponse:
    """Write a policy: errors beside the line, what it changes, what it would have meant; then propose it."""
    model = _model(request, name)
    current = actions.in_force(model)
    if request.method == "POST":
        text = request.POST.get("text", "").replace("\r\n", "\n")
        note = request.POST.get("note", "").strip()
        return _edited(request, model, current, text, note)
    start = request.GET.get("start", IN_FORCE if current else model.tier)
    # what a template leaves open is shown from the start
    return _editor(request, model, current, _checked(model, current, _start(model, current, start)), start=start)


def _start(model: RegisteredModel, current: Policy | None, start: str) -> str:
    """The text that the editor begins with: the policy in force, or a tier's template."""
    if start == IN_FORCE:
        if current is None:
            raise Http404
        document = _document(current)
        return dump(document, model=model.name) if document else ""
    if start not in Tier.values:
        raise Http404
    return as_yaml(start, task=model.task)


def _edited(request: HttpRequest, model: RegisteredModel, current: Policy | None, text: str, note: str) -> HttpResponse:
    """Check what was written; propose it when that was asked for and nothing is wrong. Input is never lost."""
    checked = _checked(model, current, text)
    wants_it = request.POST.get("act") == "propose"
    if checked.document is None:  # to find mistakes is what a check is for; a proposal is refused for them
        return _editor(request, model, current, checked, note=note, status=422 if wants_it else 200)
    if not wants_it:
        tried = dry_run(model, checked.document)
        return _editor(request, model, current, replace(checked, tried=tried), note=note)
    if not note:
        return _editor(request, model, current, checked, note_problem="Say why it changes.", status=422)
    document = checked.document.model_dump(mode="json")
    try:
        policy = actions.propose_policy(model, document=document, note=note, actor=_user(request), now=clock.now())
    except InvalidInput as problem:
        wrong = {path: " ".join(texts) for path, texts in problem.errors.items()}
        if about_note := wrong.pop("note", ""):
            return _editor(request, model, current, checked, note=note, note_problem=about_note, status=422)
        checked = replace(checked, document=None, problems=_placed(text, wrong))
        return _editor(request, model, current, checked, note=note, status=422)
    except Conflict as problem:
        messages.error(request, str(problem))
        return _editor(request, model, current, checked, note=note, status=409)
    told = "That is the policy in force already." if policy == current else f"{policy} waits for a second person."
    messages.success(request, told)
    return redirect("portal:policy", name=model.name, number=policy.number)


def _checked(model: RegisteredModel, current: Policy | None, text: str) -> Checked:
    """The text read; with its problems, or with what it changes."""
    try:
        document = load(text, model=model.name)
    except PolicyTextError as error:
        return Checked(text, problems=error.problems)
    try:
        require_tier(document, tier=model.tier, task=model.task)
    except PolicyError as error:
        return Checked(text, problems=_placed(text, error.errors))
    return Checked(text, document=document, before=current)


def _placed(text: str, errors: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with a document as a whole, at the line that comes nearest to it."""
    return tuple(Problem(_line_of(text, path), 1, path, message) for path, message in errors.items())


def _line_of(text: str, path: str) -> int:
    head, _, rest = path.partition(".")
    check_id = re.escape(rest.partition(".")[0])
    wanted = rf"\bid:\s*[\"']?{check_id}\b" if head == "checks" and check_id else rf"^\s*{re.escape(head)}\s*:"
    numbered = enumerate(text.splitlines(), start=1)
    return next((number for number, line in numbered if re.search(wanted, line)), 1)


def _editor(
    request: HttpRequest,
    model: RegisteredModel,
    current: Policy | None,
    checked: Checked,
    *,
    start: str = "",
    note: str = "",
    note_problem: str = "",
    status: int = 200,
) -> HttpResponse:
    waiting = Policy.objects.filter(registered_model=model).waiting().order_by("-number").first()
    context = {
        "title": f"Edit the policy of {model.title}",
        "model": model,
        "current": current,
        "checked": checked,
        "changes": (changes := checked.changes),
        "loosenings": sum(each.tone == "bad" for each in changes),
        "was_checked": request.method == "POST",
        "start": start,
        "starts": [tier for tier in Tier.values if _rank(tier) >= _rank(model.tier)],
        "note": note,
        "note_problem": note_problem,
        "waiting": waiting if waiting and (current is None or waiting.number > current.number) else None,
        "may_propose": duties.has_duty(_user(request), model, Duty.DATA_SCIENCE),
        "seconds": _seconds(model),
        "now": clock.now(),
    }
    return render(request, "portal/policy_edit.html", context, status=status)


def _rank(tier: str) -> int:
    return list(Tier.values).index(tier)


urlpatterns = [
    path("models/<slug:name>/policies/", policies_page, name="policies"),
    path("models/<slug:name>/policies/edit/", policy_editor, name="policy-edit"),
    path("models/<slug:name>/policies/<int:number>/", policy_page, name="policy"),
    path("models/<slug:name>/policies/<int:number>/policy.yaml", policy_file, name="policy-file"),
    path("models/<slug:name>/policies/<int:number>/<str:verb>/", policy_verb, name="policy-verb"),
]
