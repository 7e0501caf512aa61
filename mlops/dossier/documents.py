"""Build a report's document: a pure function of its subject and the log's position.

Built again for the same position it is the same to the byte, whatever has happened since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rfc8785

from mlops.dossier import ended, judged, lived, made, proof, words
from mlops.dossier.case import Case
from mlops.dossier.fields import Section, completeness, moment
from mlops.dossier.log import Log
from mlops.dossier.occurrence import Occurrence, sections_of
from mlops.dossier.proof import GENERATOR
from monitoring.models import Incident
from registry.models import ModelVersion

FORMAT = "gatehouse-report/1"
DOSSIER, INCIDENT = "dossier", "incident"
PURPOSE = (
    "This report is evidence for the requirements named with each section. It does not say that any of them is met: "
    "that is for people to judge."
)
SECTIONS = (
    made.identity,
    words.purpose,
    words.ownership,
    made.data,
    made.development,
    judged.performance,
    judged.validation,
    words.limitations,
    judged.approvals,
    lived.deployment,
    lived.monitoring,
    lived.incidents,
    ended.changes,
    ended.retirement,
)
"""With ``proof`` the fifteen of the registry research, section 5.2, in its order."""


def build(version: ModelVersion, *, position: int) -> dict[str, Any]:
    """The dossier of a version as the log up to ``position`` tells it.

    Raises NotFound when the log has no such position or did not know the version yet, Conflict when no signed
    checkpoint covers the position.
    """
    log = Log(position, registered_model=version.registered_model.name)
    case = Case(version, log)
    subject = {
        "type": version._meta.label_lower,
        "id": version.pk,
        "label": str(version),
        "model": version.registered_model.name,
        "version": version.number,
    }
    return _document(DOSSIER, f"Dossier of {version}", subject, log, [each(case) for each in SECTIONS])


def build_incident(incident: Incident, *, position: int) -> dict[str, Any]:
    """The report of an incident as the log up to ``position`` tells it. Raises like ``build``."""
    of = incident.registered_model
    log = Log(position, registered_model=of.name if of else "")
    occurrence = Occurrence(incident, log)
    subject = {
        "type": incident._meta.label_lower,
        "id": incident.pk,
        "label": occurrence.title,
        "model": of.name if of else "",
    }
    title = f"Report of incident {incident.pk}: {occurrence.title}"
    return _document(INCIDENT, title, subject, log, sections_of(occurrence))


def canonical(document: Any) -> bytes:
    """The one way to write a document down: RFC 8785."""
    return rfc8785.dumps(document)


def _document(kind: str, title: str, subject: dict[str, Any], log: Log, sections: Sequence[Section]) -> dict[str, Any]:
    checkpoint = proof.covering(log.position)
    ids = proof.cited(sections)
    whole = [*sections, proof.section(log, checkpoint, len(ids))]
    return {
        "format": FORMAT,
        "generator": GENERATOR,
        "kind": kind,
        "title": title,
        "subject": subject,
        "position": log.position,
        "as_of": moment(log.at),
        "purpose": PURPOSE,
        "completeness": completeness(whole),
        "sections": [section.as_dict() for section in whole],
        "proof": proof.members(log, checkpoint, ids),
    }
