"""How long the files of versions are kept: retention, legal holds, quotas, and the removal of what is past it.

Who may: retention and quota are the platform owner's, whose disks these are. Any owner and any auditor may place a
hold, for it only keeps. Releasing one lets bytes go for good: an auditor or an administrator does it, and never who
placed it.
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction

from audit.errors import Conflict, InvalidInput, NotFound, NotPermitted
from audit.models import Event
from audit.trail import Actor, record
from registry import artifacts
from registry.actions.rows import person
from registry.duties import has_duty, is_auditor, require
from registry.models import Blob, Duty, LegalHold, ModelVersion, RegisteredModel

MOST_DAYS = 36_500
LEAST_QUOTA = 2**20
MOST_QUOTA = 2**50


# ---------------------------------------------------------------------- legal holds


def place_hold(version: ModelVersion, *, reason: str, actor: Actor, now: datetime) -> LegalHold:
    """Nothing of this version may be removed from now on. Raises Conflict while one stands already."""
    _require_placer(actor, version)
    hold = LegalHold(version=version, reason=_said(reason), placed_by_id=_someone(actor), placed_at=now)
    with transaction.atomic():
        # Before the log is written: its order is then the order in which hold and removal of shared bytes took place.
        ModelVersion.objects.select_for_update(no_key=True).only("pk").get(pk=version.pk)
        try:
            with transaction.atomic():
                hold.save(force_insert=True)
        except IntegrityError as refusal:
            raise Conflict(f"{version} is on hold already.") from refusal
        record("legal_hold.placed", version, actor=actor, reason=reason, data={"hold": hold.pk})
    return hold


def release_hold(version: ModelVersion, *, reason: str, actor: Actor, now: datetime) -> LegalHold:
    """End the hold of a version: its model's retention counts again. Raises NotFound where none stands."""
    with transaction.atomic():
        standing = LegalHold.objects.select_for_update(no_key=True, of=("self",)).filter(version=version)
        hold = standing.filter(released_at__isnull=True).select_related("placed_by").first()
        if hold is None:
            raise NotFound(f"{version} is not on hold.")
        _require_releaser(actor, hold)
        hold.released_by_id, hold.released_at = _someone(actor), now
        hold.save(update_fields=["released_by", "released_at"])
        data = {"hold": hold.pk, "placed_by": hold.placed_by.get_username(), "placed_at": hold.placed_at.isoformat()}
        record("legal_hold.released", version, actor=actor, reason=_said(reason), data=data)
    return hold


def may_place(user: AbstractBaseUser, version: ModelVersion) -> bool:
    """Any owner, any auditor."""
    return is_auditor(user) or has_duty(user, version.registered_model, *Duty)


def may_release(user: AbstractBaseUser, hold: LegalHold) -> bool:
    """An auditor or an administrator, but not who placed it."""
    is_office = is_auditor(user) or (user.is_active and bool(getattr(user, "is_superuser", False)))
    return is_office and user.pk != hold.placed_by_id


def _require_placer(actor: Actor, version: ModelVersion) -> None:
    if not (isinstance(actor, AbstractBaseUser) and may_place(actor, version)):
        raise NotPermitted(f"{actor} may not place a hold on {version}. Who may: its three owners, and auditors.")


def _require_releaser(actor: Actor, hold: LegalHold) -> None:
    if not (isinstance(actor, AbstractBaseUser) and may_release(actor, hold)):
        raise NotPermitted(
            f"{actor} may not release the hold on {hold.version}. Who may: an auditor or an administrator, "
            f"and not {hold.placed_by.get_username()}, who placed it."
        )


def _someone(actor: Actor) -> int:
    """A hold is a person's act."""
    return int(person(actor))


def _said(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    return reason


# ---------------------------------------------------------------------- policies of a model


def set_retention(
    registered_model: RegisteredModel, *, days: int | None, reason: str, actor: Actor, now: datetime
) -> None:
    """How long the files of a version are kept that nothing refers to; None: for ever. Nothing changed: no event."""
    require(actor, registered_model, Duty.PLATFORM)
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise InvalidInput({"days": f"1 to {MOST_DAYS} days, or nothing: files are kept for ever."})
    _change(registered_model, "retention_days", days, "registered_model.retention_set", reason, actor)


def set_quota(
    registered_model: RegisteredModel, *, bytes: int | None, reason: str, actor: Actor, now: datetime
) -> None:
    """What all files of a model may take together; None: the setting's. Nothing changed: no event.

    A quota below what is used already removes nothing; it only refuses more.
    """
    require(actor, registered_model, Duty.PLATFORM)
    if bytes is not None and not LEAST_QUOTA <= bytes <= MOST_QUOTA:
        raise InvalidInput({"bytes": f"{LEAST_QUOTA} to {MOST_QUOTA} bytes, or nothing: the portal's quota counts."})
    _change(registered_model, "quota_bytes", bytes, "registered_model.quota_set", reason, actor)


def _change(
    registered_model: RegisteredModel, column: str, value: int | None, event: str, reason: str, actor: Actor
) -> None:
    with transaction.atomic():
        stored = RegisteredModel.objects.select_for_update(no_key=True).get(pk=registered_model.pk)
        before = getattr(stored, column)
        setattr(registered_model, column, value)
        if before == value:
            return
        registered_model.save(update_fields=[column])
        data = {"before": before, "after": value}
        record(event, registered_model, actor=actor, reason=_said(reason), data=data)


# ---------------------------------------------------------------------- removal


def remove_files(version: ModelVersion, *, actor: Actor, now: datetime) -> Event | None:
    """Give up the files of a version that is past its model's retention and that nothing refers to.

    Bytes that another version needs stay. The version's row stays with its manifest; loading it says when and why it
    was removed. ``artifacts.sweep`` deletes the bytes after this was committed. None: there was nothing to give up.
    Raises Conflict for a version whose files must stay.
    """
    with transaction.atomic():
        version = _locked_with_sharers(version)
        _require_removable(version, now=now)
        mine = [blob.pk for blob in artifacts.blobs_of(version)]
        locked = list(Blob.objects.select_for_update().filter(pk__in=mine, removed_at__isnull=True).order_by("pk"))
        going = [blob for blob in locked if not _needed_by_others(blob, version, now=now)]
        if not going:
            return None
        days = version.registered_model.retention_days
        because = f"{version} was past its retention of {days} days and nothing referred to it."
        Blob.objects.filter(pk__in=[blob.pk for blob in going]).update(removed_at=now, removed_because=because)
        data = {
            "files": [{"digest": blob.pk, "bytes": blob.bytes} for blob in going],
            "bytes": sum(blob.bytes for blob in going),
            "retention_days": days,
        }
        return record("artifact.removed", version, actor=actor, reason=because, data=data)


def _locked_with_sharers(version: ModelVersion) -> ModelVersion:
    """The version as it is now, locked together with all that have some of its bytes.

    FOR UPDATE, in one order: whoever is about to refer to one of them waits for us, or was first and is seen.
    """
    sharing = {each.pk for blob in artifacts.blobs_of(version) for each in artifacts.users_of(blob)}
    locked = ModelVersion.objects.select_for_update(of=("self",)).select_related("registered_model").order_by("pk")
    return {each.pk: each for each in locked.filter(pk__in={version.pk, *sharing})}[version.pk]


def _require_removable(version: ModelVersion, *, now: datetime) -> None:
    why = artifacts.references(version)
    if not artifacts.is_past_retention(version, now=now):
        why = [f"{version.registered_model} keeps its versions longer", *why]
    if why:
        raise Conflict(f"The files of {version} must stay: {'; '.join(why)}.")


def _needed_by_others(blob: Blob, version: ModelVersion, *, now: datetime) -> bool:
    """Whether a version that is kept has these bytes too. Versions that are all due let them go together."""
    others = [each for each in artifacts.users_of(blob) if each.pk != version.pk]
    return any(not artifacts.is_past_retention(each, now=now) or artifacts.references(each) for each in others)
