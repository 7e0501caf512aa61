"""A name for every request: in its answer, in what is logged while it is answered, and in a refusal.

A caller's own ``X-Request-ID`` is taken when it is a plain word, so that one name goes through all systems.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Request-ID"
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


def current() -> str:
    """The name of the request that is being answered; ``-`` outside of one."""
    return _current.get()


class RequestIds:
    """Middleware, the outermost: what it names is named everywhere."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get(HEADER, "")
        name = given if _WORD.fullmatch(given) else uuid.uuid4().hex
        token = _current.set(name)
        try:
            response = self.get_response(request)
        finally:
            _current.reset(token)
        response.headers[HEADER] = name
        return response


class Named(logging.Filter):
    """Gives each log record the name of its request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current()
        return True
