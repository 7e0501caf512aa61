"""The feature store in the admin: what is known, how fresh it must be, what a version means, who may publish it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.safestring import SafeString

from audit.desk import Decision, Desk, Lines, Link, LongText, Number, ReasonForm, StateFilter, display, mono
from features import actions
from features.models import (
    ConsistencyCheck,
    Dataset,
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewVersion,
    Materialization,
    ViewState,
)


def _owns(row: Any, user: User) -> bool:
    return user.groups.filter(pk=row.owner_id).exists()


def _owns_view(version: FeatureViewVersion, user: User) -> bool:
    return user.groups.filter(pk=version.view.owner_id).exists()


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

    def links(self, subject: DataSource, user: User) -> Iterable[Link]:
        return [Link("Read by", list(subject.view_versions.select_related("view")))]


@admin.register(FeatureView)
class FeatureViewDesk(Desk):
    list_display = ("name", "entity", "newest", "owner", "description")
    list_select_related = ("entity", "owner")
    list_filter = ("entity", "owner")
    search_fields = ("name", "description")

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
    list_display = ("__str__", "state_badge", "why", "names", "owner")
    list_select_related = ("view__owner",)
    list_filter = (StateFilter, ("view", admin.RelatedOnlyFieldListFilter))
    search_fields = ("view__name", "expression")
    decisions = (
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
    )

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

    def evidence(self, subject: FeatureViewVersion, decision: Decision) -> Iterable[Lines]:
        facts = (
            ("Features", ", ".join(subject.feature_names)),
            ("Sources", ", ".join(source.name for source in subject.sources.all())),
            ("Lives", str(subject.ttl or "for ever")),
            ("Materialized every", str(subject.cadence or "—")),
            ("Expression", subject.expression),
        )
        pinning = FeatureService.objects.filter(features__view_version=subject).distinct()
        return [Lines("What it means", facts), Lines("Pinned by", [(str(each), each.description) for each in pinning])]


@admin.register(FeatureService)
class FeatureServiceDesk(Desk):
    list_display = ("__str__", "size", "owner", "description", "created_at")
    list_select_related = ("owner",)
    list_filter = ("owner",)
    search_fields = ("name", "description")

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("features")

    @display(description="features")
    def size(self, service: FeatureService) -> str:
        return f"{len(service.features.all())} stored, {len(service.request_features)} with the request"

    def lines(self, subject: FeatureService) -> Iterable[Lines]:
        rows = [(each.column, str(each.view_version)) for each in subject.pinned()]
        request = [(name, "comes with the request") for name in subject.request_features]
        return [Lines("The vector, in order", [*request, *rows])]

    def links(self, subject: FeatureService, user: User) -> Iterable[Link]:
        versions = FeatureViewVersion.objects.filter(used_in__service=subject).select_related("view").distinct()
        return [Link("Pins", list(versions)), Link("Datasets", list(subject.datasets.select_related("service")[:10]))]


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
