"""The registry in the admin: models and their owners, how they are trained, every run and version with its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Prefetch, QuerySet
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString

from audit.desk import (
    Choice,
    Decision,
    Lines,
    Link,
    LongText,
    Number,
    ReasonForm,
    RowChoice,
    ShortText,
    StateFilter,
    display,
)
from audit.errors import InvalidInput
from audit.pages import badge
from audit.trail import Actor
from registry import actions, artifacts, card, measured
from registry.desk import ModelDesk, ModelFilter, offered_to
from registry.duties import has_duty
from registry.lineage import Node, trace
from registry.models import (
    AUDITORS,
    Alias,
    ArtifactFile,
    Duty,
    LegalHold,
    ModelCard,
    ModelVersion,
    RegisteredModel,
    RunState,
    Task,
    Tier,
    TrainingPipeline,
    TrainingRun,
)

SHOWN = 10
GIGABYTE = 2**30


class ModelForm(ReasonForm):
    """What is said of a model, and who owns it."""

    title = ShortText(max_length=120)
    description = LongText(required=False, help_text="The question it answers, for whom, and when.")
    tier = Choice(choices=Tier.choices, help_text="What is at stake; the product owner says it.")
    data_science = RowChoice(queryset=Group.objects.all(), help_text="Owns model quality.")
    platform = RowChoice(queryset=Group.objects.all(), help_text="Owns infrastructure reliability.")
    product = RowChoice(queryset=Group.objects.all(), help_text="Owns which model is used, and when.")

    def present(self, subject: Any) -> Mapping[str, Any]:
        names = ("title", "description", "tier", "data_science", "platform", "product")
        return {name: getattr(subject, name) for name in names}


class NewModelForm(ModelForm):
    name = ShortText(
        max_length=60, help_text="For URLs and code: lower-case letters, digits, '-' and '_'. Never changes."
    )
    task = Choice(choices=Task.choices)
    reason = None  # the description says why a model exists

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"tier": Tier.STANDARD}


class RetentionForm(ReasonForm):
    days = Number(
        required=False, help_text="Days after a version's registration; nothing: its files are kept for ever."
    )

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"days": subject.retention_days}


class QuotaForm(ReasonForm):
    gigabytes = Number(
        required=False, help_text="For the files of all versions together, in GB of 1024³ bytes; nothing: the portal's."
    )

    def present(self, subject: Any) -> Mapping[str, Any]:
        own = subject.quota_bytes
        return {"gigabytes": None if own is None else own / GIGABYTE}


CHOSEN = {"decision_role": ("advises", "decides"), "personal_data": ("yes", "no", "unknown")}


class CardForm(ReasonForm):
    """One field per statement; what is left empty is shown as not stated."""

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        current = subject.cards.first()
        said = current.content if current else {}
        for name, about in card.Card.model_fields.items():
            options = {"required": False, "label": about.title, "initial": said.get(name, "")}
            choices = [("", card.NOT_STATED), *((each, each) for each in CHOSEN.get(name, ()))]
            if name in CHOSEN:
                self.fields[name] = Choice(choices=choices, **options)
            elif name == "review_by":
                self.fields[name] = ShortText(help_text="A date, such as 2027-01-31.", **options)
            else:
                self.fields[name] = LongText(**options)
        self.order_fields([name for name in self.fields if name != "reason"])


def _set_retention(registered_model: RegisteredModel, *, days: float | None, **said: Any) -> None:
    actions.set_retention(registered_model, days=None if days is None else int(days), **said)


def _set_quota(registered_model: RegisteredModel, *, gigabytes: float | None, **said: Any) -> None:
    limit = None if gigabytes is None else int(gigabytes * GIGABYTE)
    try:
        actions.set_quota(registered_model, bytes=limit, **said)
    except InvalidInput as refusal:
        raise InvalidInput(
            {{"bytes": "gigabytes"}.get(name, name): text for name, text in refusal.errors.items()}
        ) from None


def _write_card(registered_model: RegisteredModel, *, reason: str, actor: Actor, now: datetime, **content: Any) -> str:
    said = {name: value for name, value in content.items() if value}
    return f"{actions.write_card(registered_model, content=said, reason=reason, actor=actor, now=now)} is in force."


def _standing_hold(version: ModelVersion) -> LegalHold | None:
    hold: LegalHold | None = version.holds.filter(released_at__isnull=True).select_related("placed_by").first()
    return hold


def _may_place(version: ModelVersion, user: User) -> bool:
    return _standing_hold(version) is None and actions.may_place(user, version)


def _may_release(version: ModelVersion, user: User) -> bool:
    hold = _standing_hold(version)
    return hold is not None and actions.may_release(user, hold)


def _may_found(subject: Any, user: User) -> bool:
    return not user.groups.filter(name=AUDITORS).exists()


def _found(**fields: Any) -> str:
    registered_model = actions.create_model(**fields)
    return f"{registered_model} is registered. Next: have a policy confirmed, define a pipeline, create an endpoint."


@admin.register(RegisteredModel)
class RegisteredModelDesk(ModelDesk):
    within = "pk"
    portal = "portal:model"
    list_display = ("name", "title", "tier", "champion_version", "data_science", "platform", "product", "automatic")
    list_select_related = ("data_science", "platform", "product")
    list_filter = ("tier",)
    search_fields = ("name", "title", "description")
    decisions = (
        Decision(
            name="register",
            label="Register a model",
            consequence="A model begins with its tier and its three owners. Nothing serves yet.",
            carry_out=_found,
            offered=_may_found,
            form=NewModelForm,
            variant="primary",
            icon="add",
            for_list=True,
        ),
        Decision(
            name="edit",
            label="Change description, tier or owners",
            consequence=(
                "Any owner may change the words; each group hands on only its own duty; the tier is product's."
            ),
            carry_out=actions.change_model,
            offered=lambda registered_model, user: has_duty(user, registered_model, *Duty),
            form=ModelForm,
            icon="edit",
        ),
        Decision(
            name="card",
            label="Write the model card",
            consequence="The next card is in force at once; the ones before it stay readable for ever.",
            carry_out=_write_card,
            offered=lambda registered_model, user: has_duty(user, registered_model, *Duty),
            form=CardForm,
            icon="badge",
        ),
        Decision(
            name="retention",
            label="Set retention",
            consequence=(
                "Each day the files of versions beyond it are removed, unless something refers to them: an alias, a "
                "rollout, a gate run, a report, a legal hold. The versions and their records stay."
            ),
            carry_out=_set_retention,
            offered=lambda registered_model, user: has_duty(user, registered_model, Duty.PLATFORM),
            form=RetentionForm,
            icon="auto_delete",
        ),
        Decision(
            name="quota",
            label="Set quota",
            consequence="A version that does not fit is refused. Nothing is removed by a smaller quota.",
            carry_out=_set_quota,
            offered=lambda registered_model, user: has_duty(user, registered_model, Duty.PLATFORM),
            form=QuotaForm,
            icon="database",
        ),
    )

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        champions = Prefetch("aliases", Alias.objects.filter(name=Alias.CHAMPION).select_related("version"))
        return super().get_queryset(request).prefetch_related(champions)

    @display(description="champion")
    def champion_version(self, registered_model: RegisteredModel) -> str:
        alias = next(iter(registered_model.aliases.all()), None)
        return f"v{alias.version.number} since {alias.since:%Y-%m-%d}" if alias else "none yet"

    @display(description="automation", boolean=True)
    def automatic(self, registered_model: RegisteredModel) -> bool:
        return registered_model.automation

    def portal_arguments(self, subject: RegisteredModel) -> list[Any]:
        return [subject.name]

    def links(self, subject: RegisteredModel, user: User) -> Iterable[Link]:
        champion = subject.champion()
        return [
            Link("Champion", [champion] if champion else []),
            Link("Pipelines", list(subject.pipelines.select_related("registered_model"))),
            Link("Versions", list(subject.versions.select_related("registered_model")[:SHOWN])),
            Link("Cards", list(subject.cards.select_related("registered_model")[:SHOWN])),
            Link("Policies", list(subject.policies.select_related("registered_model")[:3])),
            Link("Endpoints", list(subject.endpoints.all())),
            Link("Rollouts", list(subject.rollouts.select_related("version__registered_model", "endpoint")[:SHOWN])),
            Link("Incidents", list(subject.incidents.exclude(state="resolved")[:SHOWN])),
            Link("Retrainings", list(subject.retrainings.select_related("registered_model")[:SHOWN])),
            Link("Rethinks", list(subject.rethinks.select_related("registered_model"))),
        ]

    def lines(self, subject: RegisteredModel) -> Iterable[Lines]:
        current = subject.cards.first()
        days, quota = subject.retention_days, artifacts.quota_of(subject)
        kept = [
            ("Retention", f"{days} days, unless something refers to a version" if days else "for ever"),
            ("Used", f"{filesizeformat(artifacts.used_bytes(subject))} of {filesizeformat(quota)}"),
        ]
        title = f"Model card {current.number}" if current else "Model card: none yet"
        return [Lines("Files", kept), Lines(title, card.lines(current.content if current else {}))]


@admin.register(ModelCard)
class ModelCardDesk(ModelDesk):
    list_display = ("registered_model", "number", "written_by", "written_at")
    list_select_related = ("registered_model", "written_by")
    list_filter = (ModelFilter,)
    date_hierarchy = "written_at"

    def links(self, subject: ModelCard, user: User) -> Iterable[Link]:
        return [Link("Model", [subject.registered_model])]

    def lines(self, subject: ModelCard) -> Iterable[Lines]:
        return [Lines("Stated", card.lines(subject.content))]


class TrainingForm(ReasonForm):
    """Which of the pipeline's windows to train on."""

    window = Choice(choices=[], help_text="One of the windows that the pipeline declares.")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        names = [window.get("name", "") for window in subject.windows]
        self.fields["window"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]  # a ChoiceField


def _request_training(pipeline: TrainingPipeline, *, window: str, reason: str, actor: Actor, now: datetime) -> str:
    chosen = next((each for each in pipeline.windows if each.get("name") == window), None)
    if chosen is None:
        raise InvalidInput({"window": "Choose one of the pipeline's windows."})
    run = actions.request_training(
        pipeline, window=chosen, trigger="person", parameters=None, actor=actor, reason=reason, now=now
    )
    return f"{run} is requested; a worker takes it next. Its version goes through the gates by itself."


@admin.register(TrainingPipeline)
class TrainingPipelineDesk(ModelDesk):
    list_display = ("__str__", "entry_point", "service", "window_names", "holdout_days", "automatic")
    list_select_related = ("registered_model", "service")
    list_filter = (ModelFilter, "automatic")
    search_fields = ("name", "entry_point")
    decisions = (
        Decision(
            name="train",
            label="Request a training",
            consequence="A worker builds the dataset, trains in a child process and registers the version.",
            carry_out=_request_training,
            offered=offered_to(Duty.DATA_SCIENCE),
            form=TrainingForm,
            variant="primary",
            icon="model_training",
        ),
    )

    @display(description="windows")
    def window_names(self, pipeline: TrainingPipeline) -> str:
        return ", ".join(window.get("name", "?") for window in pipeline.windows)

    def links(self, subject: TrainingPipeline, user: User) -> Iterable[Link]:
        return [
            Link("Model", [subject.registered_model]),
            Link("Feature service", [subject.service]),
            Link("Runs", list(subject.runs.select_related("pipeline__registered_model")[:SHOWN])),
        ]


@admin.register(TrainingRun)
class TrainingRunDesk(ModelDesk):
    list_display = ("__str__", "state_badge", "why", "trigger", "window_name", "requested_at", "wall_seconds")
    list_select_related = ("pipeline__registered_model",)
    list_filter = (StateFilter, ModelFilter, "trigger")
    search_fields = ("pipeline__name", "registered_model__name", "state_reason", "commit")
    date_hierarchy = "requested_at"
    decisions = (
        Decision(
            name="cancel",
            label="Cancel",
            consequence="The run is given up; what a running child still produces is thrown away.",
            carry_out=actions.cancel_training,
            offered=offered_to(Duty.DATA_SCIENCE, Duty.PLATFORM, states=(RunState.REQUESTED, RunState.RUNNING)),
            variant="danger",
            icon="cancel",
        ),
    )

    @display(description="window")
    def window_name(self, run: TrainingRun) -> str:
        return str(run.window.get("name", ""))

    def links(self, subject: TrainingRun, user: User) -> Iterable[Link]:
        version = getattr(subject, "version", None)
        candidate = getattr(subject, "candidate", None)
        return [
            Link("Asked for by", [candidate.retraining] if candidate else []),
            Link("Pipeline", [subject.pipeline]),
            Link("Dataset", [subject.dataset] if subject.dataset else []),
            Link("Made", [version] if version else []),
        ]


@admin.register(ModelVersion)
class ModelVersionDesk(ModelDesk):
    portal = "portal:version"
    list_display = ("__str__", "names", "gates", "rollout_state", "service", "load_class", "registered_at", "note")
    list_select_related = ("registered_model", "service")
    list_filter = (ModelFilter, "load_class")
    search_fields = ("note", "artifact_digest", "registered_model__name", "commit")
    date_hierarchy = "registered_at"
    decisions = (
        Decision(
            name="hold",
            label="Place a legal hold",
            consequence="Nothing of this version is removed until an auditor or an administrator releases it.",
            carry_out=actions.place_hold,
            offered=_may_place,
            icon="gavel",
        ),
        Decision(
            name="release",
            label="Release the legal hold",
            consequence="The model's retention counts again: files past it are removed for good within a day.",
            carry_out=actions.release_hold,
            offered=_may_release,
            variant="danger",
            icon="lock_open",
        ),
    )

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("aliases", "gate_runs", "rollouts")

    @display(description="alias")
    def names(self, version: ModelVersion) -> str:
        return ", ".join(alias.name for alias in version.aliases.all()) or "—"

    @display(description="gates")
    def gates(self, version: ModelVersion) -> SafeString:
        run = next(iter(version.gate_runs.all()), None)
        return badge(run.state if run else "")

    @display(description="rollout")
    def rollout_state(self, version: ModelVersion) -> SafeString:
        rollout = next(iter(version.rollouts.all()), None)
        return badge(rollout.state if rollout else "")

    def portal_arguments(self, subject: ModelVersion) -> list[Any]:
        return [subject.registered_model.name, subject.number]

    def links(self, subject: ModelVersion, user: User) -> Iterable[Link]:
        return [
            Link("Model", [subject.registered_model]),
            Link("Made by", [subject.training_run] if subject.training_run else []),
            Link("From dataset", [subject.dataset] if subject.dataset else []),
            Link("Takes features of", [subject.service] if subject.service else []),
            Link("Gate runs", list(subject.gate_runs.select_related("version__registered_model"))),
            Link("Rollouts", list(subject.rollouts.select_related("version__registered_model", "endpoint"))),
            Link("Incidents", list(subject.incidents.all()[:SHOWN])),
        ]

    def lines(self, subject: ModelVersion) -> Iterable[Lines]:
        return [
            Lines("Files", [(file.path, _about(file)) for file in subject.files.select_related("blob")]),
            Lines("How it is loaded", [(subject.get_load_class_display(), artifacts.why_loaded(subject))]),
            Lines(
                "Registered by", list(_registrant(subject)), "Claims are what the registrant said; nobody checks them."
            ),
            *_holds(subject),
            Lines("Measured", list(_measured(subject)), "Without an interval and a dataset a number is unverified."),
            Lines("Lineage", list(_rows(trace(subject))), "“Unverified” is somebody's word, or nothing."),
        ]


def _about(file: ArtifactFile) -> str:
    blob = file.blob
    gone = f"; removed {blob.removed_at:%Y-%m-%d}: {blob.removed_because}" if blob.removed_at else ""
    return f"{file.role}, {filesizeformat(blob.bytes)}, SHA-256 {blob.digest}{gone}"


def _registrant(version: ModelVersion) -> Iterable[tuple[str, str]]:
    yield "Fact: account", str(version.registered_by or "Gatehouse itself")
    yield "Fact: credential", version.registered_with or "not recorded"
    for name, said in version.claims.items():
        yield f"Claim: {name}"[:100], str(said)[:500]


def _holds(version: ModelVersion) -> Iterable[Lines]:
    holds = list(version.holds.select_related("placed_by", "released_by"))
    rows = [(f"{hold.placed_at:%Y-%m-%d} by {hold.placed_by}", _end(hold)) for hold in holds]
    return [Lines("Legal holds", rows)] if rows else []


def _end(hold: LegalHold) -> str:
    end = f"released {hold.released_at:%Y-%m-%d} by {hold.released_by}" if hold.released_at else "stands"
    return f"{hold.reason} ({end})"


def _measured(version: ModelVersion) -> Iterable[tuple[str, str]]:
    for each in measured.measures(version.metrics):
        yield each.name, f"{each}{'' if each.is_verifiable else f' (unverified: {each.missing})'}"


def _rows(node: Node, depth: int = 0) -> Iterable[tuple[str, str]]:
    said = "; ".join(f"{name}: {value}" for name, value in node.facts)
    mark = "" if node.is_verified else " (unverified)"
    yield f"{'· ' * depth}{node.kind}", f"{node.label}{mark}{' — ' if said else ''}{said}"
    for part in node.parts:
        yield from _rows(part, depth + 1)


@admin.register(Alias)
class AliasDesk(ModelDesk):
    list_display = ("registered_model", "name", "version", "since")
    list_select_related = ("registered_model", "version__registered_model")
    list_filter = (ModelFilter, "name")

    def links(self, subject: Alias, user: User) -> Iterable[Link]:
        return [Link("Points to", [subject.version]), Link("Model", [subject.registered_model])]
