"""Who may do what to a registered model: three duties, each with the group that has it."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser

from audit.errors import NotPermitted
from audit.trail import Actor, Service
from registry.models import AUDITORS, Duty, RegisteredModel


def require(actor: Actor, registered_model: RegisteredModel, *duties: Duty) -> None:
    """Raise NotPermitted unless the actor has at least one of the duties for this model.

    Gatehouse itself (a ``Service``) may. A superuser may not by being one: a duty is a group's, not an administrator's.
    """
    if isinstance(actor, Service) or has_duty(actor, registered_model, *duties):
        return
    could = " or ".join(f"{Duty(duty).label} ({registered_model.owner(duty)})" for duty in duties)
    raise NotPermitted(f"{actor.get_username()} may not do this for {registered_model}. Who may: {could}.")


def has_duty(user: AbstractBaseUser, registered_model: RegisteredModel, *duties: Duty) -> bool:
    """Whether one of the user's groups has one of the duties for this model. Never true for an auditor."""
    if not user.is_active:
        return False
    mine = set(user.groups.values_list("name", flat=True))  # type: ignore[attr-defined]  # PermissionsMixin's field
    return AUDITORS not in mine and any(registered_model.owner(duty).name in mine for duty in duties)


def is_auditor(user: AbstractBaseUser) -> bool:
    """Whether the user reads for the auditors."""
    return user.is_active and user.groups.filter(name=AUDITORS).exists()  # type: ignore[attr-defined]  # as above


def require_founder(actor: Actor, group_name: str) -> None:
    """Raise NotPermitted unless the actor may found a model that this data science group will own.

    Somebody has to begin, so here an administrator may too.
    """
    if isinstance(actor, Service) or (actor.is_active and _may_found(actor, group_name)):
        return
    raise NotPermitted(
        f"{actor.get_username()} may not register a model for {group_name}. Who may: a member of {group_name}, "
        "or an administrator."
    )


def _may_found(user: AbstractBaseUser, group_name: str) -> bool:
    mine = set(user.groups.values_list("name", flat=True))  # type: ignore[attr-defined]  # PermissionsMixin's field
    return AUDITORS not in mine and (getattr(user, "is_superuser", False) or group_name in mine)
