"""Calls of the API as somebody, with a real token."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from audit.scopes import SCOPES
from mlops import tokens
from mlops.problems import MEDIA_TYPE
from tests.builders import NOON

JSON = "application/json"


def token(user: User, *scopes: str) -> str:
    """A token of theirs with these scopes; without any, with all."""
    chosen = scopes or tuple(SCOPES)
    return tokens.issue(user=user, scopes=chosen, days=1, reason="For a test.", actor=user, now=NOON)


class Caller:
    """A client of /api/v1/; ``user`` None: without a token. Without ``scopes`` the token has all."""

    def __init__(self, user: User | None = None, *scopes: str) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {token(user, *scopes)}"} if user else {})

    def get(self, path: str, *, headers: Any = None, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """``headers`` as keywords, such as idempotency_key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/api/v1/{path}", body, content_type=JSON, headers=named)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.patch(f"/api/v1/{path}", body, content_type=JSON, headers=named)

    def form(self, path: str, parts: dict[str, Any]) -> Any:
        return self.client.post(f"/api/v1/{path}", parts)


def problem(response: Any) -> tuple[int, dict[str, Any]]:
    """The status and the body of a refusal, which must be a whole problem document."""
    assert response["Content-Type"] == MEDIA_TYPE, response.content[:300]
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert body["status"] == response.status_code
    return response.status_code, body


def refused_fields(response: Any, code: int = 422) -> set[str]:
    """The fields that a refusal names."""
    status, body = problem(response)
    assert status == code, body
    return set(body["errors"])
