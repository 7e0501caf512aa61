"""The gates in the admin: policies, evidence, every run with its checks. Nothing here lets a version through."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import Decision, Lines, Link, Rows, StateFilter, display, mono
from audit.pages import badge
from audit.trail import Actor
from gates import actions
from gates.models import ENDED, CheckResult, Evidence, GateRun, GateRunState, Policy, PolicyOutcome, Preparation
from gates.policy.difference import Change
from gates.standing import progress
from registry.desk import ModelDesk, ModelFilter
from registry.duties import has_duty
from registry.models import Duty


def _confirm(policy: Policy, *, reason: str, actor: User, now: datetime) -> str:
    actions.confirm_policy(policy, reason=reason, actor=actor, now=now)
    return f"{policy} is in force."


def _decline(policy: Policy, *, reason: str, actor: User, now: datetime) -> str:
    actions.decline_policy(policy, reason=reason, actor=actor, now=now)
    return f"{policy} was declined; it can be proposed again."


def _withdraw(policy: Policy, *, reason: str, actor: User, now: datetime) -> str:
    actions.withdraw_policy(policy, reason=reason, actor=actor, now=now)
    return f"{policy} was withdrawn."


def _waits(policy: Policy) -> bool:
    return actions.standing_of(policy, in_force=_number_in_force(policy)) == "waiting"


def _number_in_force(policy: Policy) -> int | None:
    newest = actions.in_force(policy.registered_model)
    return newest.number if newest else None


@admin.register(Policy)
class PolicyDesk(ModelDesk):
    list_display = ("__str__", "standing", "checks", "asks_less", "note", "created_by", "created_at")
    list_select_related = ("registered_model", "created_by", "decision", "loosened_after__version__registered_model")
    list_filter = (ModelFilter,)
    search_fields = ("note", "registered_model__name")
    decisions = (
        Decision(
            name="confirm",
            label="Put in force",
            consequence=(
                "From now on versions are judged by this policy. Passes under the one before are void for rollouts "
                "that have not started. You are the second person that a policy takes."
            ),
            carry_out=_confirm,
            offered=lambda policy, user: _waits(policy) and actions.may_second(policy, user),
            variant="primary",
            icon="how_to_reg",
        ),
        Decision(
            name="decline",
            label="Decline",
            consequence="The policy in force stays. The proposal is kept, with your reason.",
            carry_out=_decline,
            offered=lambda policy, user: _waits(policy) and actions.may_second(policy, user),
            variant="danger",
            icon="block",
        ),
        Decision(
            name="withdraw",
            label="Withdraw the proposal",
            consequence="The policy in force stays. Another one can be proposed then.",
            carry_out=_withdraw,
            offered=lambda policy, user: _waits(policy) and has_duty(user, policy.registered_model, Duty.DATA_SCIENCE),
            icon="undo",
        ),
    )

    @display(description="standing", ordering="decision__outcome")
    def standing(self, policy: Policy) -> str:
        return actions.standing_of(policy, in_force=policy.newest)  # type: ignore[attr-defined]  # annotated below

    @display(description="checks")
    def checks(self, policy: Policy) -> int:
        return len(policy.document.get("checks", ()))

    @display(description="loosened")
    def asks_less(self, policy: Policy) -> str:
        """For ever: after which run that did not pass."""
        if policy.loosened_after is not None:
            return f"after {policy.loosened_after}, which {_ended(policy.loosened_after)}"
        return "yes" if policy.loosened else ""

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        confirmed = Policy.objects.filter(
            registered_model=OuterRef("registered_model"), decision__outcome=PolicyOutcome.CONFIRMED
        )
        rows: QuerySet[Any] = super().get_queryset(request)
        rows = rows.annotate(newest=Subquery(confirmed.order_by("-number").values("number")[:1]))
        return rows

    def lines(self, subject: Policy) -> Iterable[Lines]:
        decision = getattr(subject, "decision", None)
        if decision is not None:
            by = f"{decision.decided_by} ({decision.get_duty_display()}), {decision.decided_at:%Y-%m-%d}"
            yield Lines("The second person", [(decision.get_outcome_display(), by), ("Reason", decision.reason)])
        yield from _loosened(subject)
        checks = subject.document.get("checks", ())
        rows = [(f"{check.get('id')} ({check.get('kind')})", _rule(check)) for check in checks]
        yield Lines("What a version must prove", rows, "Report-only checks never stop a version.")

    def evidence(self, subject: Policy, decision: Decision) -> Iterable[Lines]:
        before = actions.in_force(subject.registered_model)
        changes = actions.changes_since(before, actions.document_of(subject))
        rows = [(f"{change.check or 'document'}: {change.setting}", str(change)) for change in changes]
        yield Lines(f"What changes from {before}" if before else "What it asks, as the first policy", rows)
        yield from _loosened(subject)

    def links(self, subject: Policy, user: User) -> Iterable[Link]:
        runs = subject.gate_runs.select_related("version__registered_model")
        after = subject.loosened_after
        return [
            Link("Model", [subject.registered_model]),
            Link("Judged under it", list(runs[:10])),
            Link("Loosened after", [after] if after else []),
        ]


def _ended(gate_run: GateRun) -> str:
    return str(gate_run.state) if gate_run.state in ("passed", "failed") else f"ended {gate_run.state}"


def _loosened(policy: Policy) -> Iterable[Lines]:
    """What it asks less of; said for ever."""
    if policy.loosened:
        after = policy.loosened_after
        title = f"Loosened after {after}, which {_ended(after)}" if after else "Loosened"
        yield Lines(title, [(change["check"] or "document", str(Change(**change))) for change in policy.loosened])


def _rule(check: dict[str, Any]) -> str:
    told = {name: value for name, value in check.items() if name not in {"id", "kind"} and value not in (None, [], {})}
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())


@admin.register(Evidence)
class EvidenceDesk(ModelDesk):
    list_display = ("kind", "verdict_badge", "summary", "registered_model", "code", "submitted_by", "submitted_at")
    list_display_links = ("kind", "summary")
    list_select_related = ("registered_model", "version__registered_model", "submitted_by")
    list_filter = (ModelFilter, "kind", "verdict")
    search_fields = ("code_digest", "commit", "name", "summary")
    date_hierarchy = "submitted_at"

    @display(description="verdict", ordering="verdict")
    def verdict_badge(self, evidence: Evidence) -> SafeString:
        return badge(evidence.verdict)

    @display(description="about")
    def code(self, evidence: Evidence) -> SafeString | str:
        return str(evidence.version) if evidence.version else mono(evidence.code_digest[:12])

    def links(self, subject: Evidence, user: User) -> Iterable[Link]:
        versions = subject.registered_model.versions.filter(code_digest=subject.code_digest)
        if subject.version is not None:
            return [Link("Model", [subject.registered_model]), Link("Measured", [subject.version])]
        return [
            Link("Model", [subject.registered_model]),
            Link("About the code of", list(versions.select_related("registered_model"))),
        ]


class Results(Rows):
    model = CheckResult
    verbose_name_plural = "checks"
    fields = ("check_id", "verdict_badge", "message", "value", "low", "high", "n", "threshold", "blocking", "took")

    @display(description="verdict")
    def verdict_badge(self, result: CheckResult) -> SafeString:
        return badge(result.verdict)

    @display(description="took")
    def took(self, result: CheckResult) -> str:
        return "" if result.wall_seconds is None else f"{result.wall_seconds:.1f} s"


def _told(value: Any) -> str:
    """One of a run's inputs, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items() if each)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rerun(gate_run: GateRun, *, reason: str, actor: Actor, now: datetime) -> str:
    run = actions.rerun(gate_run.version, actor=actor, reason=reason, now=now)
    return f"{run} is {run.state}: {run.state_reason}"


@admin.register(GateRun)
class GateRunDesk(ModelDesk):
    portal = "portal:gate-run"
    list_display = ("__str__", "state_badge", "why", "policy", "champion", "opened_at", "wall_seconds")
    list_select_related = ("version__registered_model", "policy__registered_model", "champion__registered_model")
    list_filter = (StateFilter, ModelFilter)
    search_fields = ("state_reason", "registered_model__name")
    date_hierarchy = "opened_at"
    inlines = (Results,)
    decisions = (
        Decision(
            name="rerun",
            label="Run the gates again",
            consequence=(
                "The version is measured once more under the policy in force. Refused when it has passed already."
            ),
            carry_out=_rerun,
            offered=lambda run, user: (
                run.state in ENDED - {GateRunState.PASSED} and has_duty(user, run.registered_model, Duty.DATA_SCIENCE)
            ),
            icon="replay",
        ),
    )

    def evidence(self, subject: GateRun, decision: Decision) -> Iterable[Lines]:
        rows = [(f"{each.check_id}: {each.verdict}", each.message) for each in subject.results.all()]
        return [Lines("What was found last time", rows)]

    def lines(self, subject: GateRun) -> Iterable[Lines]:
        far = progress(subject)
        rows = [("Checks done", f"{far.done} of {far.all}")]
        rows += [("Being done", ", ".join(far.running))] if far.running else []
        rows += [("Waits for", ", ".join(far.waiting_for))] if far.waiting_for else []
        yield Lines("Progress", rows)
        preparation = Preparation.objects.filter(gate_run=subject).first()
        if preparation is not None:
            missing = [(f"Missing: {name}", why) for name, why in preparation.missing.items()]
            fixed = [(name, _told(value)) for name, value in preparation.inputs.items()]
            hashes = [("SHA-256 of all inputs", preparation.inputs_hash), ("of the scores", preparation.scores_digest)]
            yield Lines(
                "Measured on",
                [*missing, *fixed, *hashes],
                f"Fixed before the first check. manage.py reproduce_gate_run {subject.pk} does it again.",
            )

    def links(self, subject: GateRun, user: User) -> Iterable[Link]:
        rollouts = subject.rollouts.select_related("version__registered_model", "endpoint")
        evidence = actions.evidence_about(subject.version).select_related("version__registered_model")
        return [
            Link("Version", [subject.version]),
            Link("Policy", [subject.policy]),
            Link("Compared with", [subject.champion] if subject.champion else []),
            Link("Holdout", [subject.holdout] if subject.holdout else []),
            Link("Evidence", list(evidence)),
            Link("Let into", list(rollouts)),
        ]


@admin.register(CheckResult)
class CheckResultDesk(ModelDesk):
    within = "gate_run__registered_model"
    list_display = ("check_id", "verdict_badge", "said", "gate_run", "blocking")
    list_select_related = ("gate_run__version__registered_model",)
    list_filter = ("verdict", "kind", "blocking")
    search_fields = ("check_id", "message")

    @display(description="verdict", ordering="verdict")
    def verdict_badge(self, result: CheckResult) -> SafeString:
        return badge(result.verdict)

    @display(description="in words")
    def said(self, result: CheckResult) -> str:
        return Truncator(result.message).chars(120)

    def links(self, subject: CheckResult, user: User) -> Iterable[Link]:
        return [Link("Of", [subject.gate_run])]
