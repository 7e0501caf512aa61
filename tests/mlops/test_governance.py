"""The twelve checks that stock MLflow fails, in the order of the registry research, section 1.3.

Each is tried through the API, past it through the ORM, and where there is a shorter way still, past that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.db.models import Model, ProtectedError

from audit import clock
from audit.errors import Unavailable
from audit.models import Event
from registry import artifacts
from registry.models import Alias, ModelVersion, RegisteredModel, TrainingRun
from tests.builders import NOON, alice, audrey, registered_model
from tests.mlops import world as building
from tests.mlops.calls import Caller
from tests.mlops.world import World
from tests.registry import world as registry_world

pytestmark = pytest.mark.django_db
VERSIONS = "models/late-arrival/versions/"


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


@pytest.fixture
def world() -> World:
    return building.build()


def registered(**lineage: Any) -> ModelVersion:
    """Version 1, registered by Alice over HTTP."""
    registered_model()
    artifact = SimpleUploadedFile("model.skops", registry_world.model_bytes())
    response = Caller(alice()).form(VERSIONS, {"artifact": artifact, "lineage": json.dumps(lineage)})
    assert response.status_code == 201, response.content
    return ModelVersion.objects.get(number=1)


def assert_stays(row: Model, **changed: Any) -> None:
    """Neither in bulk nor one by one does the database take other values for the row."""
    for change in (_update, _save):
        with pytest.raises(IntegrityError), transaction.atomic():
            change(row, changed)


def _update(row: Model, changed: dict[str, Any]) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**changed)


def _save(row: Model, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        setattr(row, name, value)
    row.save(update_fields=list(changed))


def assert_not_deleted(row: Model) -> None:
    """Neither the row's own ``delete`` nor one in bulk nor one past Django's own protection takes it away."""
    rows = type(row)._default_manager.filter(pk=row.pk)
    for delete in (row.delete, rows.delete, lambda: rows._raw_delete(rows.db)):
        with pytest.raises((ProtectedError, IntegrityError)), transaction.atomic():
            _and_commit(delete)
    assert rows.exists()


def _and_commit(delete: Callable[[], Any]) -> None:
    """Foreign keys are looked at when a transaction commits, and a test never does: look now."""
    delete()
    connection.check_constraints()


# ---------------------------------------------------------------------- who


def test_check_1__who_registered_version_1__is_the_holder_of_the_token() -> None:
    version = registered()

    shown = Caller(audrey()).get(f"{VERSIONS}1/").json()

    assert shown["registered_by"] == "alice"
    assert version.registered_with.startswith("gh_")
    assert Event.objects.get(name="model_version.registered").actor == alice()


def test_check_2__client_that_says_it_is_the_ceo__is_kept_as_a_claim() -> None:
    version = registered(claims={"user": "the.ceo"})

    assert version.claims["user"] == "the.ceo"
    assert version.registered_by == alice()


def test_check_3__champion_moved__from_which_to_which_when_and_by_whom_is_in_the_log(world: World) -> None:
    alias = Alias.objects.get(name="champion", registered_model=world.registered_model)

    moved = Event.objects.filter(name="alias.champion_moved", registered_model=world.registered_model.name).last()

    assert moved is not None
    assert (moved.data["from"], moved.data["to"]) == (None, alias.version.number)
    assert moved.at == alias.since
    assert moved.author


# ---------------------------------------------------------------------- the bytes


def test_check_4__other_bytes_for_a_registered_version__there_is_no_way_to_send_them() -> None:
    registered()
    caller = Caller(alice())

    for method in ("put", "patch", "delete", "post"):
        for address in (f"{VERSIONS}1/", f"{VERSIONS}1/files/model.skops"):
            answer = getattr(caller.client, method)(f"/api/v1/{address}", b"other", content_type="application/zip")
            assert answer.status_code == 405, (method, address)


def test_check_4__bytes_stored_again_under_the_same_name__do_not_replace_the_first() -> None:
    version = registered()
    before = artifacts.local_path(version).read_bytes()

    name = artifacts.stored_name(version.artifact_digest)
    kept = storages["artifacts"].save(name, ContentFile(b"other"))

    assert kept != name
    assert artifacts.local_path(version).read_bytes() == before


def test_check_5__digest__stands_with_the_version_and_each_of_its_files() -> None:
    version = registered()

    shown = Caller(alice()).get(f"{VERSIONS}1/").json()

    assert shown["artifact_digest"] == version.artifact_digest
    assert len(version.artifact_digest) == len(version.manifest_digest) == 64
    assert_stays(version, artifact_digest="0" * 64)


def test_check_6__file_that_was_overwritten_on_disk__is_refused_before_anything_loads_it() -> None:
    version = registered()
    path = artifacts.local_path(version)
    _overwrite(path, b"PK other bytes")

    with pytest.raises(Unavailable, match="not those that were registered"):
        artifacts.local_path(version)


def _overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


# ---------------------------------------------------------------------- what was measured


def test_check_7__metric_of_a_finished_run_and_its_version__can_not_be_rewritten(world: World) -> None:
    assert_stays(world["champion"], metrics={"roc_auc": {"value": 0.99}})
    assert_stays(world["training_run"], metrics={"roc_auc": {"value": 0.99}})
    assert_stays(world["check_result"], value=0.99)


def test_check_8__commit_of_a_finished_run_and_its_version__can_not_be_rewritten(world: World) -> None:
    assert_stays(world["champion"], commit="0" * 40)
    assert_stays(world["training_run"], commit="0" * 40)


# ---------------------------------------------------------------------- what is gone


def test_check_9__run_behind_a_version__can_not_be_deleted(world: World) -> None:
    assert_not_deleted(TrainingRun.objects.get(pk=world["training_run"].pk))


def test_check_10__files_behind_a_version__can_not_be_deleted() -> None:
    version = registered()
    file = version.files.get()

    assert_not_deleted(file)
    assert_not_deleted(file.blob)


def test_check_11__version_that_the_champion_points_to__can_not_be_deleted(world: World) -> None:
    assert_not_deleted(world["champion"])


def test_check_11__champion_alias__can_not_be_deleted_silently(world: World) -> None:
    assert_not_deleted(Alias.objects.get(name="champion", registered_model=world.registered_model))


def test_check_12__whole_model__can_not_be_deleted(world: World) -> None:
    assert_not_deleted(RegisteredModel.objects.get(pk=world.registered_model.pk))

    answer = Caller(world.scientist).client.delete(f"/api/v1/models/{world.registered_model.name}/")
    assert answer.status_code == 405
