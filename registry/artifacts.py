"""Model files: written once under the SHA-256 of their bytes, checked against it at every load."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

from audit.errors import InvalidInput, Unavailable
from registry.models import ModelVersion

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class StoredArtifact:
    """``digest`` is the SHA-256 of the bytes, in hexadecimal."""

    digest: str
    bytes: int


def store(file: BinaryIO) -> StoredArtifact:
    """Keep a seekable file's bytes; storing the same bytes again changes nothing.

    Raises InvalidInput for an empty file and for one above ``GATEHOUSE_MAX_ARTIFACT_BYTES``.
    """
    artifact = _measured(file)
    storage, name = storages["artifacts"], stored_name(artifact.digest)
    if not storage.exists(name):
        file.seek(0)
        kept = storage.save(name, File(file, name=name))
        if kept != name:  # somebody stored the same bytes meanwhile
            storage.delete(kept)
    return artifact


def stored_name(digest: str) -> str:
    """Where the bytes lie in the artifact storage."""
    return f"{digest[:2]}/{digest}"


def local_path(version: ModelVersion) -> Path:
    """A local file with exactly the bytes that were registered. Raises Unavailable when they are gone or changed."""
    try:
        path = _local_copy(version.artifact_digest)
        with path.open("rb") as file:
            found = _digest(file)
    except FileNotFoundError as error:
        raise Unavailable(f"The artifact of {version} is missing in the artifact storage.") from error
    if found != version.artifact_digest:
        raise Unavailable(f"The artifact of {version} is damaged: its bytes are not those that were registered.")
    return path


def _local_copy(digest: str) -> Path:
    """The stored file itself where the storage is a folder, else a copy below the data root."""
    storage = storages["artifacts"]
    if isinstance(storage, FileSystemStorage):
        return Path(storage.path(stored_name(digest)))
    return _fetched(storage, digest)


def _fetched(storage: Storage, digest: str) -> Path:
    target = Path(settings.DATA_ROOT, "cache", "artifacts", digest)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            storage.open(stored_name(digest)) as remote,
            NamedTemporaryFile(dir=target.parent, delete=False) as partial,
        ):
            shutil.copyfileobj(remote, partial)
        Path(partial.name).replace(target)
    return target


def _measured(file: BinaryIO) -> StoredArtifact:
    size = file.seek(0, 2)
    most = settings.GATEHOUSE_MAX_ARTIFACT_BYTES
    if not 0 < size <= most:
        raise InvalidInput({"artifact": f"The file has {size} bytes; 1 to {most} are accepted."})
    file.seek(0)
    return StoredArtifact(_digest(file), size)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
