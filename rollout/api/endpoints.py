"""Endpoints over HTTP: who serves them, and what their product owners decide: models, kill switch, pauses, freezes."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.rest import ApiView, Body, Listing, Reason
from audit.scopes import DECIDE
from registry.models import ModelVersion, RegisteredModel
from registry.rest import visible_rows
from rollout import actions, standstill
from rollout.models import (
    ACTIVE,
    Decision,
    DecisionKind,
    DecisionOutcome,
    Endpoint,
    Fallback,
    FreezeWindow,
    Outcome,
    Rollout,
    RolloutState,
)

RECENT = 10
"""Decisions that an endpoint shows; all are below ``decisions/``."""
ENDPOINTS: QuerySet[Endpoint] = Endpoint.objects.select_related(
    "registered_model__product", "route__champion", "route__candidate", "route__fallback"
)
DECISIONS: QuerySet[Decision] = Decision.objects.select_related(
    "endpoint__registered_model", "registered_model", "decided_by", "fallback", "outcome__decided_by"
)
FALLBACKS: QuerySet[Fallback] = Fallback.objects.select_related(
    "endpoint__registered_model", "version__registered_model"
)
FREEZES: QuerySet[FreezeWindow] = FreezeWindow.objects.select_related("endpoint__registered_model", "decided_by")

# ---------------------------------------------------------------------- what is answered


class OutcomeOfDecision(serializers.ModelSerializer[DecisionOutcome]):
    """What became of a decision that was made for later."""

    outcome = serializers.ChoiceField(choices=Outcome.choices, read_only=True)
    decided_by = serializers.CharField(read_only=True, allow_null=True, help_text="Who withdrew it.")

    class Meta:
        model = DecisionOutcome
        fields: tuple[str, ...] = ("outcome", "note", "decided_by", "at")
        read_only_fields = fields


class EndpointDecisionRow(serializers.ModelSerializer[Decision]):
    endpoint = serializers.CharField(read_only=True)
    kind = serializers.ChoiceField(choices=DecisionKind.choices, read_only=True)
    model = serializers.CharField(source="registered_model", read_only=True)
    fallback = serializers.CharField(source="fallback.name", read_only=True, allow_null=True, default=None)
    decided_by = serializers.CharField(read_only=True)
    is_waiting = serializers.BooleanField(read_only=True, help_text="It was made for later, and is still to come.")
    outcome = OutcomeOfDecision(read_only=True, allow_null=True, default=None)

    class Meta:
        model = Decision
        fields: tuple[str, ...] = (
            "id", "endpoint", "kind", "model", "fallback", "note", "decided_by", "decided_at", "takes_effect_at",
            "is_waiting", "outcome",
        )  # fmt: skip
        read_only_fields = fields


class FallbackRow(serializers.ModelSerializer[Fallback]):
    endpoint = serializers.CharField(read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True, allow_null=True, default=None)

    class Meta:
        model = Fallback
        fields: tuple[str, ...] = ("endpoint", "name", "score", "version", "note", "created_at", "retired_at")
        read_only_fields = fields


class FreezeRow(serializers.ModelSerializer[FreezeWindow]):
    endpoint = serializers.CharField(read_only=True)
    decided_by = serializers.CharField(read_only=True)

    class Meta:
        model = FreezeWindow
        fields: tuple[str, ...] = (
            "id", "endpoint", "starts_at", "ends_at", "note", "decided_by", "decided_at", "lifted_at",
        )  # fmt: skip
        read_only_fields = fields


class EndpointRow(serializers.ModelSerializer[Endpoint]):
    """A decision point and who serves it now."""

    model = serializers.CharField(source="registered_model", read_only=True)
    champion = serializers.IntegerField(
        source="route.champion.number", read_only=True, allow_null=True, default=None, help_text="Version that serves."
    )
    candidate = serializers.IntegerField(source="route.candidate.number", read_only=True, allow_null=True, default=None)
    stage = serializers.CharField(source="route.stage", read_only=True, help_text="shadow, canary or empty.")
    share = serializers.FloatField(source="route.share", read_only=True, help_text="The candidate's, of the entities.")
    revision = serializers.IntegerField(source="route.revision", read_only=True)
    enabled = serializers.BooleanField(read_only=True, help_text="false: the kill switch was pulled.")
    fallback = serializers.CharField(
        source="route.fallback.name",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Named fallback that answers while it is pulled; null: the fixed score.",
    )
    fallback_score = serializers.FloatField(source="fallback", read_only=True, allow_null=True)

    class Meta:
        model = Endpoint
        fields: tuple[str, ...] = (
            "name", "title", "model", "enabled", "rollouts_paused", "champion", "candidate", "stage", "share",
            "revision", "fallback", "fallback_score", "threshold", "entity_column",
        )  # fmt: skip
        read_only_fields = fields


class Waiting(serializers.ModelSerializer[Rollout]):
    """A rollout that is under way or has yet to begin."""

    version = serializers.IntegerField(source="version.number", read_only=True)
    state = serializers.ChoiceField(choices=RolloutState.choices, read_only=True)

    class Meta:
        model = Rollout
        fields: tuple[str, ...] = ("id", "version", "state", "state_reason", "step", "created_at")
        read_only_fields = fields


class EndpointDetail(EndpointRow):
    waits_for = serializers.SerializerMethodField(help_text="What candidates have to wait for; empty: for nothing.")
    queue = serializers.SerializerMethodField(
        help_text="The candidate under way, then those that wait, in their order."
    )
    decisions = serializers.SerializerMethodField(help_text="Those that wait, and the newest.")
    fallbacks = serializers.SerializerMethodField(help_text="What a kill switch may name.")
    freezes = serializers.SerializerMethodField(help_text="Decided freezes that have not ended; weekly ones: plan.")
    plan = serializers.SerializerMethodField(help_text="The rollout plan in force.")

    class Meta(EndpointRow.Meta):
        fields = (
            *EndpointRow.Meta.fields, "description", "durable", "waits_for", "queue", "decisions", "fallbacks",
            "freezes", "plan",
        )  # fmt: skip
        read_only_fields = fields

    def get_waits_for(self, endpoint: Endpoint) -> str:
        return standstill.waits_for(endpoint, now=clock.now())

    @extend_schema_field(Waiting(many=True))
    def get_queue(self, endpoint: Endpoint) -> list[Any]:
        rows = endpoint.rollouts.filter(state__in=[*ACTIVE, RolloutState.PENDING]).select_related("version")
        ordered = sorted(rows, key=lambda rollout: (rollout.state == RolloutState.PENDING, rollout.pk))
        return list(Waiting(ordered, many=True).data)

    @extend_schema_field(EndpointDecisionRow(many=True))
    def get_decisions(self, endpoint: Endpoint) -> list[Any]:
        mine = DECISIONS.filter(endpoint=endpoint)
        waiting = mine.filter(takes_effect_at__isnull=False, outcome=None).order_by("takes_effect_at", "pk")
        known = [each.pk for each in waiting]
        return list(
            EndpointDecisionRow([*waiting, *mine.exclude(pk__in=known).order_by("-pk")[:RECENT]], many=True).data
        )

    @extend_schema_field(FallbackRow(many=True))
    def get_fallbacks(self, endpoint: Endpoint) -> list[Any]:
        return list(FallbackRow(FALLBACKS.filter(endpoint=endpoint, retired_at=None), many=True).data)

    @extend_schema_field(FreezeRow(many=True))
    def get_freezes(self, endpoint: Endpoint) -> list[Any]:
        there = FREEZES.filter(endpoint=endpoint, ends_at__gt=clock.now(), lifted_at=None)
        return list(FreezeRow(there, many=True).data)

    @extend_schema_field(serializers.DictField())
    def get_plan(self, endpoint: Endpoint) -> dict[str, Any]:
        return standstill.plan_of(endpoint).model_dump(mode="json")


# ---------------------------------------------------------------------- what is asked


class EndpointDecisionBody(Body):
    kind = serializers.ChoiceField(choices=DecisionKind.choices)
    note = serializers.CharField(max_length=2000, help_text="Why: this is the record of the decision.")
    model = serializers.CharField(
        max_length=60, required=False, help_text="Which model serves; only serve names another than the endpoint's."
    )
    fallback = serializers.CharField(max_length=60, required=False, help_text="Of stop: what answers everybody.")
    takes_effect_at = serializers.DateTimeField(required=False, help_text="Later; without it, at once.")


class FallbackBody(Body):
    name = serializers.CharField(max_length=60)
    score = serializers.FloatField(required=False)
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="Its number.")
    note = serializers.CharField(max_length=2000)


class FreezeBody(Body):
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    note = serializers.CharField(max_length=2000)


# ---------------------------------------------------------------------- endpoints


class EndpointFilter(filters.FilterSet):
    model = filters.CharFilter(field_name="registered_model__name")
    enabled = filters.BooleanFilter()


class Endpoints(Listing):
    """Decision points of the models that the caller may see, and who serves them."""

    queryset = ENDPOINTS
    serializer_class = EndpointRow
    filterset_class = EndpointFilter

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return visible_rows(rows, self)


class OfEndpoint(ApiView):
    """Below an endpoint of a model that the caller may see."""

    scope = DECIDE

    def endpoint(self) -> Endpoint:
        name = self.kwargs["name"]
        found: Endpoint | None = visible_rows(ENDPOINTS, self).filter(name=name).first()
        if found is None:
            raise NotFound(f"There is no endpoint {name!r}, or it is not yours to see.")
        return found


class OneEndpoint(OfEndpoint):
    """Who serves a decision point, what waits there, and what was decided."""

    @extend_schema(operation_id="endpoints_retrieve", responses=EndpointDetail)
    def get(self, request: Request, name: str) -> Response:
        return Response(EndpointDetail(self.endpoint()).data)


class ListingOfEndpoint(OfEndpoint, Listing):
    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(endpoint=self.endpoint())


# ---------------------------------------------------------------------- decisions


class DecisionFilter(filters.FilterSet):
    kind = filters.ChoiceFilter(choices=DecisionKind.choices)
    waiting = filters.BooleanFilter(method="by_waiting", help_text="Made for later, and still to come.")

    def by_waiting(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        waiting = {"takes_effect_at__isnull": False, "outcome": None}
        return rows.filter(**waiting) if value else rows.exclude(**waiting)


class Decisions(ListingOfEndpoint):
    """What was decided about an endpoint, newest first."""

    queryset = DECISIONS
    serializer_class = EndpointDecisionRow
    filterset_class = DecisionFilter

    @extend_schema(
        operation_id="endpoint_decisions_create", request=EndpointDecisionBody, responses={201: EndpointDecisionRow}
    )
    def post(self, request: Request, name: str) -> Response:
        """Decide: serve, stop (the kill switch), resume, pause or continue; at once or later. A product owner does."""
        endpoint, body = self.endpoint(), self.read(EndpointDecisionBody)
        decision = actions.decide(
            endpoint,
            kind=body["kind"],
            registered_model=self._model(endpoint, body.get("model")),
            note=body["note"],
            takes_effect_at=body.get("takes_effect_at"),
            fallback=_fallback(endpoint, body["fallback"]) if "fallback" in body else None,
            actor=self.user,
            now=clock.now(),
        )
        return Response(EndpointDecisionRow(DECISIONS.get(pk=decision.pk)).data, status=status.HTTP_201_CREATED)

    def _model(self, endpoint: Endpoint, name: str | None) -> RegisteredModel:
        if name is None:
            return endpoint.registered_model
        found: RegisteredModel | None = RegisteredModel.objects.visible_to(self.user).filter(name=name).first()
        if found is None:
            raise InvalidInput({"model": f"There is no model {name!r}, or it is not yours to see."})
        return found


class WithdrawDecision(OfEndpoint):
    """Take a decision back before it takes effect."""

    @extend_schema(operation_id="endpoint_decisions_withdraw", request=Reason, responses=EndpointDecisionRow)
    def post(self, request: Request, name: str, decision: int) -> Response:
        """Withdraw what was decided for later."""
        found = _one(DECISIONS, f"{name} has no decision {decision}.", endpoint=self.endpoint(), pk=decision)
        actions.withdraw(found, reason=self.read(Reason)["reason"], actor=self.user, now=clock.now())
        return Response(EndpointDecisionRow(DECISIONS.get(pk=decision)).data)


# ---------------------------------------------------------------------- fallbacks


class FallbackFilter(filters.FilterSet):
    retired = filters.BooleanFilter(field_name="retired_at", lookup_expr="isnull", exclude=True)


class Fallbacks(ListingOfEndpoint):
    """What may answer everybody while the kill switch is pulled, newest first; retired ones among them."""

    queryset = FALLBACKS
    serializer_class = FallbackRow
    filterset_class = FallbackFilter

    @extend_schema(operation_id="endpoint_fallbacks_create", request=FallbackBody, responses={201: FallbackRow})
    def post(self, request: Request, name: str) -> Response:
        """Name a fixed score, or an earlier champion, as a fallback. A product owner does."""
        endpoint, body = self.endpoint(), self.read(FallbackBody)
        number = body.pop("version", None)
        version = None if number is None else _version(endpoint, number)
        fallback = actions.add_fallback(endpoint, **body, version=version, actor=self.user, now=clock.now())
        return Response(FallbackRow(fallback).data, status=status.HTTP_201_CREATED)


class RetireFallback(OfEndpoint):
    """No kill switch can name it any more."""

    @extend_schema(operation_id="endpoint_fallbacks_retire", request=Reason, responses=FallbackRow)
    def post(self, request: Request, name: str, fallback: str) -> Response:
        """Retire a fallback that does not answer now."""
        missing = f"{name} has no fallback {fallback!r}."
        found = _one(FALLBACKS, missing, endpoint=self.endpoint(), name=fallback, retired_at=None)
        actions.retire_fallback(found, reason=self.read(Reason)["reason"], actor=self.user, now=clock.now())
        return Response(FallbackRow(found).data)


# ---------------------------------------------------------------------- freezes


class FreezeFilter(filters.FilterSet):
    open = filters.BooleanFilter(method="by_open", help_text="Not ended or lifted yet.")

    def by_open(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        there = {"ends_at__gt": clock.now(), "lifted_at": None}
        return rows.filter(**there) if value else rows.exclude(**there)


class Freezes(ListingOfEndpoint):
    """Decided freezes of an endpoint, newest first; the weekly ones are in its plan."""

    queryset = FREEZES
    serializer_class = FreezeRow
    filterset_class = FreezeFilter

    @extend_schema(operation_id="endpoint_freezes_create", request=FreezeBody, responses={201: FreezeRow})
    def post(self, request: Request, name: str) -> Response:
        """Let no candidate start, get more traffic or be promoted for a time. A product owner does."""
        body = self.read(FreezeBody)
        window = actions.freeze(self.endpoint(), **body, actor=self.user, now=clock.now())
        return Response(FreezeRow(window).data, status=status.HTTP_201_CREATED)


class LiftFreeze(OfEndpoint):
    """End a freeze early, or call it off."""

    @extend_schema(operation_id="endpoint_freezes_lift", request=Reason, responses=FreezeRow)
    def post(self, request: Request, name: str, freeze: int) -> Response:
        """Lift a freeze that has not ended."""
        found = _one(FREEZES, f"{name} has no freeze {freeze}.", endpoint=self.endpoint(), pk=freeze)
        actions.unfreeze(found, reason=self.read(Reason)["reason"], actor=self.user, now=clock.now())
        return Response(FreezeRow(found).data)


def _one(rows: QuerySet[Any], missing: str, **which: Any) -> Any:
    found = rows.filter(**which).first()
    if found is None:
        raise NotFound(missing)
    return found


def _fallback(endpoint: Endpoint, name: str) -> Fallback:
    found = FALLBACKS.filter(endpoint=endpoint, name=name).order_by(F("retired_at").desc(nulls_first=True)).first()
    if found is None:
        raise InvalidInput({"fallback": f"{endpoint} has no fallback {name!r}."})
    return found


def _version(endpoint: Endpoint, number: int) -> ModelVersion:
    versions = ModelVersion.objects.select_related("registered_model", "service")
    found = versions.filter(registered_model=endpoint.registered_model, number=number).first()
    if found is None:
        raise InvalidInput({"version": f"There is no version {number} of {endpoint.registered_model}."})
    return found
