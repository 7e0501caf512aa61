"""Monitoring in the admin: what is watched and found, who has to act, what was retrained, and rethinks to decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import Decision, Lines, Link, LongText, ReasonForm, Rows, StateFilter, display
from audit.models import Event
from audit.pages import badge
from monitoring.actions import incidents, rethinks
from monitoring.evidence import readable
from monitoring.models import (
    Candidate,
    DriftRun,
    Incident,
    IncidentState,
    Monitor,
    Rethink,
    RethinkState,
    Retraining,
)
from monitoring.sight import visible_incidents
from registry.desk import ModelDesk, ModelFilter, offered_to

SHOWN = 10


@admin.register(Monitor)
class MonitorDesk(ModelDesk):
    list_display = ("registered_model", "created_at")
    list_select_related = ("registered_model",)
    list_filter = (ModelFilter,)

    def links(self, subject: Monitor, user: User) -> Iterable[Link]:
        runs = subject.runs.select_related("version__registered_model")
        return [Link("Model", [subject.registered_model]), Link("Last windows", list(runs[:SHOWN]))]


@admin.register(DriftRun)
class DriftRunDesk(ModelDesk):
    list_display = ("__str__", "verdict_badge", "confirmed", "said", "rows", "window_to")
    list_select_related = ("version__registered_model",)
    list_filter = (ModelFilter, "kind", "verdict", "confirmed")
    search_fields = ("summary",)
    date_hierarchy = "window_to"

    @display(description="verdict", ordering="verdict")
    def verdict_badge(self, run: DriftRun) -> SafeString:
        return badge(run.verdict)

    @display(description="in words")
    def said(self, run: DriftRun) -> str:
        return Truncator(run.summary).chars(120)

    def links(self, subject: DriftRun, user: User) -> Iterable[Link]:
        caused = Incident.objects.filter(registered_model=subject.registered_model, evidence__drift_run=subject.pk)
        return [
            Link("Version", [subject.version]),
            Link("Monitor", [subject.monitor]),
            Link("Raised", list(caused)),
        ]


def _owns(*states: str) -> Any:
    return lambda incident, user: incident.state in states and incidents.is_owner(user, incident)


@admin.register(Incident)
class IncidentDesk(ModelDesk):
    portal = "portal:incident"
    list_display = ("title", "state_badge", "severity", "kind", "owner", "model_name", "opened_at", "resolved_at")
    list_select_related = ("registered_model", "owner")
    list_filter = (StateFilter, ModelFilter, "kind", "severity", "duty")
    search_fields = ("title", "detail")
    date_hierarchy = "opened_at"
    decisions = (
        Decision(
            name="acknowledge",
            label="Acknowledge",
            consequence="You have it: everybody sees that it is in your hands, and since when.",
            carry_out=incidents.acknowledge,
            offered=_owns(IncidentState.OPEN),
            variant="primary",
            icon="front_hand",
        ),
        Decision(
            name="resolve",
            label="Resolve",
            consequence="The cause is gone. If it comes back within a week, this incident opens again.",
            carry_out=incidents.resolve,
            offered=_owns(IncidentState.OPEN, IncidentState.ACKNOWLEDGED),
            icon="check_circle",
        ),
        Decision(
            name="reopen",
            label="Reopen",
            consequence="It was resolved too early; it waits for its owner again.",
            carry_out=incidents.reopen,
            offered=_owns(IncidentState.RESOLVED),
            icon="undo",
        ),
    )

    def visible(self, rows: QuerySet[Any], user: User) -> QuerySet[Any]:
        return visible_incidents(user, rows)

    @display(description="model")
    def model_name(self, incident: Incident) -> str:
        return incident.registered_model.name if incident.registered_model else "—"

    def evidence(self, subject: Incident, decision: Decision) -> Iterable[Lines]:
        return [Lines("What is known", [("What to do", subject.detail), *readable(subject.evidence)])]

    def links(self, subject: Incident, user: User) -> Iterable[Link]:
        return [
            Link("Model", [subject.registered_model] if subject.registered_model else []),
            Link("Version", [subject.version] if subject.version else []),
            Link("Because of", _causes(subject)),
            Link("Answered by", list(subject.retrainings.select_related("registered_model"))),
        ]


def _causes(incident: Incident) -> list[Event]:
    opened = Event.objects.about(incident).select_related("cause").first()
    return [opened.cause] if opened and opened.cause else []


class Candidates(Rows):
    model = Candidate
    fields = ("position", "window", "training_run", "passed_gates", "gain", "outcome")


@admin.register(Retraining)
class RetrainingDesk(ModelDesk):
    list_display = ("__str__", "state_badge", "why", "cause_kind", "improved", "started_at", "ended_at")
    list_select_related = ("registered_model",)
    list_filter = (StateFilter, ModelFilter, "cause_kind")
    search_fields = ("state_reason", "registered_model__name")
    date_hierarchy = "started_at"
    inlines = (Candidates,)

    def links(self, subject: Retraining, user: User) -> Iterable[Link]:
        candidates = subject.candidates.select_related("training_run__pipeline__registered_model")
        runs = [each.training_run for each in candidates if each.training_run]
        made = [run.version for run in runs if hasattr(run, "version")]
        return [
            Link("Because of", [subject.incident] if subject.incident else []),
            Link("Model", [subject.registered_model]),
            Link("Champion before", [subject.champion_before] if subject.champion_before else []),
            Link("Trainings", runs),
            Link("Versions", made),
        ]


class ApproachForm(ReasonForm):
    """What will be done differently."""

    reason = None
    approach = LongText(
        label="The new approach",
        help_text="What will be done differently, and by whom. Recorded with your name and the time, for good.",
    )


@admin.register(Rethink)
class RethinkDesk(ModelDesk):
    portal = "portal:rethink"
    list_display = ("__str__", "state_badge", "question", "proposed_at", "due_at", "decided_by")
    list_select_related = ("registered_model", "decided_by")
    list_filter = (StateFilter, ModelFilter)
    search_fields = ("question", "approach", "registered_model__name")
    fields = ("registered_model", "question", "proposed_at", "due_at", "decided_by", "decided_at", "approach")
    decisions = (
        Decision(
            name="approve",
            label="Approve a new approach",
            consequence=(
                "The approach below is what the data science team works out next. Automation stays off until the "
                "rethink is closed."
            ),
            carry_out=rethinks.approve,
            offered=offered_to(*rethinks.DECIDERS, states=(RethinkState.PROPOSED,)),
            form=ApproachForm,
            variant="primary",
            icon="psychology",
        ),
        Decision(
            name="decline",
            label="Decline: keep the approach",
            consequence="The present approach stays. Automation goes on at once and counts refusals from here anew.",
            carry_out=rethinks.decline,
            offered=offered_to(*rethinks.DECIDERS, states=(RethinkState.PROPOSED,)),
            icon="thumb_down",
        ),
        Decision(
            name="close",
            label="Close: it is done",
            consequence="What was decided is done; automation is on again.",
            carry_out=rethinks.close,
            offered=offered_to(*rethinks.DECIDERS, states=(RethinkState.APPROVED, RethinkState.DECLINED)),
            icon="task_alt",
        ),
    )

    def lines(self, subject: Rethink) -> Iterable[Lines]:
        return [_frozen(subject)]

    def evidence(self, subject: Rethink, decision: Decision) -> Iterable[Lines]:
        return [_frozen(subject)]

    def links(self, subject: Rethink, user: User) -> Iterable[Link]:
        tried = subject.registered_model.retrainings.select_related("registered_model")
        open_incidents = subject.registered_model.incidents.exclude(state=IncidentState.RESOLVED)
        return [
            Link("Model", [subject.registered_model]),
            Link("Tried before", list(tried[:SHOWN])),
            Link("Open incidents", list(open_incidents[:SHOWN])),
        ]


def _frozen(rethink: Rethink) -> Lines:
    note = f"Frozen when it was proposed. SHA-256 {rethink.evidence_digest}"
    return Lines("The evidence", readable(rethink.evidence), note)
