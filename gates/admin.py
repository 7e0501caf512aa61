"""The gates in the admin: policies, evidence, every run with its checks. Nothing here lets a version through."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import Decision, Lines, Link, Rows, StateFilter, display, mono
from audit.pages import badge
from audit.trail import Actor
from gates import actions
from gates.models import ENDED, CheckResult, Evidence, GateRun, GateRunState, Policy
from registry.desk import ModelDesk, ModelFilter
from registry.duties import has_duty
from registry.models import Duty


@admin.register(Policy)
class PolicyDesk(ModelDesk):
    list_display = ("__str__", "in_force", "checks", "note", "created_by", "created_at")
    list_select_related = ("registered_model", "created_by")
    list_filter = (ModelFilter,)
    search_fields = ("note", "registered_model__name")

    @display(description="in force", boolean=True)
    def in_force(self, policy: Policy) -> bool:
        return bool(policy.number == policy.newest)  # type: ignore[attr-defined]  # annotated below

    @display(description="checks")
    def checks(self, policy: Policy) -> int:
        return len(policy.document.get("checks", ()))

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        of_model = Policy.objects.filter(registered_model=OuterRef("registered_model")).order_by()
        newest = of_model.values("registered_model").annotate(newest=Max("number")).values("newest")
        rows: QuerySet[Any] = super().get_queryset(request)
        rows = rows.annotate(newest=Subquery(newest))
        return rows

    def lines(self, subject: Policy) -> Iterable[Lines]:
        checks = subject.document.get("checks", ())
        rows = [(f"{check.get('id')} ({check.get('kind')})", _rule(check)) for check in checks]
        return [Lines("What a version must prove", rows, "Report-only checks never stop a version.")]

    def links(self, subject: Policy, user: User) -> Iterable[Link]:
        runs = subject.gate_runs.select_related("version__registered_model")
        return [Link("Model", [subject.registered_model]), Link("Judged under it", list(runs[:10]))]


def _rule(check: dict[str, Any]) -> str:
    told = {name: value for name, value in check.items() if name not in {"id", "kind"} and value not in (None, [], {})}
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())


@admin.register(Evidence)
class EvidenceDesk(ModelDesk):
    list_display = ("kind", "verdict_badge", "summary", "registered_model", "code", "submitted_by", "submitted_at")
    list_display_links = ("kind", "summary")
    list_select_related = ("registered_model", "submitted_by")
    list_filter = (ModelFilter, "kind", "verdict")
    search_fields = ("code_digest", "commit", "summary")
    date_hierarchy = "submitted_at"

    @display(description="verdict", ordering="verdict")
    def verdict_badge(self, evidence: Evidence) -> SafeString:
        return badge(evidence.verdict)

    @display(description="code")
    def code(self, evidence: Evidence) -> SafeString:
        return mono(evidence.code_digest[:12])

    def links(self, subject: Evidence, user: User) -> Iterable[Link]:
        versions = subject.registered_model.versions.filter(code_digest=subject.code_digest)
        return [
            Link("Model", [subject.registered_model]),
            Link("About the code of", list(versions.select_related("registered_model"))),
        ]


class Results(Rows):
    model = CheckResult
    verbose_name_plural = "checks"
    fields = ("check_id", "verdict_badge", "message", "value", "low", "high", "n", "threshold", "blocking")

    @display(description="verdict")
    def verdict_badge(self, result: CheckResult) -> SafeString:
        return badge(result.verdict)


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

    def links(self, subject: GateRun, user: User) -> Iterable[Link]:
        rollouts = subject.rollouts.select_related("version__registered_model", "endpoint")
        evidence = actions.evidence_about(subject.version) if subject.version.code_digest else ()
        return [
            Link("Version", [subject.version]),
            Link("Policy", [subject.policy]),
            Link("Compared with", [subject.champion] if subject.champion else []),
            Link("Holdout", [subject.holdout] if subject.holdout else []),
            Link("Evidence of its code", list(evidence)),
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
