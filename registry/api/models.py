"""Registered models over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import Body, Listing, Reason, etag_of
from audit.scopes import DECIDE
from registry import actions
from registry.models import (
    Alias,
    Duty,
    RegisteredModel,
    Task,
    Tier,
    TrainingPipeline,
)
from registry.rest import OfModel


class Owners(serializers.Serializer[RegisteredModel]):
    """The groups with the three duties."""

    data_science = serializers.CharField()
    platform = serializers.CharField()
    product = serializers.CharField()


class ModelRow(serializers.ModelSerializer[RegisteredModel]):
    owners = Owners(source="*", read_only=True)
    champion = serializers.SerializerMethodField(help_text="Number of the version that serves; null: none yet.")

    class Meta:
        model = RegisteredModel
        fields: tuple[str, ...] = ("name", "title", "task", "tier", "owners", "champion", "automation", "created_at")
        read_only_fields = fields

    def get_champion(self, row: RegisteredModel) -> int | None:
        return next((alias.version.number for alias in row.aliases.all() if alias.name == Alias.CHAMPION), None)


class PipelineRow(serializers.ModelSerializer[TrainingPipeline]):
    service = serializers.CharField(read_only=True, help_text="Feature service, name@number.")

    class Meta:
        model = TrainingPipeline
        fields: tuple[str, ...] = (
            "name",
            "entry_point",
            "service",
            "label",
            "parameters",
            "windows",
            "holdout_days",
            "automatic",
        )
        read_only_fields = fields


class ModelDetail(ModelRow):
    pipelines = PipelineRow(many=True, read_only=True)

    class Meta(ModelRow.Meta):
        fields = (*ModelRow.Meta.fields, "description", "pipelines")
        read_only_fields = fields


class OwnersBody(Body):
    """The groups with the three duties; one that is not named stays."""

    data_science = serializers.CharField(required=False)
    platform = serializers.CharField(required=False)
    product = serializers.CharField(required=False)


class ModelChange(Reason):
    """What is not named stays as it is."""

    title = serializers.CharField(required=False, max_length=200)
    description = serializers.CharField(required=False, allow_blank=True, max_length=20_000)
    tier = serializers.ChoiceField(required=False, choices=Tier.choices)
    owners = OwnersBody(required=False)


class ModelFilter(filters.FilterSet):
    tier = filters.ChoiceFilter(choices=Tier.choices)
    task = filters.ChoiceFilter(choices=Task.choices)


def _with_champions(rows: QuerySet[Any]) -> QuerySet[Any]:
    champions = Prefetch("aliases", Alias.objects.filter(name=Alias.CHAMPION).select_related("version"))
    return rows.select_related("data_science", "platform", "product").prefetch_related(champions)


class Models(Listing):
    """The models that the caller's groups own (auditors and administrators: all), by name."""

    queryset = RegisteredModel.objects.all()
    serializer_class = ModelRow
    filterset_class = ModelFilter
    ordering = "name"

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return _with_champions(rows.filter(pk__in=RegisteredModel.objects.visible_to(self.user).values("pk")))


class Model(OfModel):
    """One model: tier, owners, champion, and how it is trained."""

    scope = DECIDE

    @extend_schema(operation_id="models_retrieve", responses=ModelDetail)
    def get(self, request: Request, name: str) -> Response:
        return Response(self._detail())

    @extend_schema(operation_id="models_change", request=ModelChange, responses=ModelDetail)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is said of a model, its tier or its owners, as it was when you read it (If-Match).

        Words: any owner. A duty is handed on by the group that has it, the tier by the product owner.
        """
        body = self.read(ModelChange)
        owners = _groups(body.pop("owners", {}))
        with transaction.atomic():
            # first to the row's lock, first to change: the other finds another ETag
            model = RegisteredModel.objects.select_for_update(no_key=True, of=("self",)).get(
                pk=self.registered_model.pk
            )
            self.require_match(self._detail())
            present = {each: getattr(model, each) for each in ("title", "description", "tier", *Duty.values)}
            actions.change_model(model, **{**present, **owners, **body}, actor=self.user, now=clock.now())
        changed = self._detail()
        return Response(changed, headers={"ETag": etag_of(changed)})

    def _detail(self) -> Any:
        rows = _with_champions(RegisteredModel.objects.filter(pk=self.registered_model.pk))
        return ModelDetail(rows.prefetch_related("pipelines__service").get()).data


def _groups(named: Mapping[str, str]) -> dict[str, Group]:
    found = {group.name: group for group in Group.objects.filter(name__in=named.values())}
    if wrong := {f"owners.{duty}": f"There is no group {name!r}." for duty, name in named.items() if name not in found}:
        raise InvalidInput(wrong)
    return {duty: found[name] for duty, name in named.items()}
