"""The REST API: its addresses, the event log, the OpenAPI schema and its pages. What each address does is in the apps.

Conventions (docs/api.md): names and numbers in addresses; strict queries and bodies; cursor pages; every refusal a
problem document; what the caller may not see is not there (404), what is not their duty is refused by the verb (403).
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path, re_path
from django.views.decorators.http import require_safe
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from audit import api as log
from audit.errors import NotFound
from audit.models import Event
from audit.rest import ApiView, Listing
from features import api as feature_store
from features.views import push
from gates.api import evidence as evidence_api
from gates.api import policies
from gates.api import runs as gate_runs
from mlops import dossier_api, features_api, lineage_api, openlineage_api, replay_api
from mlops import schema as schema  # registers what drf-spectacular can not see
from mlops.problems import not_found
from mlops.sight import visible_events
from monitoring import api as monitoring
from registry.api import keeping, models, training, versions
from registry.api.online import OnlineAnswer, OnlineBody
from registry.views import online_features
from rollout import api as rollout

# ---------------------------------------------------------------------- events

EVENTS: QuerySet[Event] = Event.objects.select_related("actor")


class EventRow(serializers.ModelSerializer[Event]):
    """One thing that happened; ``cause`` is the id of the event that it followed from."""

    model = serializers.CharField(source="registered_model", read_only=True, help_text="Empty: it concerns no model.")
    actor = serializers.CharField(read_only=True, allow_null=True, help_text="The person; null: Gatehouse itself.")
    cause = serializers.IntegerField(source="cause_id", read_only=True, allow_null=True)

    class Meta:
        model = Event
        fields: tuple[str, ...] = (
            "id", "name", "subject_type", "subject_id", "subject_label", "model", "actor", "service", "reason", "data",
            "cause", "at", "recorded_at",
        )  # fmt: skip
        read_only_fields = fields


class EventDetail(EventRow):
    effects = serializers.SerializerMethodField(help_text="Ids of the events that followed from it.")

    class Meta(EventRow.Meta):
        fields = (*EventRow.Meta.fields, "effects")
        read_only_fields = fields

    def get_effects(self, event: Event) -> list[int]:
        visible: QuerySet[Event] = visible_events(self.context["user"], event.effects.all())
        return list(visible.order_by("id").values_list("pk", flat=True))


class EventFilter(filters.FilterSet):
    model = filters.CharFilter(field_name="registered_model")
    name = filters.CharFilter(help_text="Such as rollout.promoted.")
    since = filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte", help_text="Event time.")
    until = filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt", help_text="Event time.")


class Events(Listing):
    """What happened, newest first, as far as the caller may see it."""

    queryset = EVENTS
    serializer_class = EventRow
    filterset_class = EventFilter

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return visible_events(self.user, rows)


class OneEvent(ApiView):
    """One event with what it followed from and what followed from it."""

    @extend_schema(operation_id="events_retrieve", responses=EventDetail)
    def get(self, request: Request, pk: int) -> Response:
        event = visible_events(self.user, EVENTS).filter(pk=pk).first()
        if event is None:
            raise NotFound(f"There is no event {pk}, or it is not yours to see.")
        return Response(EventDetail(event, context={"user": self.user}).data)


# ---------------------------------------------------------------------- the schema and its page


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI, served from here alone: no inline script or style, so that the content policy stays as it is."""
    return render(request, "api/docs.html", {"title": "Gatehouse API"})


openapi = SpectacularAPIView.as_view(permission_classes=[AllowAny], authentication_classes=[])


def _described(view: Any, about: str, *, operation_id: str, request: type, responses: type) -> Any:
    """A plain view, with a class in which drf-spectacular finds its schema; asked itself, that class answers by it."""

    def post(self: ApiView, request: Request, **address: Any) -> HttpResponse:
        answer: HttpResponse = view(request._request, **address)
        return answer

    post.__doc__ = about
    documented = extend_schema(operation_id=operation_id, request=request, responses=responses)(post)
    said = {"post": documented, "scope": view.scope, "takes_keys": False, "__doc__": about}
    view.cls, view.initkwargs = type(view.__name__, (ApiView,), said), {}
    return view


MODEL = "models/<slug:name>/"
VERSION = f"{MODEL}versions/<int:number>/"

v1 = [
    # asked all the time, so found first
    path(
        "features/services/<slug:name>/online/",
        _described(
            online_features,
            "Read features by join keys. For those who own the service, or a model that consumes it.",
            operation_id="features_online",
            request=OnlineBody,
            responses=OnlineAnswer,
        ),
        name="features-online",
    ),
    path(
        "push/",
        _described(
            push,
            "Push rows to a source: stored for training, served at once. For members of the group that owns it.",
            operation_id="features_push",
            request=feature_store.PushBody,
            responses=feature_store.PushAnswer,
        ),
        name="push",
    ),
    path("models/", models.Models.as_view(), name="models"),
    path(MODEL, models.Model.as_view(), name="model"),
    path(f"{MODEL}versions/", versions.Versions.as_view(), name="versions"),
    path(VERSION, versions.Version.as_view(), name="version"),
    path(f"{VERSION}files/", keeping.VersionFiles.as_view(), name="version-files"),
    path(f"{VERSION}files/<path:path>", keeping.VersionFile.as_view(), name="version-file"),
    path(f"{VERSION}hold/", keeping.Hold.as_view(), name="hold"),
    path(f"{MODEL}card/", keeping.Card.as_view(), name="card"),
    path(f"{VERSION}standing/", rollout.VersionStanding.as_view(), name="standing"),
    path(f"{MODEL}training-runs/", training.TrainingRuns.as_view(), name="training-runs"),
    path(f"{MODEL}training-runs/<int:pk>/", training.OneTrainingRun.as_view(), name="training-run"),
    path(f"{MODEL}evidence/", evidence_api.EvidenceListing.as_view(), name="evidence-list"),
    path(f"{MODEL}evidence/<int:pk>/", evidence_api.OneEvidence.as_view(), name="evidence"),
    path(f"{MODEL}gate-runs/", gate_runs.GateRuns.as_view(), name="gate-runs"),
    path(f"{MODEL}gate-runs/<int:pk>/", gate_runs.OneGateRun.as_view(), name="gate-run"),
    path(f"{MODEL}gate-runs/<int:pk>/checks/<slug:check_id>/", gate_runs.OneCheck.as_view(), name="gate-run-check"),
    path(f"{MODEL}policies/", policies.Policies.as_view(), name="policies"),
    path(f"{MODEL}policies/in-force/", policies.PolicyInForce.as_view(), name="policy-in-force"),
    path(f"{MODEL}policies/dry-run/", policies.PolicyDryRun.as_view(), name="policy-dry-run"),
    path(f"{MODEL}policies/<int:number>/", policies.OnePolicy.as_view(), name="policy"),
    path(f"{MODEL}policies/<int:number>/decision/", policies.PolicyDecisions.as_view(), name="policy-decision"),
    path(f"{MODEL}policies/<int:number>/diff/", policies.PolicyDifference.as_view(), name="policy-diff"),
    path("policy-templates/<slug:tier>/", policies.PolicyTemplate.as_view(), name="policy-template"),
    path(f"{MODEL}rollouts/", rollout.Rollouts.as_view(), name="rollouts"),
    path("rollouts/<int:pk>/", rollout.OneRollout.as_view(), name="rollout"),
    path("rollouts/<int:pk>/pause/", rollout.Pause.as_view(), name="rollout-pause"),
    path("rollouts/<int:pk>/resume/", rollout.Resume.as_view(), name="rollout-resume"),
    path("rollouts/<int:pk>/abort/", rollout.Abort.as_view(), name="rollout-abort"),
    path("endpoints/", rollout.Endpoints.as_view(), name="endpoints"),
    path("endpoints/<slug:name>/", rollout.OneEndpoint.as_view(), name="endpoint"),
    path("endpoints/<slug:name>/decisions/", rollout.Decisions.as_view(), name="endpoint-decisions"),
    path(
        "endpoints/<slug:name>/decisions/<int:decision>/withdraw/",
        rollout.WithdrawDecision.as_view(),
        name="endpoint-decision-withdraw",
    ),
    path("endpoints/<slug:name>/fallbacks/", rollout.Fallbacks.as_view(), name="endpoint-fallbacks"),
    path(
        "endpoints/<slug:name>/fallbacks/<slug:fallback>/retire/",
        rollout.RetireFallback.as_view(),
        name="endpoint-fallback-retire",
    ),
    path("endpoints/<slug:name>/freezes/", rollout.Freezes.as_view(), name="endpoint-freezes"),
    path("endpoints/<slug:name>/freezes/<int:freeze>/lift/", rollout.LiftFreeze.as_view(), name="endpoint-freeze-lift"),
    path("endpoints/<slug:name>/predict/", rollout.Predict.as_view(), name="predict"),
    path("endpoints/<slug:name>/outcomes/", rollout.Outcomes.as_view(), name="outcomes"),
    path("endpoints/<slug:name>/traffic/", rollout.EndpointTraffic.as_view(), name="traffic"),
    path("endpoints/<slug:name>/manifests/", rollout.EndpointManifests.as_view(), name="manifests"),
    path("endpoints/<slug:name>/business-metrics/", rollout.BusinessMetrics.as_view(), name="business-metrics"),
    path(
        "endpoints/<slug:name>/business-metrics/<slug:metric>/retire/",
        rollout.RetireBusinessMetric.as_view(),
        name="business-metric-retire",
    ),
    path("predictions/", rollout.PredictionsIntake.as_view(), name="predictions-push"),
    path("outcomes/", rollout.OutcomesIntake.as_view(), name="outcomes-push"),
    *replay_api.urlpatterns,
    path("incidents/", monitoring.Incidents.as_view(), name="incidents"),
    path("incidents/<int:pk>/", monitoring.OneIncident.as_view(), name="incident"),
    path("incidents/<int:pk>/acknowledge/", monitoring.Acknowledge.as_view(), name="incident-acknowledge"),
    path("incidents/<int:pk>/resolve/", monitoring.Resolve.as_view(), name="incident-resolve"),
    path("incidents/<int:pk>/reports/", dossier_api.IncidentReports.as_view(), name="incident-reports"),
    path(
        "incidents/<int:pk>/reports/<int:position>/",
        dossier_api.OneIncidentReport.as_view(),
        name="incident-report",
    ),
    path(f"{VERSION}dossiers/", dossier_api.Dossiers.as_view(), name="dossiers"),
    path(f"{VERSION}dossiers/<int:position>/", dossier_api.OneDossier.as_view(), name="dossier"),
    path("dossiers/verifier/", dossier_api.Verifier.as_view(), name="dossier-verifier"),
    path("lineage", openlineage_api.OneEvent.as_view(), name="lineage-event"),
    path("lineage/", openlineage_api.OneEventToo.as_view()),
    path("lineage/batch", openlineage_api.Batch.as_view(), name="lineage-batch"),
    path("lineage/batch/", openlineage_api.BatchToo.as_view()),
    path("lineage/backwards/", lineage_api.Backwards.as_view(), name="lineage-backwards"),
    path("lineage/forwards/", lineage_api.Forwards.as_view(), name="lineage-forwards"),
    path("lineage/as-of/", lineage_api.AsOf.as_view(), name="lineage-as-of"),
    path(f"{MODEL}versions/<int:before>/diff/<int:after>/", lineage_api.Diff.as_view(), name="versions-diff"),
    path("events/", Events.as_view(), name="events"),
    path("events/<int:pk>/", OneEvent.as_view(), name="event"),
    path("log/checkpoints/", log.Checkpoints.as_view(), name="log-checkpoints"),
    path("log/verification/", log.LogVerification.as_view(), name="log-verification"),
    path("features/plan/", features_api.PlanDefinitions.as_view(), name="features-plan"),
    path("features/apply/", features_api.ApplyDefinitions.as_view(), name="features-apply"),
    path(
        "features/services/<slug:name>/<int:number>/retire/",
        features_api.RetireService.as_view(),
        name="features-service-retire",
    ),
]

urlpatterns = [
    path("v1/", include((v1, "api"))),
    path("schema/", openapi, name="api-schema"),
    path("docs/", docs, name="api-docs"),
    re_path(r"^", not_found),  # a problem document here as well, instead of a page
]
