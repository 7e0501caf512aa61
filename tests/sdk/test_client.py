"""The client against the real portal: answers as dataclasses, refusals as exceptions."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

import gatehouse
from audit import clock
from registry.code import code_digest
from tests.builders import NOON, alice, paula, pete, registered_model
from tests.mlops import world as building
from tests.rollout import life
from tests.sdk.portal import URL, client, transport

pytestmark = pytest.mark.django_db


def test_models__over_several_pages__are_all_there() -> None:
    for number in range(203):
        registered_model(f"model-{number:03}")

    models = client(alice()).models()

    assert [model.name for model in models] == [f"model-{number:03}" for number in range(203)]
    assert repr(models[0]) == "<Model model-000 (standard): no champion yet>"


def test_model__knows_owners_and_pipelines() -> None:
    model = client(building.build().owner).model("delay-arrival")

    assert (model.champion, model.owners.platform) == (1, "delay-platform")
    assert model.pipelines[0].windows == ({"name": "expanding"},)


def test_version__has_its_lineage_and_times() -> None:
    portal = client(building.build().owner)
    version = portal.version("delay-arrival", 1)

    assert version.lineage is not None
    assert version.lineage["kind"] == "model version"
    assert version.registered_at == NOON.astimezone(UTC)
    assert [each.number for each in portal.versions("delay-arrival")] == [4, 3, 2, 1]


def test_registering__the_same_file_again__is_the_same_version(tmp_path: Path) -> None:
    registered_model()
    (artifact := tmp_path / "model.bin").write_bytes(b"something")
    portal = client(alice())

    first, again = (portal.register_version("late-arrival", artifact, note="One.") for _ in range(2))

    assert first == again
    assert repr(first).startswith("<Version late-arrival v1 ")


def test_rollout__with_its_latest_look() -> None:
    world = building.build()
    portal = client(world.operator)
    [running] = portal.rollouts("delay-arrival", state="canary")
    rollout = portal.rollout(running.id)

    assert rollout.latest_look is not None
    assert rollout.latest_look.measurements[0].harm == 1.7
    assert repr(rollout) == f"<Rollout {rollout.id}: delay-arrival v3 on delay-warning: canary step 1>"


def test_training__requested_and_asked_after() -> None:
    portal = client(building.build().scientist)
    run = portal.request_training("delay-arrival", "trees", window={"name": "expanding"}, reason="Fresh data.")

    assert portal.training_run("delay-arrival", run.id).state == "requested"
    with pytest.raises(gatehouse.Conflict, match="one training may be open per model"):
        portal.request_training("delay-arrival", "trees", window={"name": "expanding"}, reason="Again.")


def test_traffic__predicted_and_its_outcome_sent() -> None:
    life.begin()
    with clock.at(NOON):
        portal = client(pete())
        [prediction] = portal.predict(life.ENDPOINT, [{"request_id": "a", "x1": 3.0}])
        stored = portal.send_outcomes(life.ENDPOINT, [(prediction.request_id, 1.0, prediction.at)])

    assert (prediction.decision, prediction.version, stored) == (True, 1, 1)


def test_rollout__decided_by_whose_duty_it_is() -> None:
    rollout = life.begin().candidate()
    portal = client(pete())

    assert portal.pause_rollout(rollout.pk, reason="Look closer.").state == "paused"
    assert portal.resume_rollout(rollout.pk, reason="Fine.").state == "shadow"
    assert portal.abort_rollout(rollout.pk, reason="Not now.").state == "aborted"


# ---------------------------------------------------------------------- refusals


def test_refusals__are_told_apart_and_in_the_portals_words(tmp_path: Path) -> None:
    registered_model()
    portal, product = client(alice()), client(paula())
    (artifact := tmp_path / "model.bin").write_bytes(b"something")

    with pytest.raises(gatehouse.NotFound, match="There is no model 'nobody'"):
        portal.model("nobody")
    with pytest.raises(gatehouse.NotPermitted, match="delay-science"):
        product.register_version("late-arrival", artifact)
    with pytest.raises(gatehouse.InvalidInput) as wrong:
        portal.register_version("late-arrival", artifact, dataset="0" * 64)
    with pytest.raises(gatehouse.NotPermitted) as unknown:
        gatehouse.Client(URL, "gh_none", transport=transport()).models()

    assert set(wrong.value.errors) == {"lineage.dataset"}
    assert unknown.value.status == 401


def test_name__with_a_slash__stays_one_name() -> None:
    with pytest.raises(gatehouse.NotFound):
        client(alice()).model("../incidents")


def test_code_digest__is_the_portals() -> None:
    folder = Path(__file__).parent

    assert gatehouse.code_digest(folder) == code_digest(folder)
