"""API tokens: who may call us, for what, until when. Shown once, kept as a digest; both ends leave an event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from audit import scopes as known
from audit.errors import InvalidInput, NotPermitted
from audit.models import ApiToken
from audit.trail import record

LONGEST = timedelta(days=366)
USUAL = timedelta(days=90)
LONGEST_NAME = 80


def issue(
    *,
    user: User,
    scopes: Sequence[str],
    name: str = "",
    days: float = USUAL.days,
    reason: str,
    actor: User,
    now: datetime,
) -> str:
    """A new token of ``user`` for so many days (wall clock); the text is in the answer and nowhere else."""
    _require_own(user, actor)
    lifetime = timedelta(days=days)
    wrong = {}
    if not timedelta(0) < lifetime <= LONGEST:
        wrong["days"] = f"More than 0 and at most {LONGEST.days}."
    if problem := known.unknown(scopes):
        wrong["scopes"] = problem
    if len(name) > LONGEST_NAME:
        wrong["name"] = f"At most {LONGEST_NAME} characters."
    if not user.is_active:
        wrong["user"] = f"The account of {user} is closed."
    if wrong:
        raise InvalidInput(wrong)
    chosen = [scope for scope in known.SCOPES if scope in scopes]
    with transaction.atomic():
        token, text = ApiToken.objects.create(user, expiry=lifetime, scopes=chosen, name=name)
        data = {"token": token.token_key, "name": name, "scopes": chosen, "days": days}
        record("token.issued", user, actor=actor, reason=reason, data=data)
    return str(text)


def revoke(token: Any, *, reason: str, actor: User, now: datetime) -> None:
    """End a token at once; whoever still uses it is refused."""
    user, key, name = token.user, token.token_key, token.name
    _require_own(user, actor)
    with transaction.atomic():
        token.delete()
        record("token.revoked", user, actor=actor, reason=reason, data={"token": key, "name": name})


def end_all(user: User) -> list[str]:
    """End every token of an account that is closed, in the transaction that closes it, whose event names them."""
    tokens = ApiToken.objects.filter(user=user)
    keys = list(tokens.values_list("token_key", flat=True))
    tokens.delete()
    return keys


def _require_own(user: User, actor: User) -> None:
    if actor.pk != user.pk and not actor.is_superuser:
        raise NotPermitted(f"Tokens of {user} are issued and revoked by {user} or an administrator.")
