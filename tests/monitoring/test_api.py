"""Incidents over HTTP."""

from __future__ import annotations

import pytest

from monitoring.models import Incident
from tests.builders import audrey
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields
from tests.mlops.world import World

pytestmark = pytest.mark.django_db


def owner_of(world: World) -> Caller:
    member = next(each for each in world.members if each.groups.filter(pk=world["incident"].owner_id).exists())
    return Caller(member)


def test_incidents__by_model_and_state__are_found() -> None:
    world = building.build()
    building.build("search")
    found = Caller(audrey()).get("incidents/", model="delay-arrival", state="open").json()["results"]

    assert [row["id"] for row in found] == [world["incident"].pk]
    assert found[0]["owner"] == str(world["incident"].owner)


def test_incident__acknowledged_then_resolved__by_its_owner() -> None:
    world = building.build()
    caller, path = owner_of(world), f"incidents/{world['incident'].pk}/"
    taken = caller.post(f"{path}acknowledge/", {"reason": "I look."}).json()
    closed = caller.post(f"{path}resolve/", {"reason": "The feed is back."}).json()

    assert (taken["state"], closed["state"]) == ("acknowledged", "resolved")
    assert taken["acknowledged_by"] is not None
    assert problem(caller.post(f"{path}acknowledge/", {"reason": "Again."}))[0] == 409


def test_incident__of_another_duty__is_seen_and_not_taken() -> None:
    world = building.build()
    path = f"incidents/{world['incident'].pk}/"
    auditor = Caller(audrey())

    assert auditor.get(path).status_code == 200
    assert problem(auditor.post(f"{path}acknowledge/", {"reason": "I look."}))[0] == 403
    assert refused_fields(owner_of(world).post(f"{path}resolve/", {})) == {"reason"}
    assert Incident.objects.get(pk=world["incident"].pk).state == "open"
