"""The lineage over HTTP: backwards, forwards, what served when, and two versions compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.errors import InvalidInput
from audit.rest import ApiView, Body, PlainJSONField
from mlops.lineage import as_of, backwards, diff, forwards
from registry.rest import OfModel

LONGEST_KEY = 900
"""A namespace and a name of another tool's dataset may be long."""


@contextmanager
def _query_faults() -> Iterator[None]:
    """What can not be accepted came with the query: 400, as for a query parameter that there is not."""
    try:
        yield
    except InvalidInput as problem:
        raise exceptions.ValidationError(problem.errors) from problem


def _asked(query: type[Body], request: Request) -> dict[str, Any]:
    serializer = query(data=request.query_params.dict())
    serializer.is_valid(raise_exception=True)
    found: dict[str, Any] = serializer.validated_data
    return found


# ---------------------------------------------------------------------- backwards


class NodeRow(serializers.Serializer[Any]):
    kind = serializers.CharField()
    key = serializers.CharField(help_text="Names it for ever; ask for it as `of`.")
    label = serializers.CharField()  # type: ignore[assignment]  # a field, where the base has a text
    url = serializers.CharField(allow_blank=True, help_text="Its page in the portal; empty: it has none.")
    facts = serializers.DictField(child=serializers.CharField(allow_blank=True))
    is_verified = serializers.BooleanField(help_text="False: we only have somebody's word for it, or nothing.")


class EdgeRow(serializers.Serializer[Any]):
    """``to`` was made of ``from``, or followed from it."""

    locals()["from"] = serializers.CharField()
    to = serializers.CharField()


class GraphAnswer(serializers.Serializer[Any]):
    nodes = NodeRow(many=True)
    edges = EdgeRow(many=True)


class OfQuery(Body):
    of = serializers.CharField(max_length=LONGEST_KEY)


class Backwards(ApiView):
    """What a thing was made from."""

    query = ("of",)

    @extend_schema(
        operation_id="lineage_backwards",
        parameters=[
            OpenApiParameter(
                "of",
                str,
                required=True,
                description=(
                    "Key of the thing: version:late-arrival/7, prediction:endpoint/request_id, incident:3, run:12, "
                    "dataset:<digest>, service:name@3, view:name@2, transform:name@1, source:name, gate_run:5, "
                    "rollout:8, retraining:2, rethink:1, external:dataset:namespace/name."
                ),
            )
        ],
        responses=GraphAnswer,
    )
    def get(self, request: Request) -> Response:
        """Everything that a prediction, a version, an incident or any other thing was made from, up to the sources."""
        with _query_faults():
            graph = backwards(_asked(OfQuery, request)["of"], reader=self.user)
        return Response(graph.as_dict())


# ---------------------------------------------------------------------- forwards


class PathRow(serializers.Serializer[Any]):
    steps = serializers.ListField(
        child=serializers.CharField(), help_text="From what was asked about to the endpoints."
    )
    is_certain = serializers.BooleanField(help_text="False: columns can not be told apart on the way; it may be so.")


class AffectedRow(serializers.Serializer[Any]):
    label = serializers.CharField(  # type: ignore[assignment]  # a field, where the base has a text
        help_text="The version; of a model that is not the caller's to see, only whose it is."
    )
    owner = serializers.CharField(help_text="The group to ask.")
    is_visible = serializers.BooleanField()
    roles = serializers.ListField(
        child=serializers.CharField(),
        help_text="champion, serving, shadow, canary, paused; recorded: it serves nothing.",
    )
    model = serializers.CharField(allow_blank=True)
    number = serializers.IntegerField(allow_null=True)
    service = serializers.CharField(allow_blank=True)
    endpoints = serializers.ListField(child=serializers.CharField())
    paths = PathRow(many=True)
    more_paths = serializers.IntegerField(help_text="Paths that are not listed.")


class ImpactAnswer(serializers.Serializer[Any]):
    asked = serializers.CharField()
    features = serializers.ListField(child=serializers.CharField(), help_text="Features that it goes into.")
    affected = AffectedRow(many=True)
    owners = serializers.ListField(child=serializers.CharField(), help_text="The groups to ask.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="What could not be told exactly.")


class ImpactQuery(Body):
    column = serializers.CharField(required=False, max_length=LONGEST_KEY)
    source = serializers.CharField(  # type: ignore[assignment]  # a field, where the base has an attribute
        required=False, max_length=LONGEST_KEY
    )
    dataset = serializers.CharField(required=False, max_length=64)
    feature = serializers.CharField(required=False, max_length=200)
    versions = serializers.ChoiceField(choices=["live", "all"], default="live")


def _parameter(name: str, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, str, description=description)


class Forwards(ApiView):
    """Who uses something."""

    query = ("column", "source", "dataset", "feature", "versions")

    @extend_schema(
        operation_id="lineage_forwards",
        parameters=[
            _parameter("column", "source.column, or a column of `source`; external:dataset:namespace/name#column."),
            _parameter("source", "Name of a data source, or external:dataset:namespace/name."),
            _parameter("dataset", "SHA-256 digest of a dataset, or its first eight characters or more."),
            _parameter("feature", "view.feature, or view@2.feature for one version; on-demand transforms alike."),
            OpenApiParameter("versions", str, enum=["live", "all"], description="live (default), or all there are."),
        ],
        responses=ImpactAnswer,
    )
    def get(self, request: Request) -> Response:
        """Which versions use a column, a source, a feature or a dataset, on which path, and which group to ask."""
        asked = _asked(ImpactQuery, request)
        every_version = asked.pop("versions") == "all"
        with _query_faults():
            impact = forwards(**asked, reader=self.user, every_version=every_version)
        return Response(impact.as_dict())


# ---------------------------------------------------------------------- as of


class ToldRow(serializers.Serializer[Any]):
    """An event that the answer rests on."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    about = serializers.CharField()
    by = serializers.CharField()
    is_automatic = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()


class ServedVersion(serializers.Serializer[Any]):
    model = serializers.CharField()
    number = serializers.IntegerField()
    artifact = serializers.CharField(help_text="SHA-256 of the artifact's bytes.")
    manifest = serializers.CharField(allow_blank=True, help_text="SHA-256 over all files; empty: not known then.")


class GatesRow(serializers.Serializer[Any]):
    gate_run = serializers.IntegerField()
    number = serializers.IntegerField()
    policy = serializers.IntegerField()
    policy_hash = serializers.CharField()
    verdicts = serializers.DictField(child=serializers.CharField())


class CandidateRow(serializers.Serializer[Any]):
    version = ServedVersion()
    stage = serializers.CharField()
    step = serializers.IntegerField()
    share = serializers.FloatField(help_text="Share of entities that it answered.")
    since = serializers.DateTimeField()
    gates = GatesRow(allow_null=True)


class FellBackRow(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Empty: the endpoint's own score.")
    score = serializers.FloatField(allow_null=True)
    version = ServedVersion(allow_null=True)
    gates = GatesRow(allow_null=True)


class ServedRow(serializers.Serializer[Any]):
    """An endpoint at the moment."""

    endpoint = serializers.CharField()
    title = serializers.CharField()
    model = serializers.CharField()
    at = serializers.DateTimeField()
    champion = ServedVersion(allow_null=True, help_text="Null: nothing answered but the fallback.")
    since = serializers.DateTimeField(allow_null=True)
    let_in = ToldRow(allow_null=True, help_text="The event since which the champion served here.")
    gates = GatesRow(allow_null=True, help_text="Null: no event tells of them.")
    candidate = CandidateRow(allow_null=True)
    is_enabled = serializers.BooleanField(help_text="False: the kill switch was pulled.")
    switched = ToldRow(allow_null=True)
    fallback = FellBackRow(allow_null=True, help_text="What answered everybody while the kill switch was pulled.")
    events = ToldRow(many=True)


class AsOfAnswer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    served = ServedRow(many=True)


class AtQuery(Body):
    at = serializers.DateTimeField(required=False)


class AsOf(ApiView):
    """What served."""

    query = ("at",)

    @extend_schema(
        operation_id="lineage_as_of",
        parameters=[OpenApiParameter("at", str, description="Event time, ISO 8601; now without it.")],
        responses=AsOfAnswer,
    )
    def get(self, request: Request) -> Response:
        """What served at a moment, who let it through, and on which evidence: from the event log alone."""
        moment = _asked(AtQuery, request).get("at") or clock.now()
        found = [each.as_dict() for each in as_of(moment, reader=self.user)]
        return Response({"at": moment, "served": found})


# ---------------------------------------------------------------------- diff


class DifferenceRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    before = serializers.CharField(allow_null=True)
    after = serializers.CharField(allow_null=True)
    kind = serializers.CharField(help_text="added, removed or changed.")


class FeatureChangeRow(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="added, removed or changed.")
    feature = serializers.CharField()
    before = serializers.CharField(allow_blank=True, help_text="What gives it: view@number, a transform, the request.")
    after = serializers.CharField(allow_blank=True)


class LineRow(serializers.Serializer[Any]):
    tone = serializers.CharField(help_text="added, removed, same or gap.")
    text = serializers.CharField(allow_blank=True)


class TextChangeRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()
    lines = LineRow(many=True)


class MeasuredRow(serializers.Serializer[Any]):
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField(allow_null=True)


class MetricChangeRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    before = MeasuredRow(allow_null=True)
    after = MeasuredRow(allow_null=True)
    difference = serializers.FloatField(allow_null=True)
    lie_apart = serializers.BooleanField(allow_null=True, help_text="The intervals do not touch; null: one is missing.")


class CheckChangeRow(serializers.Serializer[Any]):
    check_id = serializers.CharField()
    before = PlainJSONField(allow_null=True)
    after = PlainJSONField(allow_null=True)


class DiffAnswer(serializers.Serializer[Any]):
    """What differs; of the metrics and the gates' checks everything, side by side."""

    before = serializers.CharField()
    after = serializers.CharField()
    is_same = serializers.BooleanField()
    locals()["data"] = DifferenceRow(many=True)  # the base has a property of this name
    features = FeatureChangeRow(many=True)
    texts = TextChangeRow(many=True)
    parameters = DifferenceRow(many=True)
    code = DifferenceRow(many=True)
    environment = DifferenceRow(many=True)
    artifact = DifferenceRow(many=True)
    metrics = MetricChangeRow(many=True)
    gates = CheckChangeRow(many=True)


class Diff(OfModel):
    """Two versions."""

    @extend_schema(operation_id="models_versions_diff", responses=DiffAnswer)
    def get(self, request: Request, name: str, before: int, after: int) -> Response:
        """What version ``after`` has otherwise than ``before``."""
        return Response(diff(self.version(before), self.version(after)).as_dict())
