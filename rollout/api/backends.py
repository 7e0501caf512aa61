"""Who splits an endpoint's traffic, over HTTP: what is wanted, whether it is so, manifests for who applies them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import ValidationError
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import ApiView, Body, MappingField, PlainJSONField
from audit.scopes import DECIDE
from engines.traffic.document import KServeTraffic
from engines.traffic.kserve import UNVERIFIED
from engines.traffic.port import TrafficError
from registry.rest import visible_rows
from rollout import actions, traffic
from rollout.models import Endpoint

KINDS = ("kserve",)


class TrafficPlanAnswer(serializers.Serializer[Any]):
    fence = serializers.IntegerField(help_text="The route's revision that it was made for.")
    difference = serializers.ListField(child=serializers.CharField())
    warnings = serializers.ListField(child=serializers.CharField(), help_text="What can not be judged, and why.")
    planned_at = serializers.DateTimeField()
    applied_at = serializers.DateTimeField(allow_null=True)
    problem = serializers.CharField(help_text="Why it is not in force; empty: it is.")


class TrafficAnswer(serializers.Serializer[Any]):
    """Who splits the endpoint's traffic, and whether it does what the route says."""

    endpoint = serializers.CharField()
    backend = serializers.CharField(help_text="gateway, nginx or kserve.")
    document = PlainJSONField(help_text="What the endpoint says of its traffic; empty: our own gateway.")
    fence = serializers.IntegerField(help_text="The route's revision.")
    weights = serializers.DictField(child=serializers.FloatField(), help_text="Share of entities by version.")
    follows = serializers.BooleanField(allow_null=True, help_text="null: nothing is known of it.")
    unjudged = serializers.DictField(child=serializers.CharField(), help_text="What looks can not judge, and why.")
    plan = TrafficPlanAnswer(allow_null=True)


class TrafficBody(Body):
    traffic = MappingField(help_text="backend (gateway, nginx or kserve) and its values; {} is our own gateway.")
    reason = serializers.CharField(max_length=2000)


class ManifestAnswer(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    kind = serializers.ChoiceField(choices=KINDS)
    manifest = serializers.CharField(allow_null=True, help_text="YAML; null where there can be none.")
    problem = serializers.CharField(help_text="Why there is none.")
    caution = serializers.CharField(help_text="What is to be known before it is applied.")


class _OfEndpoint(ApiView):
    """An endpoint of a model that the caller may see."""

    scope = DECIDE

    def endpoint(self, name: str) -> Endpoint:
        mine = visible_rows(Endpoint.objects.select_related("registered_model"), self)
        found: Endpoint | None = mine.filter(name=name).first()
        if found is None:
            raise NotFound(f"There is no endpoint {name!r}, or it is not yours to see.")
        return found


class EndpointTraffic(_OfEndpoint):
    """Who splits an endpoint's traffic."""

    @extend_schema(operation_id="endpoints_traffic", responses=TrafficAnswer)
    def get(self, request: Request, name: str) -> Response:
        """What should be routed, whether it is, and what this backend can not tell us."""
        return Response(_answer(self.endpoint(name)))

    @extend_schema(operation_id="endpoints_set_traffic", request=TrafficBody, responses=TrafficAnswer)
    def post(self, request: Request, name: str) -> Response:
        """Let another backend split the traffic (duty: platform). Not while a rollout is active."""
        endpoint, body = self.endpoint(name), self.read(TrafficBody)
        actions.set_traffic(endpoint, traffic=body["traffic"], reason=body["reason"], actor=self.user, now=clock.now())
        return Response(_answer(self.endpoint(name)))


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    found = traffic.standing(endpoint)
    plan = found.plan
    return {
        "endpoint": endpoint.name,
        "backend": found.backend,
        "document": endpoint.traffic,
        "fence": found.fence,
        "weights": found.want.weights,
        "follows": found.follows,
        "unjudged": dict(found.caps.unjudged),
        "plan": None
        if plan is None
        else {
            "fence": plan.fence,
            "difference": found.difference,
            "warnings": found.warnings,
            "planned_at": plan.planned_at,
            "applied_at": plan.applied_at,
            "problem": plan.problem,
        },
    }


class EndpointManifests(_OfEndpoint):
    """What somebody else applies to a cluster."""

    query = ("kind", "storage_uri", "namespace", "model_format")

    @extend_schema(
        operation_id="endpoints_manifests",
        parameters=[
            OpenApiParameter("kind", str, enum=KINDS),
            OpenApiParameter(
                "storage_uri", str, description="Where versions lie, such as s3://models/{model}/{number}."
            ),
            OpenApiParameter("namespace", str),
            OpenApiParameter("model_format", str),
        ],
        responses=ManifestAnswer,
    )
    def get(self, request: Request, name: str) -> Response:
        """The endpoint's InferenceService as its route is now; unverified on a cluster."""
        endpoint, asked = self.endpoint(name), request.query_params.dict()
        if asked.get("kind", KINDS[0]) not in KINDS:
            raise exceptions.ValidationError({"kind": [f"One of {', '.join(KINDS)} is needed."]})
        answer = {"endpoint": name, "kind": KINDS[0], "manifest": None, "problem": "", "caution": UNVERIFIED}
        document = _kserve_document(endpoint, asked)
        if document is None:
            said = "Say where versions lie: storage_uri, such as s3://models/{model}/{number}."
            return Response({**answer, "problem": said})
        try:
            return Response({**answer, "manifest": traffic.kserve_manifest(endpoint, document)})
        except TrafficError as refusal:
            return Response({**answer, "problem": str(refusal)})


def _kserve_document(endpoint: Endpoint, asked: dict[str, str]) -> KServeTraffic | None:
    """The endpoint's own, with what the caller says instead; None when nobody said where versions lie."""
    known = endpoint.traffic if endpoint.traffic.get("backend") == "kserve" else {"backend": "kserve"}
    said = {field: asked[field] for field in ("storage_uri", "namespace", "model_format") if field in asked}
    if "storage_uri" not in {**known, **said}:
        return None
    try:
        return KServeTraffic.model_validate({**known, **said})
    except ValidationError as problem:
        wrong = {str(each["loc"][0]): [each["msg"]] for each in problem.errors()}
        raise exceptions.ValidationError(wrong) from problem
