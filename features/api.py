"""Definitions as code over HTTP: plan a set of definitions, apply the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock
from audit.rest import ApiView, Body, MappingField, PlainJSONField
from audit.scopes import FEATURES
from features import definitions
from features.actions import apply_plan, review
from features.actions import plan as planning
from features.actions.plan import Change, Plan
from features.models import FeatureService

# ---------------------------------------------------------------------- what is asked


class PlanBody(Body):
    definitions = MappingField(
        help_text="entities, sources, views, transforms, services: each a mapping from name to fields "
        "(docs/feature_store.md). Faults are named views.weather.expression."
    )
    publish = serializers.BooleanField(default=False, help_text="New versions are published, not left as drafts.")


class ApplyBody(PlanBody):
    digest = serializers.RegexField(r"^[0-9a-f]{64}$", help_text="Of the plan that was shown; 409 when it is outdated.")
    reason = serializers.CharField(default="", allow_blank=True, max_length=2000, help_text="Needed with publish.")


# ---------------------------------------------------------------------- what is answered


class UseRow(serializers.Serializer[Any]):
    """A model version that takes a service which pins the version in force."""

    service = serializers.CharField()
    model = serializers.CharField(help_text="Its name and version; to a stranger, whose it is.")
    role = serializers.CharField(help_text="champion, or the state of its rollout.")
    owner = serializers.CharField(help_text="The group that moves it to other features.")


class FieldRow(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()


class ChangeRow(serializers.Serializer[Any]):
    """What happens to one object; ``review`` (of a view's new meaning) is kept with the version."""

    kind = serializers.ChoiceField(choices=("entity", "source", "view", "transform", "service"))
    name = serializers.CharField()
    action = serializers.ChoiceField(choices=planning.ACTIONS)
    label = serializers.CharField(  # type: ignore[assignment]  # a field of the answer, where the base has a text
        help_text="What it is called afterwards: weather@2."
    )
    publishes = serializers.BooleanField()
    fields = FieldRow(many=True)  # type: ignore[assignment]  # a field of the answer, where the base has its own
    diff = serializers.CharField(help_text="Unified difference of the normalised text.")
    notes = serializers.ListField(child=serializers.CharField())
    pinned_by = serializers.ListField(child=serializers.CharField(), help_text="Services of the version in force.")
    used_by = UseRow(many=True, help_text="Models, live or in a rollout, of those services.")
    review = serializers.DictField(help_text="values, look_alikes, conformance: features/actions/review.py.")


class PlanAnswer(serializers.Serializer[Any]):
    digest = serializers.CharField(help_text="Apply takes it.")
    publish = serializers.BooleanField()
    to_do = serializers.IntegerField(help_text="How many changes applying makes; 0: nothing to do.")
    changes = ChangeRow(many=True)


# ---------------------------------------------------------------------- the two addresses


class _Definitions(ApiView):
    """Both answer a plan; ``uses`` says which models take which services, which is known above this app."""

    scope = FEATURES
    takes_keys = False  # both may be repeated as they are, and may take minutes

    def uses(self) -> Mapping[int, Sequence[Any]]:
        """Uses by primary key of the service: label, role and owner each."""
        return {}

    def told(self, plan: Plan) -> dict[str, Any]:
        uses = self.uses() if any(change.pinned_by for change in plan.changes) else {}
        return {
            "digest": plan.digest,
            "publish": plan.publish,
            "to_do": len(plan.to_do),
            "changes": [_told(change, uses) for change in plan.changes],
        }


class PlanDefinitions(_Definitions):
    """What applying these definitions would do."""

    @extend_schema(operation_id="features_plan", request=PlanBody, responses={200: PlanAnswer})
    def post(self, request: Request) -> Response:
        """Plan: nothing is written. New meanings are measured on a sample and compared with what exists already."""
        body = self.read(PlanBody)
        wanted = definitions.read(body["definitions"])
        plan = planning.plan(wanted, publish=body["publish"], actor=self.user)
        return Response(self.told(review.review(plan, now=clock.now())))


class ApplyDefinitions(_Definitions):
    """Carry out a plan that was shown."""

    @extend_schema(operation_id="features_apply", request=ApplyBody, responses={200: PlanAnswer})
    def post(self, request: Request) -> Response:
        """Apply all of it or nothing; 409 when what is stored has changed since the plan. May be repeated."""
        body = self.read(ApplyBody)
        applied = apply_plan.apply(
            definitions.read(body["definitions"]),
            digest=body["digest"],
            publish=body["publish"],
            reason=body["reason"],
            actor=self.user,
            now=clock.now(),
        )
        return Response(self.told(applied))


def _told(change: Change, uses: Mapping[int, Sequence[Any]]) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "action": change.action,
        "label": change.label,
        "publishes": change.publishes,
        "fields": [{"field": each.field, "before": each.before, "after": each.after} for each in change.fields],
        "diff": change.diff,
        "notes": list(change.notes),
        "pinned_by": [str(service) for service in change.pinned_by],
        "used_by": [row for service in change.pinned_by for row in _use_rows(service, uses)],
        "review": dict(change.review),
    }


def _use_rows(service: FeatureService, uses: Mapping[int, Sequence[Any]]) -> list[dict[str, str]]:
    return [
        {"service": str(service), "model": use.label, "role": use.role, "owner": use.owner}
        for use in uses.get(service.pk, ())
    ]


# ---------------------------------------------------------------------- pushes


class PushBody(Body):
    source = serializers.CharField(  # type: ignore[assignment]  # a field, where the base has a keyword argument
        help_text="A data source with a push_schema."
    )
    push_id = serializers.CharField(max_length=100, help_text="Your name for this push: sent again it changes nothing.")
    rows = serializers.ListField(
        child=serializers.DictField(child=PlainJSONField(allow_null=True)), required=False, max_length=10_000,
        help_text="One object per row; a column that it lacks is null. Or give columns.",
    )  # fmt: skip
    columns = serializers.DictField(
        child=serializers.ListField(child=PlainJSONField(allow_null=True)), required=False,
        help_text="A list of values per column, all of one length.",
    )  # fmt: skip


class PushAnswer(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment]  # see PushBody
    push_id = serializers.CharField()
    rows = serializers.IntegerField(help_text="Stored for training.")
    arrived_at = serializers.DateTimeField(help_text="From then on training and serving know them.")
    written = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Views that are served at once: how many of their records were newer than what the store held.",
    )
