import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages

from audit.errors import InvalidInput, Unavailable
from registry.artifacts import local_path, store, stored_name
from tests.registry import world


def test_store__same_bytes_twice__keeps_one_file_under_their_digest(data_root: Path) -> None:
    first, second = store(io.BytesIO(b"model")), store(io.BytesIO(b"model"))
    assert first == second
    assert first.digest == hashlib.sha256(b"model").hexdigest()
    assert [path.name for path in (data_root / "artifacts").rglob("*") if path.is_file()] == [first.digest]


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
    Path(storages["artifacts"].path(stored_name(version.artifact_digest))).write_bytes(b"other")
    with pytest.raises(Unavailable, match="damaged"):
        local_path(version)


@pytest.mark.django_db
def test_local_path__lost_bytes__is_refused() -> None:
    version = world.version()
    storages["artifacts"].delete(stored_name(version.artifact_digest))
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
