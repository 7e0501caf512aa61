"""Take in the files of a version: look into the model in a process of its own, store all of them, list them.

This happens before anything is locked: a child process and a copy take their time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from audit.errors import InvalidInput, Unavailable
from engines import inspection
from registry import artifacts, manifest
from registry.artifacts import Staged, StoredArtifact
from registry.manifest import Entry
from registry.models import RegisteredModel

Source = Path | Staged | BinaryIO
"""A file on our disk, one that was measured while it was uploaded, or an open one."""


@dataclass(frozen=True)
class Received:
    """Files that are stored and looked into, to be registered as one version. ``name`` is the model's file.

    ``facts`` are what the model's file says of itself: shown with the version, obeyed nowhere.
    """

    name: str
    model: StoredArtifact
    others: tuple[Entry, ...]
    load_class: str
    reason: str
    facts: Mapping[str, Any]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every file, the model's first."""
        return (Entry(self.name, self.model.digest, self.model.bytes), *self.others)

    @property
    def manifest_digest(self) -> str:
        return manifest.digest(self.entries)


def receive(
    *,
    registered_model: RegisteredModel,
    artifact: Source,
    artifact_name: str,
    files: Sequence[tuple[str, Source]] = (),
) -> Received:
    """Inspect the model's file and store it with the others. ``files`` are path and content.

    Raises InvalidInput for a name, a size or a sum of sizes that can not be accepted; nothing is stored then.
    """
    _check_names(artifact_name, [path for path, _ in files])
    with ExitStack() as stack:
        model = stack.enter_context(_staged(artifact, "artifact"))
        others = [(path, stack.enter_context(_staged(content, "files"))) for path, content in files]
        coming = [staged.artifact for staged in (model, *(staged for _, staged in others))]
        artifacts.refuse_over_quota(registered_model, coming)  # decided again under the lock; this saves the work
        finding = _inspected(model.path)
        for staged in (model, *(staged for _, staged in others)):
            artifacts.keep(staged)
        return Received(
            name=artifact_name,
            model=model.artifact,
            others=tuple(Entry(path, each.artifact.digest, each.artifact.bytes) for path, each in others),
            load_class=finding.load_class,
            reason=finding.reason,
            facts=finding.facts,
        )


def _check_names(artifact_name: str, paths: Sequence[str]) -> None:
    wrong: dict[str, str] = {}
    for field, path in (("artifact", artifact_name), *(("files", path) for path in paths)):
        try:
            manifest.check_path(path)
        except manifest.PathError as problem:
            wrong[field] = str(problem)
    # compared as a file system would that knows no case
    if len({path.casefold() for path in (artifact_name, *paths)}) < len(paths) + 1:
        wrong.setdefault("files", "Two files have the same path.")
    if len(paths) > manifest.MAX_FILES:
        wrong["files"] = f"At most {manifest.MAX_FILES} files go with a model; these are {len(paths)}."
    if wrong:
        raise InvalidInput(wrong)


@contextmanager
def _staged(source: Source, field: str) -> Iterator[Staged]:
    if isinstance(source, Staged):
        yield source
    elif isinstance(source, Path):
        with source.open("rb") as file, artifacts.stage(file, field=field) as staged:
            yield staged
    else:
        source.seek(0)
        with artifacts.stage(source, field=field) as staged:
            yield staged


def _inspected(path: Path) -> inspection.Finding:
    try:
        return inspection.inspect(path, allowed_hosts=settings.GATEHOUSE_EXTERNAL_HOSTS)
    except inspection.Uninspectable as problem:
        raise Unavailable(f"The file could not be looked into; send it again. {problem}") from problem
