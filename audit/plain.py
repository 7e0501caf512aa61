"""Plain views: JSON in and out past REST framework, for what is asked hundreds of times a second.

They keep the API's conventions (docs/api.md): the same tokens, strict bodies, problem documents. Only who calls and
what they may see is remembered for ``SECONDS``, so a token that was revoked, or a membership that ended, counts that
long in a process that has just seen it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import orjson
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.settings import api_settings

from audit import scopes
from audit.errors import GatehouseError, NotPermitted

SECONDS = 5.0
"""How long a process remembers who a token belongs to, and what its holder may see."""

_JSON = "application/json"
_MOST_REMEMBERED = 10_000
_REFUSALS = (
    GatehouseError, exceptions.APIException, RequestDataTooBig, SuspiciousOperation, PermissionDenied,
)  # fmt: skip

Found = TypeVar("Found")


class Remembered(Generic[Found]):
    """What was found for a key in the last ``SECONDS``. What raises is not remembered."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, Found]] = {}

    def get(self, key: Any, find: Callable[[], Found]) -> Found:
        kept, now = self._kept.get(key), time.monotonic()
        if kept is not None and now < kept[0]:
            return kept[1]
        found = find()
        if len(self._kept) >= _MOST_REMEMBERED:
            self._kept.clear()
        self._kept[key] = (now + SECONDS, found)
        return found


@dataclass(frozen=True)
class Caller:
    """Who asks. ``token`` is a digest of theirs, fit as a key of what is remembered."""

    user: User
    token: bytes


@dataclass(frozen=True)
class _Holder:
    """Whose token it is, and what it may be used for."""

    user: User
    scopes: tuple[str, ...]


Answer = Callable[..., Any]
_holders: Remembered[_Holder] = Remembered()


def answering_posts(*, scope: str) -> Callable[[Answer], Callable[..., HttpResponseBase]]:
    """A view of ``answer(caller, body, **address)`` for tokens with ``scope``; what it returns is sent as JSON.

    ``body`` is a function that reads and parses what was sent, so that what the caller may not see is not there
    whatever they sent.
    """

    def viewed(answer: Answer) -> Callable[..., HttpResponseBase]:
        @csrf_exempt  # tokens only: a browser sends none by itself
        @wraps(answer)
        def view(request: HttpRequest, **address: Any) -> HttpResponseBase:
            try:
                caller = _caller(request, scope)
                if request.method != "POST":
                    raise exceptions.MethodNotAllowed(str(request.method))
                said = answer(caller, lambda: _body(request), **address)
            except _REFUSALS as refusal:
                return _refused(request, refusal)
            return HttpResponse(orjson.dumps(said), content_type=_JSON)

        view.scope = scope  # type: ignore[attr-defined]  # for the schema
        return view

    return viewed


def _caller(request: HttpRequest, scope: str) -> Caller:
    token = blake2b(request.META.get("HTTP_AUTHORIZATION", "").encode(), digest_size=32).digest()
    holder = _holders.get(token, lambda: _holder(request))
    if refusal := scopes.missing(scope, holder.scopes):
        raise NotPermitted(refusal)
    return Caller(holder.user, token)


def _holder(request: HttpRequest) -> _Holder:
    (authentication,) = (each() for each in _setting("DEFAULT_AUTHENTICATION_CLASSES"))
    try:
        found = authentication.authenticate(request)
        if found is None:
            raise exceptions.NotAuthenticated
    except exceptions.APIException as refusal:
        refusal.auth_header = authentication.authenticate_header(request)  # type: ignore[attr-defined]  # as APIView does
        raise
    user, token = found
    return _Holder(user, tuple(token.scopes))


def _body(request: HttpRequest) -> Any:
    if request.META.get("QUERY_STRING"):
        raise exceptions.ValidationError(
            {name: ["There is no such query parameter. This address takes none."] for name in request.GET}
        )
    if request.content_type != _JSON:
        raise exceptions.UnsupportedMediaType(str(request.content_type))
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as problem:
        raise exceptions.ParseError(f"JSON parse error - {problem}") from problem


def _refused(request: HttpRequest, refusal: Exception) -> HttpResponse:
    """The refusal as the API says it everywhere."""
    response = _setting("EXCEPTION_HANDLER")(refusal, {"request": request})
    headers = {name: value for name, value in response.headers.items() if name != "Content-Type"}
    if isinstance(refusal, exceptions.MethodNotAllowed):
        headers["Allow"] = "POST"
    return HttpResponse(
        orjson.dumps(response.data), status=response.status_code, content_type=response.content_type, headers=headers
    )


def _setting(name: str) -> Any:
    """What a setting of REST framework names, imported."""
    return getattr(api_settings, name)
