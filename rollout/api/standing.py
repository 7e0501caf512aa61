"""Where a version is on its way to production, and why."""

from __future__ import annotations

import math
import time
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gates.models import GateRunState
from registry.rest import OfModel
from rollout.models import RolloutState
from rollout.standing import STAGES, standing

LONGEST_WAIT = 30.0
LOOK_AGAIN = 0.5


class GateStanding(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=[*GateRunState.values, "unjudged", "void"])
    message = serializers.CharField()
    may_enter_rollout = serializers.BooleanField()
    gate_run = serializers.IntegerField(allow_null=True)
    policy = serializers.IntegerField(allow_null=True)
    missing_evidence = serializers.ListField(child=serializers.CharField())


class RolloutStanding(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    endpoint = serializers.CharField()
    state = serializers.ChoiceField(choices=RolloutState.choices)
    reason = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    step = serializers.IntegerField()


class StandingAnswer(serializers.Serializer[Any]):
    """Where a version is and why."""

    model = serializers.CharField()
    version = serializers.IntegerField()
    stage = serializers.ChoiceField(choices=[(stage, stage) for stage in STAGES])
    why = serializers.CharField(help_text="One sentence with the numbers that decided.")
    since = serializers.DateTimeField(allow_null=True)
    is_champion = serializers.BooleanField()
    gates_ended = serializers.BooleanField(help_text="Nothing more will come from the gates by themselves.")
    gates = GateStanding()
    rollouts = RolloutStanding(many=True)


class VersionStanding(OfModel):
    """Where is this version, and why?"""

    query = ("wait",)

    @extend_schema(
        operation_id="versions_standing",
        responses=StandingAnswer,
        parameters=[
            OpenApiParameter(
                "wait",
                {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT},
                description="Seconds to wait for the gates to end; the answer comes as soon as they have.",
            )
        ],
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        version = self.version(number)
        until = time.monotonic() + self._wait()
        found = standing(version)
        while not found.gates_ended and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_AGAIN, left))
            found = standing(version)
        return Response(StandingAnswer(found.as_dict()).data)

    def _wait(self) -> float:
        text = self.request.query_params.get("wait", "0")
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= LONGEST_WAIT:
            raise exceptions.ValidationError({"wait": [f"Seconds from 0 to {LONGEST_WAIT:g}."]})
        return seconds
