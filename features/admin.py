"""The feature store in the admin: what is known, how fresh it must be, what a version means, who may publish it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Max, QuerySet
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from audit.desk import Answer, Decision, Desk, Lines, Link, LongText, Number, ReasonForm, StateFilter, display, mono
from audit.trail import Actor
from features import actions, reading
from features.actions.editing import edit_view
from features.actions.promises import promise
from features.definitions import ViewDefinition
from features.forms import DeprecateForm, PromiseForm, VersionForm, ViewForm
from features.models import (
    ConsistencyCheck,
    Dataset,
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewVersion,
    Materialization,
    OnDemandTransform,
    ViewState,
)
from features.reviewed import review_of, said_of


def _owns(row: Any, user: User) -> bool:
    return user.groups.filter(pk=row.owner_id).exists()


def _owns_view(version: FeatureViewVersion, user: User) -> bool:
    return user.groups.filter(pk=version.view.owner_id).exists()


def _in_a_group(row: Any, user: User) -> bool:
    return user.groups.exists()


def _new_view(*, name: str, entity: Entity, owner: Group, actor: Actor, now: datetime, **meaning: Any) -> Answer:
    definition = ViewDefinition(name=name, entity=entity.name, owner=owner.name, **meaning)
    version = edit_view(definition, actor=actor, now=now)
    return Answer(f"{version} is a draft. Read what it means below, then publish it.", version)


def _new_version(subject: FeatureView | FeatureViewVersion, *, actor: Actor, now: datetime, **meaning: Any) -> Answer:
    """The view's version with this meaning: a new draft, or the one that there is."""
    view = subject if isinstance(subject, FeatureView) else subject.view
    newest = view.versions.aggregate(newest=Max("number"))["newest"] or 0
    definition = ViewDefinition(name=view.name, entity=view.entity.name, owner=view.owner.name, **meaning)
    version = edit_view(definition, actor=actor, now=now)
    if version.number <= newest:
        return Answer(f"No new version: {version} means exactly this.", version)
    return Answer(f"{version} is a draft. Read what it changes below, then publish it.", version)


def _review_lines(version: FeatureViewVersion) -> list[Lines]:
    """What the plan found when the version was applied."""
    review = review_of(version)
    if review is None:
        return [Lines("What the review found", [], note="It was applied without a review.")]
    rows = [("In short", review.headline)]
    rows += [
        (each.name, "\n".join([f"{each.differing} of {each.cells} cells differ", *each.examples]))
        for each in review.features
        if each.differing
    ]
    rows += [(label, ", ".join(names)) for label, names in (("New", review.added), ("Gone", review.removed)) if names]
    rows += [("Engines", review.engines)] if review.engines else []
    alike = [(each.feature, said_of(each)) for each in review.look_alikes]
    note = "Ask the owners before you publish: one of the two may be enough."
    return [Lines("What it changes in values", rows), *([Lines("Look-alikes", alike, note=note)] if alike else [])]


class EntityForm(ReasonForm):
    description = LongText(required=False)

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {"description": subject.description}


@admin.register(Entity)
class EntityDesk(Desk):
    list_display = ("name", "keys", "description")
    search_fields = ("name", "description")
    decisions = (
        Decision(
            name="describe",
            label="Change the description",
            consequence="Only the words change: every view of the entity joins by its keys, so they are fixed.",
            carry_out=actions.describe_entity,
            offered=lambda entity, user: actions.may_describe(entity, user),
            form=EntityForm,
            icon="edit",
        ),
    )

    @display(description="join keys")
    def keys(self, entity: Entity) -> str:
        return ", ".join(entity.join_keys)

    def links(self, subject: Entity, user: User) -> Iterable[Link]:
        return [Link("Feature views", list(subject.views.all()))]


class SourceForm(ReasonForm):
    description = LongText(required=False)
    hours = Number(required=False, min_value=0.01, label="Freshness promise in hours", help_text="Empty: none.")

    def present(self, subject: Any) -> Mapping[str, Any]:
        promise = subject.freshness
        return {"description": subject.description, "hours": promise.total_seconds() / 3600 if promise else None}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        hours = cleaned.pop("hours", None)
        return {**cleaned, "freshness": timedelta(hours=hours) if hours else None}


@admin.register(DataSource)
class DataSourceDesk(Desk):
    portal = "portal:data-source"
    list_display = ("name", "description", "promise", "owner")
    list_select_related = ("owner",)
    list_filter = ("owner",)
    search_fields = ("name", "description", "uri")
    decisions = (
        Decision(
            name="edit",
            label="Change description or promise",
            consequence="The source is judged by this promise from now on. Where it lies and how it tells time stay.",
            carry_out=actions.change_source,
            offered=_owns,
            form=SourceForm,
            icon="edit",
        ),
    )

    @display(description="promises to be fresh within")
    def promise(self, source: DataSource) -> str:
        return str(source.freshness) if source.freshness else "no promise"

    def portal_arguments(self, subject: DataSource) -> list[Any]:
        return [subject.name]

    def links(self, subject: DataSource, user: User) -> Iterable[Link]:
        return [Link("Read by", list(subject.view_versions.select_related("view")))]


@admin.register(FeatureView)
class FeatureViewDesk(Desk):
    portal = "portal:feature-view"
    list_display = ("name", "entity", "newest", "owner", "description")
    list_select_related = ("entity", "owner")
    list_filter = ("entity", "owner")
    search_fields = ("name", "description")
    decisions = (
        Decision(
            name="define",
            label="New view",
            consequence="A draft of its first version: nothing is served before somebody publishes it.",
            carry_out=_new_view,
            offered=_in_a_group,
            form=ViewForm,
            variant="primary",
            icon="add",
            for_list=True,
        ),
        Decision(
            name="revise",
            label="New version",
            consequence="What you write becomes a draft beside the present versions, which go on as before.",
            carry_out=_new_version,
            offered=_owns,
            form=VersionForm,
            variant="primary",
            icon="edit",
        ),
        Decision(
            name="promise",
            label="Change the promise",
            consequence="The view is judged by this from now on: a breach is an incident of the platform group.",
            carry_out=promise,
            offered=_owns,
            form=PromiseForm,
            icon="handshake",
        ),
    )

    def portal_arguments(self, subject: FeatureView) -> list[Any]:
        return [subject.name]

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("versions")

    @display(description="newest version")
    def newest(self, view: FeatureView) -> str:
        version = next(iter(view.versions.all()), None)
        return f"{version.number} ({version.state})" if version else "none"

    def links(self, subject: FeatureView, user: User) -> Iterable[Link]:
        return [Link("Entity", [subject.entity]), Link("Versions", list(subject.versions.select_related("view")))]


@admin.register(FeatureViewVersion)
class FeatureViewVersionDesk(Desk):
    portal = "portal:feature-view-version"
    list_display = ("__str__", "state_badge", "why", "names", "owner")
    list_select_related = ("view__owner",)
    list_filter = (StateFilter, ("view", admin.RelatedOnlyFieldListFilter))
    search_fields = ("view__name", "expression")
    decisions: ClassVar[tuple[Decision, ...]] = (
        Decision(
            name="publish",
            label="Publish",
            consequence="Services may pin this version from now on, and the online store keeps it up to date.",
            carry_out=actions.publish,
            offered=lambda version, user: version.may_become(ViewState.PUBLISHED) and _owns_view(version, user),
            variant="primary",
            icon="publish",
        ),
        Decision(
            name="deprecate",
            label="Deprecate",
            consequence="No new service pins this version any more; those that pin it are served as before.",
            carry_out=actions.deprecate,
            offered=lambda version, user: version.may_become(ViewState.DEPRECATED) and _owns_view(version, user),
            form=DeprecateForm,
            icon="hourglass_bottom",
        ),
        Decision(
            name="retire",
            label="Retire",
            consequence="The version ends for good. It is refused while a service pins it.",
            carry_out=actions.retire,
            offered=lambda version, user: version.may_become(ViewState.RETIRED) and _owns_view(version, user),
            variant="danger",
            icon="delete_forever",
        ),
        Decision(
            name="revise",
            label="New version from this",
            consequence="What you write becomes a draft beside the present versions, which go on as before.",
            carry_out=_new_version,
            offered=_owns_view,
            form=VersionForm,
            icon="edit",
        ),
    )

    def portal_arguments(self, subject: FeatureViewVersion) -> list[Any]:
        return [subject.view.name, subject.number]

    @display(description="features")
    def names(self, version: FeatureViewVersion) -> str:
        return ", ".join(version.feature_names)

    @display(description="owner")
    def owner(self, version: FeatureViewVersion) -> str:
        return version.view.owner.name

    def links(self, subject: FeatureViewVersion, user: User) -> Iterable[Link]:
        services = FeatureService.objects.filter(features__view_version=subject).distinct()
        return [
            Link("Feature view", [subject.view]),
            Link("Reads", list(subject.sources.all())),
            Link("Pinned by", list(services)),
            Link("Last materializations", list(subject.materializations.select_related("view_version__view")[:5])),
            Link("Consistency checks", list(subject.consistency_checks.select_related("view_version__view")[:5])),
        ]

    def lines(self, subject: FeatureViewVersion) -> Iterable[Lines]:
        return self._review(subject) if subject.state == ViewState.DRAFT else [self._meaning(subject)]

    def evidence(self, subject: FeatureViewVersion, decision: Decision) -> Iterable[Lines]:
        pinning = FeatureService.objects.filter(features__view_version=subject, retired_at=None).distinct()
        pinned = Lines("Pinned by", [(str(each), each.description) for each in pinning])
        if decision.name == "publish":
            return [*self._review(subject), pinned]
        return [self._meaning(subject), pinned]

    def _review(self, subject: FeatureViewVersion) -> list[Lines]:
        """What somebody reads before publishing: the meaning, what it changes, what it changes in values."""
        return [self._meaning(subject), *self._changes(subject), *_review_lines(subject)]

    def _meaning(self, subject: FeatureViewVersion) -> Lines:
        text = _definition(subject)
        expression = format_html('<pre class="gh-code">{}</pre>', text.expression)
        return Lines(
            "What it means", [*text.settings, ("features", "\n".join(text.features)), ("expression", expression)]
        )

    def _changes(self, subject: FeatureViewVersion) -> list[Lines]:
        before = subject.view.versions.filter(number__lt=subject.number).order_by("-number").first()
        if before is None:
            return []
        changed = reading.changes(_definition(before), _definition(subject))
        rows = format_html_join(
            "", '<span class="{}">{} {}\n</span>', ((each.tone, each.mark, each.text) for each in changed)
        )
        shown = format_html('<pre class="gh-diff">{}</pre>', rows) if changed else "The text reads the same."
        return [Lines("What changes", [(f"since @{before.number}", shown)])]


def _definition(version: FeatureViewVersion) -> reading.Definition:
    return reading.definition(version, [source.name for source in version.sources.all()])


@admin.register(FeatureService)
class FeatureServiceDesk(Desk):
    portal = "portal:feature-service"
    list_display = ("__str__", "size", "owner", "description", "created_at", "retired_at")
    list_select_related = ("owner",)
    list_filter = ("owner",)
    search_fields = ("name", "description")

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("features")

    def portal_arguments(self, subject: FeatureService) -> list[Any]:
        return [subject.name, subject.number]

    @display(description="features")
    def size(self, service: FeatureService) -> str:
        return f"{len(service.features.all())} stored, {len(service.request_features)} with the request"

    def lines(self, subject: FeatureService) -> Iterable[Lines]:
        rows = [(each.column, str(each.view_version)) for each in subject.pinned()]
        request = [(name, "comes with the request") for name in subject.request_features]
        computed = [(name, str(each)) for each in subject.transforms.all() for name in each.columns]
        return [Lines("The vector, in order", [*request, *rows, *computed])]

    def links(self, subject: FeatureService, user: User) -> Iterable[Link]:
        versions = FeatureViewVersion.objects.filter(used_in__service=subject).select_related("view").distinct()
        return [
            Link("Pins", list(versions)),
            Link("Transforms", list(subject.transforms.all())),
            Link("Datasets", list(subject.datasets.select_related("service")[:10])),
        ]


@admin.register(OnDemandTransform)
class OnDemandTransformDesk(Desk):
    list_display = ("__str__", "names", "owner", "description", "created_at")
    list_select_related = ("owner",)
    list_filter = ("owner",)
    search_fields = ("name", "description", "code")

    @display(description="features")
    def names(self, transform: OnDemandTransform) -> str:
        return ", ".join(each["name"] for each in transform.features)

    def lines(self, subject: OnDemandTransform) -> Iterable[Lines]:
        return [Lines("The function", [("code", format_html('<pre class="gh-code">{}</pre>', subject.code))])]

    def links(self, subject: OnDemandTransform, user: User) -> Iterable[Link]:
        return [Link("Used in", list(subject.used_in.all()))]


@admin.register(Materialization)
class MaterializationDesk(Desk):
    list_display = ("view_version", "up_to", "rows", "newest", "finished_at")
    list_select_related = ("view_version__view",)
    list_filter = (("view_version__view", admin.RelatedOnlyFieldListFilter),)
    show_full_result_count = False

    def links(self, subject: Materialization, user: User) -> Iterable[Link]:
        return [Link("Of", [subject.view_version])]


@admin.register(Dataset)
class DatasetDesk(Desk):
    list_display = ("__str__", "purpose", "rows", "time_from", "time_to", "short_digest", "created_at")
    list_select_related = ("service",)
    list_filter = ("purpose",)
    search_fields = ("digest", "service__name")

    @display(description="digest")
    def short_digest(self, dataset: Dataset) -> SafeString:
        return mono(dataset.digest[:16])

    def links(self, subject: Dataset, user: User) -> Iterable[Link]:
        return [Link("Joined by", [subject.service])]


@admin.register(ConsistencyCheck)
class ConsistencyCheckDesk(Desk):
    list_display = ("view_version", "at", "cells", "differing")
    list_select_related = ("view_version__view",)

    def links(self, subject: ConsistencyCheck, user: User) -> Iterable[Link]:
        return [Link("Of", [subject.view_version])]
