import hashlib
import io
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.files.storage import storages
from django.db import connection

from audit import guards
from audit.errors import InvalidInput, Unavailable
from audit.models import Event
from audit.trail import record
from registry import actions, artifacts, manifest
from registry.artifacts import local_path, store, stored_name, used_bytes, verify
from registry.models import Blob, ModelVersion
from tests.builders import NOON, ROBOT, pete, registered_model
from tests.races import race
from tests.registry import world


def path_of(version: ModelVersion) -> Path:
    return Path(storages["artifacts"].path(stored_name(version.artifact_digest)))


@pytest.mark.django_db
def test_store__same_bytes_twice__keeps_one_file_under_their_digest(data_root: Path) -> None:
    first, second = store(io.BytesIO(b"model")), store(io.BytesIO(b"model"))
    assert first == second
    assert first.digest == hashlib.sha256(b"model").hexdigest()
    assert [path.name for path in (data_root / "artifacts").rglob("*") if path.is_file()] == [first.digest]


@pytest.mark.django_db
def test_store__nothing_or_too_much__is_refused(settings: Any) -> None:
    settings.GATEHOUSE_MAX_ARTIFACT_BYTES = 3
    for content in (b"", b"four"):
        with pytest.raises(InvalidInput, match="1 to 3"):
            store(io.BytesIO(content))


@pytest.mark.django_db
def test_local_path__stored_artifact__has_the_registered_bytes() -> None:
    content = world.model_bytes()
    assert local_path(world.version(content=content)).read_bytes() == content


@pytest.mark.django_db
def test_local_path__changed_bytes__is_refused() -> None:
    version = world.version()
    path_of(version).unlink()
    path_of(version).write_bytes(b"other")
    with pytest.raises(Unavailable, match="damaged"):
        local_path(version)


@pytest.mark.django_db
def test_local_path__lost_bytes__is_refused() -> None:
    version = world.version()
    path_of(version).unlink()
    with pytest.raises(Unavailable, match="missing"):
        local_path(version)


@pytest.mark.django_db
def test_local_path__storage_that_is_no_folder__is_fetched(settings: Any, data_root: Path) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "artifacts": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    content = world.model_bytes()
    path = local_path(world.version(content=content))
    assert path.is_relative_to(data_root)
    assert path.read_bytes() == content


# ---------------------------------------------------------------------- the manifest


@pytest.mark.django_db
def test_register_version__files_beside_the_model__are_listed_and_verified(data_root: Path) -> None:
    notes = world.artifact_file(b"notes", "notes")
    version = world.version(files=[("docs/notes.txt", notes), ("copy.skops", world.artifact_file(world.model_bytes()))])
    assert [(file.path, file.role) for file in version.files.all()] == [
        ("copy.skops", "other"),
        ("docs/notes.txt", "other"),
        ("model.skops", "model"),
    ]
    assert Blob.objects.count() == 2
    assert version.manifest_digest == manifest.digest(artifacts.entries(version))
    assert verify(version) == []


@pytest.mark.django_db
def test_verify__lost_and_changed_files__are_named() -> None:
    version = world.version(files=[("notes.txt", world.artifact_file(b"notes", "notes"))])
    path_of(version).unlink()
    notes = Path(storages["artifacts"].path(stored_name(version.files.get(path="notes.txt").blob_id)))
    notes.unlink()
    notes.write_bytes(b"nodes")
    assert {problem.path: problem.message.split()[0] for problem in verify(version)} == {
        "model.skops": "The",
        "notes.txt": "Its",
    }


@pytest.mark.django_db
def test_migration__versions_from_before__get_their_manifest() -> None:
    version = world.version()
    fields = {field.attname: getattr(version, field.attname) for field in ModelVersion._meta.concrete_fields}
    old = ModelVersion.objects.create(
        **{**fields, "id": None, "number": 2, "content_digest": "", "manifest_digest": ""}
    )
    migration = import_module("registry.migrations.0003_list_files_of_versions")
    migration.list_files(apps, connection.schema_editor())
    old.refresh_from_db()
    assert old.manifest_digest == version.manifest_digest
    assert [(file.path, file.role, file.blob_id) for file in old.files.all()] == [
        ("model.skops", "model", version.artifact_digest)
    ]
    assert verify(old) == []
    guards.install()
    record("model_version.registered", old, actor=ROBOT)  # what tells of the rows that this test wrote


# ---------------------------------------------------------------------- quota


def _quota(bytes_: int) -> None:
    actions.set_quota(registered_model(), bytes=bytes_, reason="Disks.", actor=pete(), now=NOON)


@pytest.mark.django_db
def test_quota__version_that_does_not_fit__is_refused_with_what_is_used() -> None:
    version = world.version()
    _quota(2**20)
    world.version(commit="c" * 40)  # the same bytes take no more
    used = used_bytes(version.registered_model)
    assert used == version.artifact_bytes
    with pytest.raises(InvalidInput, match=f"take {used:,} of 1,048,576 bytes; this version adds 1,048,576"):
        world.version(files=[("big.bin", world.artifact_file(bytes(2**20), "big"))], commit="d" * 40)
    assert [name.name for name in (path_of(version).parent.parent).rglob("*") if name.is_file()] == [
        version.artifact_digest
    ]


@pytest.mark.django_db
def test_quota__of_the_portal__counts_where_the_model_has_none(settings: Any) -> None:
    settings.GATEHOUSE_MODEL_QUOTA_BYTES = 10
    with pytest.raises(InvalidInput, match="of 10 bytes"):
        world.version()


# ---------------------------------------------------------------------- several at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_register_version__eight_different_at_once__do_not_overshoot_the_quota() -> None:
    registered_model()
    size = 300 * 2**10
    _quota(2**20)
    files = [world.artifact_file(bytes([number]) * size, f"b{number}") for number in range(8)]
    model = world.artifact_file(world.model_bytes())

    outcomes = race(lambda number: world.version(artifact=model, files=[("b.bin", files[number])]))

    done = [each for each in outcomes if isinstance(each, ModelVersion)]
    assert len(done) == 3
    assert all(isinstance(each, ModelVersion | InvalidInput) for each in outcomes), outcomes
    assert used_bytes(registered_model()) <= 2**20
    assert sorted(each.number for each in done) == [1, 2, 3]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_register_version__same_content_eight_times_at_once__is_one_version() -> None:
    registered_model()
    notes = world.artifact_file(b"notes", "notes")
    model = world.artifact_file(world.model_bytes())

    outcomes = race(lambda number: world.version(artifact=model, files=[("notes.txt", notes)]))

    assert {each.pk for each in outcomes} == {ModelVersion.objects.get().pk}
    assert Event.objects.filter(name="model_version.registered").count() == 1
    assert verify(ModelVersion.objects.get()) == []
