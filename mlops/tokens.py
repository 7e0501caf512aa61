"""API tokens: who may call us, until when. A token is shown once and kept as a digest; both ends leave an event."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from audit.errors import InvalidInput, NotPermitted
from audit.models import ApiToken
from audit.trail import record

LONGEST = timedelta(days=366)


def issue(*, user: User, days: float, reason: str, actor: User, now: datetime) -> str:
    """A new token of ``user`` for so many days (wall clock); the text is in the answer and nowhere else."""
    _require_own(user, actor)
    lifetime = timedelta(days=days)
    if not timedelta(0) < lifetime <= LONGEST:
        raise InvalidInput({"days": f"More than 0 and at most {LONGEST.days}."})
    with transaction.atomic():
        token, text = ApiToken.objects.create(user, expiry=lifetime)
        record("token.issued", user, actor=actor, reason=reason, data={"token": token.token_key, "days": days})
    return str(text)


def revoke(token: Any, *, reason: str, actor: User, now: datetime) -> None:
    """End a token at once; whoever still uses it is refused."""
    _require_own(token.user, actor)
    with transaction.atomic():
        record("token.revoked", token.user, actor=actor, reason=reason, data={"token": token.token_key})
        token.delete()


def _require_own(user: User, actor: User) -> None:
    if actor.pk != user.pk and not actor.is_superuser:
        raise NotPermitted(f"Tokens of {user} are issued and revoked by {user} or an administrator.")
