"""Who calls the API: the holder of a token (``mlops.tokens``). Sessions are not accepted there."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone
from knox.auth import TokenAuthentication
from rest_framework import exceptions

from audit.models import ApiToken

log = logging.getLogger(__name__)

NOTED_EVERY = timedelta(minutes=1)
"""A token's last use is written at most so often: a pipeline that asks all the time is no stream of writes."""


class BearerTokens(TokenAuthentication):
    """``Authorization: Bearer gh_…``. An account that was closed, or a token that has expired, is refused at once."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isascii():  # knox would fail to decode it
            raise exceptions.AuthenticationFailed("Invalid token.")
        user, found = super().authenticate_credentials(token)
        _note_use(found)
        return user, found

    def _cleanup_token(self, auth_token: Any) -> bool:
        """Whether it has expired. Knox would delete expired tokens here, of which no event would tell."""
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()


def _note_use(token: ApiToken) -> None:
    """Write when a token was used last, before the view opens its transaction; of several processes one writes."""
    now = timezone.now()
    if token.last_used_at is not None and token.last_used_at > now - NOTED_EVERY:
        return
    long_ago = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EVERY)
    try:
        ApiToken.objects.filter(long_ago, pk=token.pk).update(last_used_at=now)
    except OperationalError:  # the database is busy: no reason to refuse the caller
        log.warning("The last use of token %s could not be noted.", token.token_key, exc_info=True)
