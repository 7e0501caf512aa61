"""The system in the admin: jobs, what is due, signs of life. Read-only; a dead job may be redelivered."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.contrib.auth.models import User
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import Decision, Desk, Lines, Link, display
from audit.models import Event
from audit.pages import badge
from jobs.models import Due, Heartbeat, Job, JobState
from mlops.sight import visible_events
from monitoring.actions import upkeep


@admin.register(Job)
class JobDesk(Desk):
    list_display = ("kind", "state_badge", "key", "attempts", "created_at", "finished_at", "failure")
    list_display_links = ("kind", "key")
    list_filter = ("state", "kind")
    search_fields = ("key", "kind", "error")
    show_full_result_count = False
    fields = (
        "kind", "key", "state_badge", "attempts", "max_attempts", "created_at", "started_at", "finished_at",
        "not_before", "lease_until", "claim", "payload", "result", "error",
    )  # fmt: skip
    decisions = (
        Decision(
            name="redeliver",
            label="Redeliver",
            consequence="The job gets a fresh set of attempts at once. What it finished before, it does not repeat.",
            carry_out=upkeep.redeliver,
            offered=lambda job, user: job.state == JobState.DEAD and upkeep.may_redeliver(user),
            variant="primary",
            icon="replay",
        ),
    )

    @display(description="state", ordering="state")
    def state_badge(self, row: Job) -> SafeString:
        return badge(row.state)

    @display(description="error")
    def failure(self, job: Job) -> str:
        last = (job.error.strip().splitlines() or [""])[-1]
        return Truncator(last).chars(90) or "—"

    def evidence(self, subject: Job, decision: Decision) -> Iterable[Lines]:
        return [Lines("Why it gave up", [("Attempts", str(subject.attempts)), ("Error", subject.error[-2000:])])]

    def links(self, subject: Job, user: User) -> Iterable[Link]:
        event = subject.payload.get("event") if isinstance(subject.payload, dict) else None
        return [Link("Reaction to", list(visible_events(user, Event.objects.filter(pk=event))))] if event else []


@admin.register(Due)
class DueDesk(Desk):
    list_display = ("name", "next_at", "last_at")
    search_fields = ("name",)


@admin.register(Heartbeat)
class HeartbeatDesk(Desk):
    list_display = ("name", "beat_at", "sent_at")
