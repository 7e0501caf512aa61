"""Forms with model files: each file is hashed while it arrives and lies where it will stay, so nothing reads it twice.

Names of parts are taken as they were sent and judged by the verb: a parser that quietly drops ``../`` would register
something else than was meant.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from audit.rest import refuse_larger
from registry.artifacts import Arriving, Staged

FORM_BYTES = 2**20
"""What a registration may have beside its files: the lineage and the form itself."""


class Upload(UploadedFile):  # type: ignore[type-arg]  # generic in the stubs alone
    """A file that has arrived. ``name`` is as it was sent: to be checked, never opened."""

    def __init__(self, arriving: Arriving, staged: Staged, *, field: str, name: str, content_type: str) -> None:
        super().__init__(
            arriving.reader(), None, content_type, staged.artifact.bytes, "", {}
        )  # without a name, which Django would change
        self.staged, self.field_name, self._sent = staged, field, name
        self._arriving = arriving

    @property
    def name(self) -> str:
        return self._sent

    @name.setter
    def name(self, value: str | None) -> None:
        """Django sets what it was given: nothing."""

    def close(self) -> None:
        self._arriving.close()


class _Arrivals(FileUploadHandler):
    """Puts each file of a form into a staging file of the artifact storage."""

    chunk_size = 2**20

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, file_name, *args, **kwargs)
        self.file = Arriving(field_name)  # the name by which the parser closes what it does not finish

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> Upload:
        staged = self.file.arrived()
        return Upload(
            self.file,
            staged,
            field=self.field_name or "",
            name=self.file_name or "",
            content_type=self.content_type or "",
        )


class _PlainNames(MultiPartParser):
    """Django's parser, but for the names of files: see the module's docstring."""

    def sanitize_file_name(self, file_name: str) -> str:
        return file_name


class VersionParser(parsers.MultiPartParser):
    """A model's file, what lies beside it, and its lineage."""

    def most_bytes(self) -> int:
        return 2 * int(settings.GATEHOUSE_MAX_ARTIFACT_BYTES) + FORM_BYTES

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        request = parser_context["request"]
        refuse_larger(request, self.most_bytes())
        meta = {**request.META, "CONTENT_TYPE": media_type}
        encoding = parser_context.get("encoding", settings.DEFAULT_CHARSET)
        try:
            data, files = _PlainNames(meta, stream, [_Arrivals(request._request)], encoding).parse()
        except MultiPartParserError as problem:
            raise ParseError(f"The form can not be read: {problem}") from problem
        return parsers.DataAndFiles(data, files)
