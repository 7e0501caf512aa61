"""Rollouts in the admin: endpoints and the product owner's decisions, each candidate's way with every look at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from audit.desk import (
    Decision,
    Lines,
    Link,
    LongText,
    ReasonForm,
    RowChoice,
    Rows,
    ShortText,
    StateFilter,
    display,
)
from audit.pages import badge
from audit.trail import Actor
from registry.desk import ModelDesk, ModelFilter, offered_to
from registry.duties import has_duty
from registry.models import Duty, RegisteredModel
from rollout import actions
from rollout import models as rollouts
from rollout.models import (
    AnalysisRun,
    BusinessMetric,
    DecisionKind,
    Endpoint,
    Measurement,
    Rollout,
    RolloutState,
    Route,
)

OPERATORS = (Duty.DATA_SCIENCE, Duty.PLATFORM)
SHOWN = 10


class EndpointForm(ReasonForm):
    title = ShortText(max_length=120)
    description = LongText(required=False)

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"title": subject.title, "description": subject.description}


class ServeForm(ReasonForm):
    registered_model = RowChoice(queryset=RegisteredModel.objects.none(), label="Model")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        visible = RegisteredModel.objects.visible_to(user)
        self.fields["registered_model"].queryset = visible  # type: ignore[attr-defined]  # a ModelChoiceField

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"registered_model": subject.registered_model}


def _decide(kind: DecisionKind) -> Any:
    """The product owner's verb with this choice; the reason is its note."""

    def carry_out(
        endpoint: Endpoint, *, reason: str, actor: Actor, now: datetime, registered_model: RegisteredModel | None = None
    ) -> None:
        chosen = registered_model or endpoint.registered_model
        actions.decide(endpoint, kind=kind, registered_model=chosen, note=reason, actor=actor, now=now)

    return carry_out


def _product(endpoint: Endpoint, user: User) -> bool:
    return has_duty(user, endpoint.registered_model, Duty.PRODUCT)


@admin.register(Endpoint)
class EndpointDesk(ModelDesk):
    list_display = ("name", "title", "switch", "registered_model", "serving", "candidate", "threshold")
    list_select_related = (
        "registered_model",
        "route__champion__registered_model",
        "route__candidate__registered_model",
    )
    list_filter = (ModelFilter, "enabled")
    search_fields = ("name", "title", "description")
    decisions = (
        Decision(
            name="stop",
            label="Pull the kill switch",
            consequence="From this moment on everybody gets the fallback, whatever the models say.",
            carry_out=_decide(DecisionKind.STOP),
            offered=lambda endpoint, user: endpoint.enabled and _product(endpoint, user),
            variant="danger",
            icon="power_settings_new",
        ),
        Decision(
            name="resume",
            label="Release the kill switch",
            consequence="The champion answers again, and a candidate goes on where it was.",
            carry_out=_decide(DecisionKind.RESUME),
            offered=lambda endpoint, user: not endpoint.enabled and _product(endpoint, user),
            variant="primary",
            icon="play_arrow",
        ),
        Decision(
            name="serve",
            label="Decide which model serves",
            consequence="This model's champion answers from now on; candidates of another model end.",
            carry_out=_decide(DecisionKind.SERVE),
            offered=_product,
            form=ServeForm,
            icon="swap_horiz",
        ),
        Decision(
            name="describe",
            label="Change title or description",
            consequence="Only the words change, not what the endpoint does.",
            carry_out=actions.describe,
            offered=_product,
            form=EndpointForm,
            icon="edit",
        ),
    )

    @display(description="switch")
    def switch(self, endpoint: Endpoint) -> SafeString:
        return badge("running" if endpoint.enabled else "stop")

    @display(description="champion")
    def serving(self, endpoint: Endpoint) -> str:
        route = _route(endpoint)
        return f"v{route.champion.number}" if route and route.champion else "nothing yet"

    @display(description="candidate")
    def candidate(self, endpoint: Endpoint) -> str:
        route = _route(endpoint)
        if route is None or route.candidate is None:
            return "—"
        return f"v{route.candidate.number}, {route.stage}, {route.share:.0%}"

    def links(self, subject: Endpoint, user: User) -> Iterable[Link]:
        ways = subject.rollouts.select_related("version__registered_model", "endpoint")
        return [
            Link("Model", [subject.registered_model]),
            Link("Rollouts", list(ways[:SHOWN])),
            Link("Decisions", list(subject.decisions.select_related("endpoint")[:SHOWN])),
        ]


def _route(endpoint: Endpoint) -> Route | None:
    return getattr(endpoint, "route", None)


@admin.register(rollouts.Decision)
class DecisionDesk(ModelDesk):
    within = "endpoint__registered_model"
    list_display = ("__str__", "registered_model", "note", "decided_by", "decided_at")
    list_select_related = ("endpoint", "registered_model", "decided_by")
    list_filter = (ModelFilter, "kind")
    search_fields = ("note", "endpoint__name")

    def links(self, subject: rollouts.Decision, user: User) -> Iterable[Link]:
        return [Link("Endpoint", [subject.endpoint])]


@admin.register(BusinessMetric)
class BusinessMetricDesk(ModelDesk):
    within = "endpoint__registered_model"
    list_display = ("__str__", "title", "unit", "per", "better", "window", "missing", "tolerated_harm", "retired_at")
    list_select_related = ("endpoint__registered_model",)
    list_filter = ("per", "better", "guards")
    search_fields = ("name", "title", "endpoint__name")
    decisions = (
        Decision(
            name="retire",
            label="Retire",
            consequence="Canaries that begin from now on are not judged by it; those that run keep to it.",
            carry_out=actions.retire_business_metric,
            offered=lambda metric, user: metric.retired_at is None and _product(metric.endpoint, user),
            icon="archive",
        ),
    )

    def links(self, subject: BusinessMetric, user: User) -> Iterable[Link]:
        return [Link("Endpoint", [subject.endpoint]), Link("Model", [subject.registered_model])]


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
