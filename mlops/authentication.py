"""Who calls the API: the holder of a token (``mlops.tokens``). Sessions are not accepted there."""

from __future__ import annotations

from typing import Any

from knox.auth import TokenAuthentication
from rest_framework import exceptions


class BearerTokens(TokenAuthentication):
    """``Authorization: Bearer gh_…``."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isascii():  # knox would fail to decode it
            raise exceptions.AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)
