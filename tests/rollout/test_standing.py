"""Where a version is, in one word and one sentence."""

from __future__ import annotations

import pytest

from gates import actions as gates
from registry.models import ModelVersion
from rollout import actions
from rollout.standing import STAGES, standing
from tests.builders import NOON, ROBOT, policy_in_force
from tests.mlops import world as building
from tests.mlops.world import World
from tests.rollout import life

pytestmark = pytest.mark.django_db


def told(version: ModelVersion) -> tuple[str, str]:
    found = standing(ModelVersion.objects.get(pk=version.pk))
    assert found.stage in STAGES
    return found.stage, found.why


@pytest.fixture
def world() -> World:
    return building.build()


@pytest.mark.parametrize(
    ("name", "stage", "why"),
    [
        ("champion", "champion", "Nothing serves yet: passed gates suffice."),
        ("canary", "canary", "No harm in shadow."),
        ("stopped", "rolled_back", "More late flights were missed: proven."),
    ],
)
def test_standing__of_a_version_that_met_traffic__is_its_rollouts(
    world: World, name: str, stage: str, why: str
) -> None:
    assert told(world[name]) == (stage, why)


def test_standing__of_a_version_that_failed_its_gates__says_by_how_much(world: World) -> None:
    stage, why = told(world["refused"])

    assert stage == "refused"
    assert "auc-floor" in why or "AUC" in why


def test_standing__of_a_new_version__from_unjudged_to_ready(world: World) -> None:
    version = building.a_version(world, "New.")
    assert told(version) == ("unjudged", "It has not been judged yet.")

    run = gates.open_run(version, actor=ROBOT, reason="It was registered.", now=NOON)
    assert told(version)[0] == "judged"
    assert not standing(version).gates_ended

    gates.give_up(run, actor=ROBOT, reason="It could not be measured.", now=NOON)
    assert told(version) == ("refused", "It could not be measured.")

    building.a_gate_run(version)
    assert told(version)[0] == "ready"
    assert standing(version).gates_ended


def test_standing__under_a_policy_that_was_replaced__is_void(world: World) -> None:
    version = building.a_version(world, "New.")
    building.a_gate_run(version)
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.9}]}
    policy_in_force(world.registered_model, document)

    stage, why = told(version)

    assert stage == "refused"
    assert "policy 2 is in force" in why
    assert standing(version).gates_ended


def test_standing__of_a_champion_that_was_replaced__says_so() -> None:
    story = life.begin()
    second = life.a_version(story.registered_model, inputs=("x1", "x2"))
    rollout = life.proposed(second)
    actions.start(rollout, actor=ROBOT, reason="Its turn.", now=NOON)
    assert told(second)[0] == "shadow"
    for _ in range(2):
        actions.advance(rollout, actor=ROBOT, reason="No harm.", now=NOON)
    actions.promote(rollout, actor=ROBOT, reason="No harm at any step.", now=NOON)

    assert told(second) == ("champion", "No harm at any step.")
    assert told(story.champion)[0] == "replaced"
