"""A feature service ends when no model lives on it, and no model takes it up afterwards."""

from __future__ import annotations

import pytest

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from registry import actions
from registry.models import Alias
from rollout.actions import retire_feature_service
from tests.builders import NOON, ROBOT, alice, charlie
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem
from tests.registry import world

pytestmark = pytest.mark.django_db


def test_retire__while_a_champion_or_rollout_takes_it__is_refused_by_name() -> None:
    building.build()
    alias = Alias.objects.select_related("version__service").get(version__registered_model__name="delay-arrival")
    service = alias.version.service
    assert service is not None

    with pytest.raises(Conflict, match=r"delay-arrival v1 \(champion\), delay-arrival v3 on .* \(canary\)"):
        retire_feature_service(service, actor=ROBOT, reason="Old.", now=NOON)
    service.refresh_from_db()
    assert service.retired_at is None


def test_retire__of_an_unused_service__is_for_ever_and_once() -> None:
    pipeline = world.pipeline()
    service = pipeline.service
    with pytest.raises(InvalidInput, match="reason"):
        retire_feature_service(service, actor=ROBOT, reason=" ", now=NOON)
    with pytest.raises(NotPermitted):
        retire_feature_service(service, actor=charlie(), reason="Old.", now=NOON)

    retire_feature_service(service, actor=ROBOT, reason="Old.", now=NOON)
    retire_feature_service(service, actor=ROBOT, reason="Old.", now=NOON)

    assert Event.objects.filter(name="feature_service.retired").count() == 1
    with pytest.raises(Conflict, match="was retired on 2013-04-01"):
        actions.request_training(
            pipeline,
            window={"name": "expanding"},
            trigger="person",
            parameters=None,
            actor=ROBOT,
            reason="Try.",
            now=NOON,
        )


def test_retire__over_http__answers_the_service_or_why_not() -> None:
    service = world.pipeline().service
    caller = Caller(alice())
    address = f"features/services/{service.name}/{service.number}/retire/"

    assert problem(caller.post("features/services/none/1/retire/", {"reason": "Old."}))[0] == 404
    assert problem(Caller(charlie()).post(address, {"reason": "Old."}))[0] == 404
    answer = caller.post(address, {"reason": "Old."}).json()

    assert answer["service"] == str(service)
    assert answer["retired_at"] is not None
