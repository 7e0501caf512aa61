"""The digest of a code folder that ties CI evidence to a version: the same in the portal and in a checkout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def code_digest(folder: Path | str) -> str:
    """SHA-256 over ``<sha256 of a file>  <its path>`` per file, a line each, by path: what ``sha256sum`` prints.

    Hidden files, caches and compiled files do not count. Raises NotADirectoryError where there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"There is no folder {str(root)!r}.")
    digest = hashlib.sha256()
    for file in sorted(_files(root), key=lambda file: file.relative_to(root).as_posix()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content}  {file.relative_to(root).as_posix()}\n".encode())
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield Path(parent, name)
