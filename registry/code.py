"""Which code made a model: the commit that git claims, and a digest of the files that nobody has to believe."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIT_SECONDS = 10


@dataclass(frozen=True)
class CodeState:
    """``commit`` is empty outside a git repository; ``dirty`` tells uncommitted changes in the folder."""

    commit: str
    dirty: bool
    code_digest: str


def code_state(path: Path) -> CodeState:
    """The state of a code folder. Raises NotADirectoryError where there is none."""
    if not path.is_dir():
        raise NotADirectoryError(f"There is no code folder {path.name!r}.")
    commit = _git(path, "rev-parse", "HEAD")
    changes = _git(path, "status", "--porcelain", "--", ".") if commit else ""
    return CodeState(commit=commit, dirty=bool(changes), code_digest=code_digest(path))


def code_digest(folder: Path) -> str:
    """SHA-256 over ``<sha256 of a file>  <its path>`` per file, a line each, by path: what ``sha256sum`` prints.

    Caches and hidden files do not count, so that a pipeline gets the same digest in its own checkout.
    """
    digest = hashlib.sha256()
    for file in sorted(_files(folder), key=lambda file: file.relative_to(folder).as_posix()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content}  {file.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield Path(parent, name)


def _git(folder: Path, *arguments: str) -> str:
    """What git says, or nothing where it is missing, slow or sees no repository."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
