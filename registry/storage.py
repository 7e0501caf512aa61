"""Where model files lie: a folder in which a file is written once, and which forgets nothing on request."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from django.core.files.storage import FileSystemStorage

from audit.errors import Conflict


class WriteOnceFolder(FileSystemStorage):
    """A folder whose files are never overwritten. Only ``registry.artifacts`` removes one, by ``remove``."""

    def put(self, staged: Path, name: str) -> None:
        """Give a finished file its name, in one step and only if nobody has it: readers never see half a file."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # the name is the digest: these are the same bytes
            os.link(staged, target)

    def remove(self, name: str) -> None:
        Path(self.path(name)).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Refused: bytes go only by a model's retention, with an event."""
        raise Conflict("Files of versions are removed by their model's retention, never one by one.")
