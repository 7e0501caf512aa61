"""What the feature store's API says of models: who takes which features is known above the feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import NotFound
from audit.rest import ApiView, Reason
from audit.scopes import FEATURES
from features import api
from features.models import FeatureService
from mlops import usage
from registry.sight import visible_services
from rollout.actions import retire_feature_service


class PlanDefinitions(api.PlanDefinitions):
    __doc__ = api.PlanDefinitions.__doc__

    def uses(self) -> Mapping[int, Sequence[Any]]:
        return usage.uses_now(self.user)


class ApplyDefinitions(api.ApplyDefinitions):
    __doc__ = api.ApplyDefinitions.__doc__

    def uses(self) -> Mapping[int, Sequence[Any]]:
        return usage.uses_now(self.user)


class ServiceRow(serializers.Serializer[FeatureService]):
    service = serializers.CharField(source="*", help_text="name@number")
    owner = serializers.CharField()
    vector = serializers.ListField(child=serializers.CharField(), help_text="Columns that a model gets, in order.")
    retired_at = serializers.DateTimeField(allow_null=True)


class RetireService(ApiView):
    """The end of a feature service."""

    scope = FEATURES

    @extend_schema(operation_id="features_services_retire", request=Reason, responses={200: ServiceRow})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Retire it; 409 while a champion, an open training run or an open rollout takes it. For its owners."""
        service = visible_services(self.user).filter(name=name, number=number).select_related("owner").first()
        if service is None:
            raise NotFound(f"There is no feature service {name}@{number}, or it is not yours to see.")
        reason = self.read(Reason)["reason"]
        retire_feature_service(service, actor=self.user, reason=reason, now=clock.now())
        return Response(ServiceRow(service).data)
