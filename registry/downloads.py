"""A file of a version as an attachment: for saving, never for showing, and with its digest."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from typing import BinaryIO

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from audit.errors import NotFound, Unavailable
from registry import artifacts
from registry.models import ArtifactFile, ModelVersion

CHUNK_BYTES = 2**18


def attachment(version: ModelVersion, path: str) -> StreamingHttpResponse:
    """The file that the version's manifest has under ``path``. Raises NotFound, also for bytes that were removed.

    A browser must not take it for a page of ours, whatever is in it: hence its type, nosniff and the sandbox.
    """
    file = artifacts.file_of(version, path)
    if file.blob.removed_at is not None:
        raise NotFound(f"{path} was removed on {file.blob.removed_at:%Y-%m-%d}: {file.blob.removed_because}")
    digest = b64encode(bytes.fromhex(file.blob_id)).decode()
    return StreamingHttpResponse(
        _Checked(artifacts.open_blob(file.blob_id), file),
        content_type="application/octet-stream",
        headers={
            "Content-Length": str(file.blob.bytes),
            "Content-Disposition": content_disposition_header(True, path.rsplit("/", 1)[-1]) or "attachment",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
            "Cache-Control": "private, no-store",
        },
    )


class _Checked:
    """The bytes, the last of them only if all were those that were registered: else the answer is cut short."""

    def __init__(self, content: BinaryIO, file: ArtifactFile) -> None:
        self._content, self._file = content, file

    def __iter__(self) -> Iterator[bytes]:
        digest, held = hashlib.sha256(), b""
        while chunk := self._content.read(CHUNK_BYTES):
            if held:
                yield held
            digest.update(chunk)
            held = chunk
        if digest.hexdigest() != self._file.blob_id:
            raise Unavailable(f"{self._file} is damaged: its bytes are not those that were registered.")
        yield held

    def close(self) -> None:
        """Called with the response, also when nobody read it."""
        self._content.close()
