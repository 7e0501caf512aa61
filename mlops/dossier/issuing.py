"""Issue a report: written down once, with one event that carries its digest and a signature over it.

A report issued earlier is built again when it is asked for, and compared with that digest: nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, models, transaction

from audit import checkpoints, signing
from audit.errors import Conflict, NotPermitted
from audit.models import Event, Link, Report
from audit.trail import Actor, record
from mlops.dossier.documents import DOSSIER, INCIDENT, build, build_incident, canonical
from mlops.dossier.proof import GENERATOR, entry, public_key
from monitoring.actions.incidents import is_owner
from monitoring.models import Incident
from registry.duties import has_duty, is_auditor
from registry.models import Duty, ModelVersion

ISSUED = "report.issued"


def issue(version: ModelVersion, *, actor: Actor, now: datetime) -> Report:
    """Issue the dossier of a version as of the newest event. Auditors may, and whoever has a duty for its model.

    The same report again, and no second event, while nothing but reports has been recorded since the last one.
    """
    person = _person(actor)
    if not may_issue(version, person):
        raise NotPermitted(f"Reports of {version} are issued by auditors and by the groups that own its model.")
    model = version.registered_model.name
    return _issue(version, DOSSIER, model, str(version), lambda at: build(version, position=at), person, now)


def issue_incident(incident: Incident, *, actor: Actor, now: datetime) -> Report:
    """Issue the report of an incident. Auditors may, its owner group, and whoever has a duty for its model."""
    person = _person(actor)
    if not may_issue_incident(incident, person):
        raise NotPermitted("Reports of this incident are issued by auditors and by the groups whose incident it is.")
    label = f"Incident {incident.pk}: {incident.title}"
    model = incident.registered_model.name if incident.registered_model else ""
    return _issue(incident, INCIDENT, model, label, lambda at: build_incident(incident, position=at), person, now)


def _person(actor: Actor) -> User:
    if not isinstance(actor, User):
        raise NotPermitted("Only a person can issue a report.")
    return actor


def may_issue(version: ModelVersion, user: User) -> bool:
    """Auditors, and whoever has a duty for the model."""
    return is_auditor(user) or has_duty(user, version.registered_model, *Duty)


def may_issue_incident(incident: Incident, user: User) -> bool:
    """Auditors, the group whose incident it is, and whoever has a duty for its model."""
    of = incident.registered_model
    return is_auditor(user) or is_owner(user, incident) or (of is not None and has_duty(user, of, *Duty))


def _issue(
    subject: models.Model,
    kind: str,
    model: str,
    label: str,
    build_at: Callable[[int], dict[str, Any]],
    actor: User,
    now: datetime,
) -> Report:
    if (before := _still_current(subject)) is not None:
        return before
    checkpoint = checkpoints.make(now=now)
    if checkpoint is None:
        raise Conflict("The log is empty: there is nothing to report.")
    digest = sha256(canonical(build_at(checkpoint.size))).hexdigest()
    seal = {"kind": kind, "digest": digest, "position": checkpoint.size, "generator": GENERATOR}
    try:
        with transaction.atomic():
            # files that a report tells of are not given up meanwhile (registry.actions.keeping)
            type(subject)._default_manager.select_for_update(no_key=True, of=("self",)).get(pk=subject.pk)
            report = Report.objects.create(
                kind=kind,
                subject_type=subject._meta.label_lower,
                subject_id=str(subject.pk),
                subject_label=label[:200],
                registered_model_name=model,
                position=checkpoint.size,
                digest=digest,
                generator=GENERATOR,
                issued_by=actor,
                issued_at=now,
            )
            record(ISSUED, subject, actor=actor, data={"report": report.pk, **seal, **_signature(seal)})
    except IntegrityError:
        same = _reports(subject).filter(position=checkpoint.size).first()
        if same is None:
            raise
        return same  # somebody issued it at the same moment
    return report


def _reports(subject: models.Model) -> models.QuerySet[Report]:
    about = Report.objects.filter(subject_type=subject._meta.label_lower, subject_id=str(subject.pk))
    return about.filter(generator=GENERATOR)


def _still_current(subject: models.Model) -> Report | None:
    """The last report of a subject, when nothing but reports has been recorded since."""
    last = _reports(subject).order_by("-position").first()
    if last is None:
        return None
    since = Event.objects.filter(link__position__gt=last.position).exclude(name=ISSUED)
    return None if since.exists() else last


def _signature(seal: dict[str, Any]) -> dict[str, str]:
    """By the key that signs checkpoints; the members tell one from the other."""
    key = checkpoints.private_key()
    by = {**seal, "key_id": signing.key_id(key.public_key())}
    return {"key_id": by["key_id"], "signature": key.sign(canonical(by)).hex()}


# ---------------------------------------------------------------------- again


def document_of(report: Report) -> dict[str, Any]:
    """The document of an issued report, built again.

    Raises Conflict when it does not have the digest it was issued with: the record was tampered with, or another
    version of Gatehouse runs here.
    """
    if report.generator != GENERATOR:
        raise Conflict(f"It was written by {report.generator}; this is {GENERATOR}. Its digest is {report.digest}.")
    if report.kind == DOSSIER:
        version = ModelVersion.objects.select_related("registered_model").get(pk=report.subject_id)
        document = build(version, position=report.position)
    else:
        incident = Incident.objects.select_related("registered_model", "version").get(pk=report.subject_id)
        document = build_incident(incident, position=report.position)
    found = sha256(canonical(document)).hexdigest()
    if found != report.digest:
        raise Conflict(
            f"Built again, it has the digest {found}; it was issued with {report.digest}. The record was changed "
            "behind the portal's back: run manage.py verify_audit."
        )
    return document


def sealed(report: Report, document: dict[str, Any]) -> bytes:
    """The report as it is handed out: the canonical JSON with ``seal``, which names its digest and signs it.

    The digest is over the document without its seal. The seal comes from the event of the issue, so these bytes are
    the same whenever they are asked for. Raises Conflict before the transaction of the issue has committed.
    """
    return canonical({**document, "seal": _seal(report)})


def _seal(report: Report) -> dict[str, Any]:
    events = Event.objects.select_related("link").filter(name=ISSUED, data__report=report.pk)
    event = events.filter(subject_type=report.subject_type, subject_id=report.subject_id, link__isnull=False).first()
    if event is None:
        raise Conflict("The log does not tell that this report was issued.")
    before = Link.objects.filter(position=event.link.position - 1).values_list("hash", flat=True).first() or ""
    names = ("kind", "digest", "position", "generator", "key_id", "signature")
    said = {name: event.data[name] for name in names}
    issued = {name: value for name, value in entry(event, before).items() if name != "position"}
    return {**said, "public_key": public_key(event.data["key_id"]).hex(), "issued": issued}
