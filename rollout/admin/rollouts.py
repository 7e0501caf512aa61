"""Each candidate's way with every look at it, and what people decide about it."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.contrib.auth.models import User
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import Decision, Lines, Link, Rows, StateFilter, display
from audit.pages import badge
from registry.desk import ModelDesk, ModelFilter, offered_to
from registry.duties import has_duty
from registry.models import Duty
from rollout import actions
from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState

OPERATORS = (Duty.DATA_SCIENCE, Duty.PLATFORM)
SHOWN = 10


class Looks(Rows):
    model = AnalysisRun
    verbose_name_plural = "looks"
    ordering = ("-number",)
    per_page = 15
    fields = ("number", "at", "stage", "step", "concluded", "summary")

    @display(description="conclusion")
    def concluded(self, look: AnalysisRun) -> SafeString:
        return badge(look.conclusion)


@admin.register(Rollout)
class RolloutDesk(ModelDesk):
    portal = "portal:rollout"
    list_display = ("__str__", "state_badge", "stage", "why", "incumbent", "created_at", "ended_at")
    list_select_related = ("version__registered_model", "endpoint", "incumbent__registered_model")
    list_filter = (StateFilter, ModelFilter)
    search_fields = ("state_reason", "registered_model__name", "endpoint__name")
    date_hierarchy = "created_at"
    inlines = (Looks,)
    decisions = (
        Decision(
            name="pause",
            label="Pause",
            consequence="The candidate leaves the traffic for a while; the incumbent answers; nothing is judged.",
            carry_out=actions.pause,
            offered=offered_to(*OPERATORS, states=(RolloutState.SHADOW, RolloutState.CANARY)),
            icon="pause",
        ),
        Decision(
            name="resume",
            label="Resume",
            consequence="It goes on at the stage and step where it was paused, with the same entities.",
            carry_out=actions.resume,
            offered=offered_to(*OPERATORS, states=(RolloutState.PAUSED,)),
            variant="primary",
            icon="play_arrow",
        ),
        Decision(
            name="abort",
            label="Abort",
            consequence="The rollout ends for good and the incumbent keeps all traffic.",
            carry_out=actions.abort,
            offered=offered_to(
                *OPERATORS,
                states=(RolloutState.PENDING, RolloutState.SHADOW, RolloutState.CANARY, RolloutState.PAUSED),
            ),
            variant="danger",
            icon="block",
        ),
        Decision(
            name="advance",
            label="Take the next step",
            consequence=(
                "Its horizon passed undecided, so a person decides: the candidate gets the next share of the traffic."
            ),
            carry_out=actions.advance,
            offered=lambda rollout, user: rollout.is_held and has_duty(user, rollout.registered_model, Duty.PRODUCT),
            icon="skip_next",
        ),
        Decision(
            name="promote",
            label="Promote",
            consequence="Its horizon passed undecided at the last step: you make the candidate champion.",
            carry_out=actions.promote,
            offered=lambda rollout, user: (
                rollout.is_held
                and rollout.state == RolloutState.CANARY
                and has_duty(user, rollout.registered_model, Duty.PRODUCT)
            ),
            icon="workspace_premium",
        ),
    )

    @display(description="stage")
    def stage(self, rollout: Rollout) -> str:
        steps = len(rollout.plan.get("canary", {}).get("steps", ()))
        if rollout.step:
            return f"canary step {rollout.step} of {steps}"
        if rollout.shadow_since:
            return "shadow"
        return "at once" if rollout.state == RolloutState.PROMOTED else "not begun"

    def evidence(self, subject: Rollout, decision: Decision) -> Iterable[Lines]:
        latest = subject.analyses.prefetch_related("measurements").order_by("-number").first()
        if latest is None:
            return [Lines("The latest look", [], "There has been no look yet.")]
        rows = [(f"{each.metric}: {each.verdict}", each.message) for each in latest.measurements.all()]
        title = f"The latest look: {latest.conclusion.replace('_', ' ')}"
        return [
            Lines(title, [("Summary", latest.summary), *rows], f"Look {latest.number}, {latest.at:%Y-%m-%d %H:%M} UTC")
        ]

    def links(self, subject: Rollout, user: User) -> Iterable[Link]:
        incidents = subject.version.incidents.all()
        return [
            Link("Version", [subject.version]),
            Link("Let in by", [subject.gate_run]),
            Link("Endpoint", [subject.endpoint]),
            Link("Incumbent", [subject.incumbent] if subject.incumbent else []),
            Link("Incidents of the version", list(incidents[:SHOWN])),
        ]


class Measured(Rows):
    model = Measurement
    verbose_name_plural = "measurements"
    fields = ("metric", "verdict_badge", "message", "value", "low", "high", "limit", "n")

    @display(description="verdict")
    def verdict_badge(self, measurement: Measurement) -> SafeString:
        return badge(measurement.verdict)


@admin.register(AnalysisRun)
class AnalysisRunDesk(ModelDesk):
    within = "rollout__registered_model"
    list_display = ("__str__", "at", "stage", "step", "concluded", "said")
    list_select_related = ("rollout__version__registered_model", "rollout__endpoint")
    list_filter = ("conclusion", "stage")
    search_fields = ("summary",)
    inlines = (Measured,)

    @display(description="conclusion", ordering="conclusion")
    def concluded(self, look: AnalysisRun) -> SafeString:
        return badge(look.conclusion)

    @display(description="why")
    def said(self, look: AnalysisRun) -> str:
        return Truncator(look.summary).chars(120)

    def links(self, subject: AnalysisRun, user: User) -> Iterable[Link]:
        return [Link("Of", [subject.rollout])]
