"""Endpoints and what their product owners decide: which model serves, the kill switch, pauses, freezes, metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.utils.safestring import SafeString

from audit import clock
from audit.desk import (
    Decision,
    Lines,
    Link,
    LongText,
    Moment,
    Number,
    ReasonForm,
    RowChoice,
    ShortText,
    display,
)
from audit.pages import badge
from audit.trail import Actor
from registry.desk import ModelDesk, ModelFilter
from registry.duties import has_duty
from registry.models import Duty, ModelVersion, RegisteredModel
from rollout import actions, standstill
from rollout import models as rollouts
from rollout.models import BusinessMetric, DecisionKind, Endpoint, Fallback, FreezeWindow, RolloutState, Route

SHOWN = 10

# ---------------------------------------------------------------------- forms


class EndpointForm(ReasonForm):
    title = ShortText(max_length=120)
    description = LongText(required=False)

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"title": subject.title, "description": subject.description}


class DecisionForm(ReasonForm):
    """Whatever is decided, it can be decided for later."""

    takes_effect_at = Moment(label="Takes effect at", required=False, help_text="UTC. Empty: at once.")


class ServeForm(DecisionForm):
    registered_model = RowChoice(queryset=RegisteredModel.objects.none(), label="Model")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        visible = RegisteredModel.objects.visible_to(user)
        self.fields["registered_model"].queryset = visible  # type: ignore[attr-defined]  # a ModelChoiceField

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"registered_model": subject.registered_model}


class StopForm(DecisionForm):
    fallback = RowChoice(
        queryset=Fallback.objects.none(),
        required=False,
        help_text="What answers everybody. None: the fixed score of the endpoint.",
    )

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        self.fields["fallback"].queryset = _named(subject)  # type: ignore[attr-defined]  # a ModelChoiceField


class FallbackForm(ReasonForm):
    name = ShortText(max_length=60)
    score = Number(required=False, help_text="A fixed answer for everybody; or else a version.")
    version = RowChoice(
        queryset=ModelVersion.objects.none(), required=False, help_text="An earlier champion; or else a score."
    )

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        promoted = ModelVersion.objects.filter(
            rollouts__state=RolloutState.PROMOTED, rollouts__registered_model=subject.registered_model_id
        )
        versions = promoted.select_related("registered_model").distinct().order_by("-number")
        self.fields["version"].queryset = versions  # type: ignore[attr-defined]  # a ModelChoiceField


class FreezeForm(ReasonForm):
    starts_at = Moment(label="From", help_text="UTC.")
    ends_at = Moment(label="Until", help_text="UTC.")


# ---------------------------------------------------------------------- verbs


def _decide(kind: DecisionKind) -> Any:
    """The product owner's verb with this choice; the reason is its note."""

    def carry_out(
        endpoint: Endpoint,
        *,
        reason: str,
        actor: Actor,
        now: datetime,
        registered_model: RegisteredModel | None = None,
        fallback: Fallback | None = None,
        takes_effect_at: datetime | None = None,
    ) -> str:
        decision = actions.decide(
            endpoint,
            kind=kind,
            registered_model=registered_model or endpoint.registered_model,
            note=reason,
            takes_effect_at=takes_effect_at,
            fallback=fallback,
            actor=actor,
            now=now,
        )
        later = f" It takes effect at {takes_effect_at:%Y-%m-%d %H:%M} UTC." if takes_effect_at is not None else ""
        return f"Decided and recorded: {decision.get_kind_display()}.{later}"

    return carry_out


def _add_fallback(
    endpoint: Endpoint,
    *,
    reason: str,
    name: str,
    score: float | None,
    version: ModelVersion | None,
    actor: Actor,
    now: datetime,
) -> None:
    actions.add_fallback(endpoint, name=name, score=score, version=version, note=reason, actor=actor, now=now)


def _freeze(
    endpoint: Endpoint, *, reason: str, starts_at: datetime, ends_at: datetime, actor: Actor, now: datetime
) -> None:
    actions.freeze(endpoint, starts_at=starts_at, ends_at=ends_at, note=reason, actor=actor, now=now)


def _product(endpoint: Endpoint, user: User) -> bool:
    return has_duty(user, endpoint.registered_model, Duty.PRODUCT)


def _named(endpoint: Endpoint) -> Any:
    return Fallback.objects.filter(endpoint=endpoint, retired_at=None).select_related("endpoint")


def _may_stop(endpoint: Endpoint, user: User) -> bool:
    """Also while it is stopped, to another fallback."""
    return (endpoint.enabled or _named(endpoint).exists()) and _product(endpoint, user)


def _may_resume(endpoint: Endpoint, user: User) -> bool:
    """Also for after a stop that is still to come."""
    stops = endpoint.decisions.filter(kind=DecisionKind.STOP, takes_effect_at__isnull=False, outcome=None)
    return (not endpoint.enabled or stops.exists()) and _product(endpoint, user)


# ---------------------------------------------------------------------- desks


@admin.register(Endpoint)
class EndpointDesk(ModelDesk):
    list_display = ("name", "title", "switch", "candidates", "registered_model", "serving", "candidate", "threshold")
    list_select_related = (
        "registered_model",
        "route__champion__registered_model",
        "route__candidate__registered_model",
        "route__fallback",
    )
    list_filter = (ModelFilter, "enabled", "rollouts_paused")
    search_fields = ("name", "title", "description")
    decisions = (
        Decision(
            name="stop",
            label="Pull the kill switch",
            consequence="From this moment on everybody gets the fallback, whatever the models say.",
            carry_out=_decide(DecisionKind.STOP),
            offered=_may_stop,
            form=StopForm,
            variant="danger",
            icon="power_settings_new",
        ),
        Decision(
            name="resume",
            label="Release the kill switch",
            consequence="The champion answers again, and a candidate goes on where it was.",
            carry_out=_decide(DecisionKind.RESUME),
            offered=_may_resume,
            form=DecisionForm,
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
            name="pause",
            label="Pause rollouts",
            consequence="A candidate leaves the traffic, and none starts, until you let them go on.",
            carry_out=_decide(DecisionKind.PAUSE),
            offered=lambda endpoint, user: not endpoint.rollouts_paused and _product(endpoint, user),
            form=DecisionForm,
            icon="pause",
        ),
        Decision(
            name="continue",
            label="Let rollouts go on",
            consequence="What your pause stopped goes on where it was; those that wait may start.",
            carry_out=_decide(DecisionKind.CONTINUE),
            offered=lambda endpoint, user: endpoint.rollouts_paused and _product(endpoint, user),
            form=DecisionForm,
            variant="primary",
            icon="resume",
        ),
        Decision(
            name="freeze",
            label="Freeze",
            consequence=(
                "For this time no candidate starts, gets more traffic or is promoted. What runs keeps its share and "
                "may always roll back."
            ),
            carry_out=_freeze,
            offered=_product,
            form=FreezeForm,
            icon="ac_unit",
        ),
        Decision(
            name="add_fallback",
            label="Name a fallback",
            consequence="The kill switch can be pulled to it from now on. Nothing is served by naming it.",
            carry_out=_add_fallback,
            offered=_product,
            form=FallbackForm,
            icon="health_and_safety",
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

    @display(description="rollouts")
    def candidates(self, endpoint: Endpoint) -> SafeString:
        return badge("paused" if endpoint.rollouts_paused else "open")

    @display(description="champion")
    def serving(self, endpoint: Endpoint) -> str:
        route = _route(endpoint)
        champion = f"v{route.champion.number}" if route and route.champion else "nothing yet"
        if endpoint.enabled or route is None:
            return champion
        return f"{champion}; instead: {route.fallback.name if route.fallback else 'the fixed score'}"

    @display(description="candidate")
    def candidate(self, endpoint: Endpoint) -> str:
        route = _route(endpoint)
        if route is None or route.candidate is None:
            return "—"
        return f"v{route.candidate.number}, {route.stage}, {route.share:.0%}"

    def lines(self, subject: Endpoint) -> Iterable[Lines]:
        now = clock.now()
        what = standstill.waits_for(subject, now=now)
        waiting = subject.decisions.filter(takes_effect_at__isnull=False, outcome=None).order_by("takes_effect_at")
        decided = [
            (f"{each.get_kind_display()}, {each.takes_effect_at:%Y-%m-%d %H:%M} UTC", each.note) for each in waiting
        ]
        weekly = [
            (f"Each week from {each.starts} to {each.ends}, {each.zone}", each.note)
            for each in standstill.plan_of(subject).canary.freeze
        ]
        return [
            Lines("Candidates wait for", [(what, "")] if what else [], "" if what else "Nothing: they may start."),
            *([Lines("Decided for later", decided)] if decided else []),
            *([Lines("Weekly freezes of the plan", weekly)] if weekly else []),
        ]

    def links(self, subject: Endpoint, user: User) -> Iterable[Link]:
        ways = subject.rollouts.select_related("version__registered_model", "endpoint")
        return [
            Link("Model", [subject.registered_model]),
            Link("Rollouts", list(ways[:SHOWN])),
            Link("Decisions", list(subject.decisions.select_related("endpoint")[:SHOWN])),
            Link("Fallbacks", list(_named(subject))),
            Link("Freezes", list(subject.freezes.select_related("endpoint").order_by("-starts_at")[:SHOWN])),
        ]


def _route(endpoint: Endpoint) -> Route | None:
    return getattr(endpoint, "route", None)


@admin.register(rollouts.Decision)
class DecisionDesk(ModelDesk):
    within = "endpoint__registered_model"
    list_display = ("__str__", "registered_model", "note", "decided_by", "decided_at", "takes_effect_at", "became")
    list_select_related = ("endpoint", "registered_model", "decided_by", "outcome")
    list_filter = (ModelFilter, "kind")
    search_fields = ("note", "endpoint__name")
    decisions = (
        Decision(
            name="withdraw",
            label="Withdraw",
            consequence="It was decided for later, and will not be carried out.",
            carry_out=actions.withdraw,
            offered=lambda decision, user: decision.is_waiting and _product(decision.endpoint, user),
            icon="undo",
        ),
    )

    @display(description="became of it")
    def became(self, decision: rollouts.Decision) -> SafeString:
        if decision.is_waiting:
            return badge("waiting")
        outcome = getattr(decision, "outcome", None)
        return badge(outcome.outcome if outcome is not None else "carried_out")

    def lines(self, subject: rollouts.Decision) -> Iterable[Lines]:
        outcome = getattr(subject, "outcome", None)
        if outcome is None:
            return []
        said = f"{outcome.at:%Y-%m-%d %H:%M} UTC{f' by {outcome.decided_by}' if outcome.decided_by else ''}"
        return [Lines("What became of it", [(outcome.get_outcome_display(), outcome.note)], said)]

    def links(self, subject: rollouts.Decision, user: User) -> Iterable[Link]:
        return [Link("Endpoint", [subject.endpoint]), Link("Fallback", [subject.fallback] if subject.fallback else [])]


@admin.register(Fallback)
class FallbackDesk(ModelDesk):
    within = "endpoint__registered_model"
    list_display = ("__str__", "answers", "note", "created_at", "retired_at")
    list_select_related = ("endpoint__registered_model", "version__registered_model")
    search_fields = ("name", "note", "endpoint__name")
    decisions = (
        Decision(
            name="retire",
            label="Retire",
            consequence="No kill switch can name it any more.",
            carry_out=actions.retire_fallback,
            offered=lambda fallback, user: fallback.retired_at is None and _product(fallback.endpoint, user),
            icon="archive",
        ),
    )

    @display(description="answers")
    def answers(self, fallback: Fallback) -> str:
        return fallback.answer

    def links(self, subject: Fallback, user: User) -> Iterable[Link]:
        return [Link("Endpoint", [subject.endpoint]), Link("Version", [subject.version] if subject.version else [])]


@admin.register(FreezeWindow)
class FreezeDesk(ModelDesk):
    within = "endpoint__registered_model"
    list_display = ("endpoint", "starts_at", "ends_at", "note", "decided_by", "lifted_at")
    list_display_links = ("starts_at",)
    list_select_related = ("endpoint", "decided_by")
    search_fields = ("note", "endpoint__name")
    date_hierarchy = "starts_at"
    decisions = (
        Decision(
            name="lift",
            label="Lift",
            consequence="Candidates may start, get more traffic and be promoted from now on.",
            carry_out=actions.unfreeze,
            offered=lambda window, user: window.ended_at > clock.now() and _product(window.endpoint, user),
            icon="lock_open",
        ),
    )

    def links(self, subject: FreezeWindow, user: User) -> Iterable[Link]:
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
