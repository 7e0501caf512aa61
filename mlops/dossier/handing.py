"""Reports over HTTP: each form as an attachment, always the same bytes for an issued report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.utils.http import content_disposition_header

from audit.models import Report
from mlops.dossier.issuing import document_of, sealed
from mlops.dossier.page import render_html
from mlops.dossier.paper import render_pdf
from mlops.dossier.zipped import VERIFIER, archive, file_name

JSON, HTML, PDF, ZIP = "json", "html", "pdf", "zip"
TYPES = {
    JSON: "application/json",
    HTML: "text/html; charset=utf-8",
    PDF: "application/pdf",
    ZIP: "application/zip",
}
_WRITERS: dict[str, Callable[[Report], bytes]] = {
    JSON: lambda report: sealed(report, document_of(report)),
    HTML: lambda report: render_html(document_of(report)).encode(),
    PDF: lambda report: render_pdf(document_of(report)),
    ZIP: archive,
}


def handed_out(report: Report, form: str) -> HttpResponse:
    """The report in one of the forms of ``TYPES``, to be saved. Raises Conflict like ``document_of``."""
    return _attached(_WRITERS[form](report), TYPES[form], f"{file_name(report)}.{form}")


def verifier() -> HttpResponse:
    """The stand-alone script that checks a report."""
    return _attached(VERIFIER.read_bytes(), "text/x-python; charset=utf-8", VERIFIER.name)


def _attached(content: bytes, media_type: str, name: str) -> HttpResponse:
    headers: dict[str, Any] = {
        "Content-Disposition": content_disposition_header(True, name),
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    return HttpResponse(content, content_type=media_type, headers=headers)
