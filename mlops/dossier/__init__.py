"""Audit reports: the dossier of a version and the report of an incident, from one canonical JSON.

    document = build(version, position=chain.head().position)     # the same position: the same bytes
    report = issue(version, actor=auditor, now=clock.now())       # written down, with one event
    render_html(document), render_pdf(document), archive(report)

Evidence for requirements, never a claim that they are met. ``verify_dossier.py`` checks a report offline.
"""

from mlops.dossier.documents import build, build_incident, canonical
from mlops.dossier.issuing import document_of, issue, issue_incident, sealed
from mlops.dossier.page import render_html
from mlops.dossier.paper import render_pdf
from mlops.dossier.proof import GENERATOR
from mlops.dossier.zipped import archive

__all__ = [
    "GENERATOR",
    "archive",
    "build",
    "build_incident",
    "canonical",
    "document_of",
    "issue",
    "issue_incident",
    "render_html",
    "render_pdf",
    "sealed",
]
