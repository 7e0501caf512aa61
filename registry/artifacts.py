"""Model files: hashed while they arrive, written once under their SHA-256, checked against it at every load.

A file comes as a stream or as an upload. Either way it is written once to a staging file, hashed on the way, and then
given its name in the storage (``keep``); the row of its ``Blob`` says that it is there, or when and why it was removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db import transaction
from django.db.models import Q, Sum
from django.utils.module_loading import import_string

from audit import clock
from audit.errors import InvalidInput, NotFound, Unavailable
from audit.models import Event, Report
from registry import manifest
from registry.manifest import Entry
from registry.models import ArtifactFile, Blob, ConversionOutcome, ModelVersion, RegisteredModel
from registry.storage import WriteOnceFolder

CHUNK_BYTES = 2**20
UNUSED_AFTER = timedelta(days=1)
"""Bytes that no version and no conversion took up by then are nobody's."""
SWEPT_FOR = timedelta(days=30)
UNRECORDED = "Its upload ended before it was recorded."

Users = Callable[[ModelVersion], Sequence[str]]


# ---------------------------------------------------------------------- arriving


@dataclass(frozen=True)
class StoredArtifact:
    """``digest`` is the SHA-256 of the bytes, in hexadecimal."""

    digest: str
    bytes: int


@dataclass(frozen=True)
class Staged:
    """A file of ours on the disk of the storage, not named yet, with what was measured while it was written."""

    path: Path
    artifact: StoredArtifact


class Arriving:
    """A staging file that measures what is written to it. Closed, it is gone, unless it was kept meanwhile.

    ``field`` is named when the file is refused.
    """

    def __init__(self, field: str = "artifact") -> None:
        folder = _staging()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = NamedTemporaryFile(dir=folder)  # noqa: SIM115  # closed by whoever has it arrive
        self._digest, self._bytes, self._field = hashlib.sha256(), 0, field

    def write(self, chunk: bytes) -> None:
        """Raises InvalidInput as soon as there are more bytes than are accepted."""
        self._bytes += len(chunk)
        if self._bytes > settings.GATEHOUSE_MAX_ARTIFACT_BYTES:
            raise self._refusal("more than that")
        self._digest.update(chunk)
        self._file.write(chunk)

    def arrived(self) -> Staged:
        """All of it is here, and on the disk. Raises InvalidInput for an empty file."""
        if not self._bytes:
            raise self._refusal("none")
        self._file.flush()
        os.fsync(self._file.fileno())
        os.fchmod(self._file.fileno(), 0o444)
        return Staged(Path(self._file.name), StoredArtifact(self._digest.hexdigest(), self._bytes))

    def reader(self) -> BinaryIO:
        """The bytes, to be read."""
        return cast(BinaryIO, self._file.file)

    def close(self) -> None:
        self._file.close()

    def _refusal(self, found: str) -> InvalidInput:
        most = settings.GATEHOUSE_MAX_ARTIFACT_BYTES
        return InvalidInput({self._field: f"A file has 1 to {most} bytes; this one has {found}."})


@contextmanager
def stage(file: BinaryIO, *, field: str = "artifact") -> Iterator[Staged]:
    """The bytes of ``file`` from where it stands, as a staging file that is gone after the block."""
    arriving = Arriving(field)
    try:
        while chunk := file.read(CHUNK_BYTES):
            arriving.write(chunk)
        yield arriving.arrived()
    finally:
        arriving.close()


def _staging() -> Path:
    storage = storages["artifacts"]
    if isinstance(storage, FileSystemStorage):
        return Path(storage.location, ".staging")  # on one disk with the files: naming one copies nothing
    return Path(settings.DATA_ROOT, "staging")


# ---------------------------------------------------------------------- stored


def store(file: BinaryIO) -> StoredArtifact:
    """Keep a seekable file's bytes; storing the same bytes again changes nothing.

    Raises InvalidInput for an empty file and for one above ``GATEHOUSE_MAX_ARTIFACT_BYTES``.
    """
    file.seek(0)
    with stage(file) as staged:
        return keep(staged)


def keep(staged: Staged) -> StoredArtifact:
    """Give staged bytes their place under their digest, where they stay; their ``Blob`` says so.

    Several may do this with the same bytes at once. Bytes that were removed once are there again.
    """
    artifact = staged.artifact
    _put(staged)
    with transaction.atomic():
        Blob.objects.get_or_create(digest=artifact.digest, defaults={"bytes": artifact.bytes, "stored_at": clock.now()})
        # The row's lock keeps ``sweep`` away until these bytes are there again and nobody says otherwise.
        if Blob.objects.select_for_update().filter(pk=artifact.digest, removed_at__isnull=False).exists():
            _put(staged)
            Blob.objects.filter(pk=artifact.digest).update(removed_at=None, removed_because="")
    return artifact


def _put(staged: Staged) -> None:
    storage, name = storages["artifacts"], stored_name(staged.artifact.digest)
    if isinstance(storage, WriteOnceFolder):
        storage.put(staged.path, name)
    elif not storage.exists(name):
        with staged.path.open("rb") as file:
            kept = storage.save(name, File(file, name=name))
        if kept != name:  # somebody stored the same bytes meanwhile
            storage.delete(kept)


def stored_name(digest: str) -> str:
    """Where the bytes lie in the artifact storage."""
    return f"{digest[:2]}/{digest}"


def used_bytes(registered_model: RegisteredModel) -> int:
    """What the files of all versions of a model take, each once however many versions share it."""
    files = ArtifactFile.objects.filter(version__registered_model=registered_model)
    kept = Blob.objects.filter(removed_at__isnull=True, pk__in=files.values("blob"))
    return int(kept.aggregate(sum=Sum("bytes"))["sum"] or 0)


def quota_of(registered_model: RegisteredModel) -> int:
    """In bytes: the model's own, or the setting's."""
    own = registered_model.quota_bytes
    return int(settings.GATEHOUSE_MODEL_QUOTA_BYTES if own is None else own)


def refuse_over_quota(registered_model: RegisteredModel, coming: Iterable[StoredArtifact]) -> None:
    """Raise InvalidInput when these files do not fit beside the model's others.

    Holds only as long as nobody else registers for the model: decide under its row's lock.
    """
    sizes = {each.digest: each.bytes for each in coming}
    there = ArtifactFile.objects.filter(
        version__registered_model=registered_model, blob__in=sizes, blob__removed_at__isnull=True
    )
    known = set(there.values_list("blob", flat=True))
    more = sum(size for digest, size in sizes.items() if digest not in known)
    used, quota = used_bytes(registered_model), quota_of(registered_model)
    if more and used + more > quota:
        raise InvalidInput(
            {
                "artifact": f"The files of {registered_model} take {used:,} of {quota:,} bytes; this version adds "
                f"{more:,}. The platform owner ({registered_model.platform}) can raise the quota."
            }
        )


# ---------------------------------------------------------------------- read


def local_path(version: ModelVersion) -> Path:
    """A local file with exactly the bytes that were registered as the model.

    Raises Unavailable when they are gone, with when and why if they were removed, or changed.
    """
    return path_of(version.artifact_digest, what=f"The artifact of {version}")


def path_of(digest: str, *, what: str) -> Path:
    """A local file with exactly the bytes of this digest; ``what`` names it in the message. Raises Unavailable."""
    _refuse_removed(digest, what)
    try:
        path = _local_copy(digest)
        with path.open("rb") as file:
            found = _digest(file)
    except FileNotFoundError as error:
        raise Unavailable(f"{what} is missing in the artifact storage.") from error
    if found != digest:
        raise Unavailable(f"{what} is damaged: its bytes are not those that were registered.")
    return path


def open_blob(digest: str) -> BinaryIO:
    """Stored bytes, to be read in order. Raises Unavailable when they were removed or are missing.

    They are not checked: whoever reads them compares their SHA-256 with ``digest``.
    """
    _refuse_removed(digest, "This file")
    try:
        return cast(BinaryIO, storages["artifacts"].open(stored_name(digest)))
    except FileNotFoundError as error:
        raise Unavailable(f"The file {digest} is missing in the artifact storage.") from error


def _refuse_removed(digest: str, what: str) -> None:
    blob = Blob.objects.filter(pk=digest, removed_at__isnull=False).first()
    if blob is not None:
        raise Unavailable(f"{what} was removed on {blob.removed_at:%Y-%m-%d %H:%M}: {blob.removed_because}")


def file_of(version: ModelVersion, path: str) -> ArtifactFile:
    """The file of this name in the version's manifest. The name is looked up, never opened. Raises NotFound."""
    found: ArtifactFile | None = version.files.select_related("blob").filter(path=path).first()
    if found is None:
        raise NotFound(f"{version} has no file {path[:200]!r}.")
    return found


def entries(version: ModelVersion) -> list[Entry]:
    """The version's manifest as it is stored, by path."""
    files = version.files.select_related("blob").order_by("path")
    return [Entry(file.path, file.blob_id, file.blob.bytes) for file in files]


@dataclass(frozen=True)
class FileProblem:
    """What is wrong with a file of a version; ``path`` is empty for the manifest itself."""

    path: str
    message: str


def verify(version: ModelVersion) -> list[FileProblem]:
    """Read every file of the version and compare it with what was registered. Empty: all is as it was."""
    stored = entries(version)
    problems = []
    if not stored:
        problems.append(FileProblem("", "No file is recorded for it."))
    elif version.manifest_digest != manifest.digest(stored):
        problems.append(FileProblem("", "The manifest is not the one that was registered."))
    if stored and version.artifact_digest not in {entry.digest for entry in stored}:
        problems.append(FileProblem("", "The model's own file is not in the manifest."))
    found = ((entry.path, _problem_with(entry)) for entry in stored)
    return problems + [FileProblem(path, message) for path, message in found if message]


def _problem_with(entry: Entry) -> str:
    try:
        with open_blob(entry.digest) as file:
            return "" if _digest(file) == entry.digest else "Its bytes are not those that were registered."
    except Unavailable as problem:
        return str(problem)


def _local_copy(digest: str) -> Path:
    """The stored file itself where the storage is a folder, else a copy below the data root."""
    storage = storages["artifacts"]
    if isinstance(storage, FileSystemStorage):
        return Path(storage.path(stored_name(digest)))
    return _fetched(storage, digest)


def _fetched(storage: Storage, digest: str) -> Path:
    target = _cached(digest)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            storage.open(stored_name(digest)) as remote,
            NamedTemporaryFile(dir=target.parent, delete=False) as partial,
        ):
            shutil.copyfileobj(remote, partial)
        Path(partial.name).replace(target)
    return target


def _cached(digest: str) -> Path:
    """Where a copy lies when the storage is no folder of ours."""
    return Path(settings.DATA_ROOT, "cache", "artifacts", digest)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def why_loaded(version: ModelVersion) -> str:
    """Why a version has its load class, as it was found when it was registered."""
    registered = Event.objects.about(version).filter(name="model_version.registered").first()
    return str(registered.data.get("load_class_because", "")) if registered else ""


# ---------------------------------------------------------------------- kept and removed


def references(version: ModelVersion) -> list[str]:
    """Why the bytes of this version may not go, in words; empty when nothing refers to it.

    What only higher apps know (rollouts, gate runs, incidents) is asked of ``GATEHOUSE_ARTIFACT_USERS``.
    """
    reports = Report.objects.filter(subject_type=version._meta.label_lower, subject_id=str(version.pk))
    above: Users = import_string(settings.GATEHOUSE_ARTIFACT_USERS)
    return [
        *(f"it is the {alias.name}" for alias in version.aliases.all()),
        *(f"legal hold: {hold.reason}" for hold in version.holds.filter(released_at__isnull=True)),
        *(f"{report} was issued" for report in reports[:3]),
        *above(version),
    ]


def is_past_retention(version: ModelVersion, *, now: datetime) -> bool:
    days = version.registered_model.retention_days
    return days is not None and version.registered_at + timedelta(days=days) <= now


def past_retention(registered_model: RegisteredModel, *, now: datetime) -> list[ModelVersion]:
    """The versions that still have files and are kept no longer, the oldest first."""
    if registered_model.retention_days is None:
        return []
    before = now - timedelta(days=registered_model.retention_days)
    due = registered_model.versions.filter(registered_at__lte=before, files__blob__removed_at__isnull=True)
    return list(due.distinct().order_by("pk"))


def users_of(blob: Blob) -> list[ModelVersion]:
    """The versions that have these bytes as a file, or are served by them."""
    converted = Q(conversion__blob=blob, conversion__outcome=ConversionOutcome.USED)
    found = ModelVersion.objects.filter(Q(files__blob=blob) | converted).select_related("registered_model").distinct()
    return list(found)


def blobs_of(version: ModelVersion) -> list[Blob]:
    """What is stored for the version and not removed: its files and its converted form."""
    mine = Q(files__version=version) | Q(conversions__version=version)
    return list(Blob.objects.filter(mine, removed_at__isnull=True).distinct().order_by("pk"))


def forget_unused(*, now: datetime) -> int:
    """Mark bytes as removed that no version took up: of a registration that was refused, or lost. The count.

    They were never part of the record, so no event tells of them.
    """
    unused = Blob.objects.filter(files__isnull=True, conversions__isnull=True, removed_at__isnull=True)
    count = 0
    for digest in unused.filter(stored_at__lte=now - UNUSED_AFTER).values_list("pk", flat=True):
        with transaction.atomic():
            Blob.objects.select_for_update().get(pk=digest)  # who registers with it holds this lock: look again then
            because = "Nothing was registered with it."
            count += unused.filter(pk=digest).update(removed_at=now, removed_because=because)
    return count


def sweep(*, now: datetime) -> int:
    """Delete the bytes that were marked as removed, and what was left staged by processes that died. The count.

    The mark was committed before; whoever stores the same bytes meanwhile takes it away under the row's lock.
    """
    count = 0
    for digest in Blob.objects.filter(removed_at__gt=now - SWEPT_FOR).values_list("pk", flat=True):
        with transaction.atomic():
            if Blob.objects.select_for_update().filter(pk=digest, removed_at__isnull=False).exists():
                count += _removed(digest)
    count += _sweep_unrecorded(now)
    _clear_staging()
    return count


def _sweep_unrecorded(now: datetime) -> int:
    """Delete bytes whose upload ended before their row was written; in a folder of ours. The count.

    The row that is written first makes whoever stores the same bytes meanwhile put them there again (``keep``).
    """
    storage = storages["artifacts"]
    if not isinstance(storage, WriteOnceFolder):
        return 0
    count, folder = 0, Path(storage.location)
    oldest = _disk_now(folder) - UNUSED_AFTER.total_seconds() if folder.is_dir() else 0.0
    for stored in folder.glob("??/" + "?" * 64):
        if stored.stat().st_mtime >= oldest or Blob.objects.filter(pk=stored.name).exists():
            continue
        with transaction.atomic():
            values = {
                "bytes": stored.stat().st_size,
                "stored_at": now,
                "removed_at": now,
                "removed_because": UNRECORDED,
            }
            _, is_mine = Blob.objects.get_or_create(digest=stored.name, defaults=values)
            count += is_mine and _removed(stored.name)
    return count


def _removed(digest: str) -> bool:
    storage, name = storages["artifacts"], stored_name(digest)
    _cached(digest).unlink(missing_ok=True)
    if not storage.exists(name):
        return False
    if isinstance(storage, WriteOnceFolder):
        storage.remove(name)
    else:
        storage.delete(name)
    return True


def _clear_staging() -> None:
    """Staging files carry no name that anybody knows; by the disk's clock, no upload takes a day."""
    folder = _staging()
    if not folder.is_dir():
        return
    oldest = _disk_now(folder) - UNUSED_AFTER.total_seconds()
    for left in folder.iterdir():
        if left.stat().st_mtime < oldest:
            left.unlink(missing_ok=True)


def _disk_now(folder: Path) -> float:
    with NamedTemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime
