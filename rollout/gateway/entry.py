"""WSGI in and out: an environ becomes a call of ``rollout.protocols``, its reply an answer. No Django request here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from rollout import protocols
from rollout.gateway.metrics import CONTENT_TYPE, exposition
from rollout.gateway.process import Process
from rollout.protocols import Call, Reply
from rollout.protocols.calls import JSON, MAX_BYTES

log = logging.getLogger(__name__)

Environ = dict[str, Any]
Start = Callable[..., Any]
_STATUS = {each.value: f"{each.value} {each.phrase}" for each in HTTPStatus}
_TOO_LARGE = Reply(413, b'{"error": "The body is too large."}')
_BROKEN = Reply(500, b'{"error": "The gateway failed at this request; its log says why."}')


class Application:
    """A WSGI application on a gateway process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            reply = self._reply(environ)
        except Exception:  # the outermost loop: a fault of ours costs this request only
            log.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            reply = _BROKEN
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else reply.body
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), *reply.headers]
        start_response(_STATUS[reply.status], headers)
        return [body]

    def _reply(self, environ: Environ) -> Reply:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        if path == "/metrics":
            return Reply(200, exposition(self.process).encode(), CONTENT_TYPE)
        body = _body(environ)
        if body is None:
            return _TOO_LARGE
        house = self.process.house(environ.get("HTTP_AUTHORIZATION", ""))
        call = Call(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), _headers(environ), body)
        return protocols.reply(call, house)


def _body(environ: Environ) -> bytes | None:
    """The request's body; None when there is more of it than is taken."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        wanted = int(length) if length.isdigit() else 0
        return None if wanted > MAX_BYTES else bytes(environ["wsgi.input"].read(wanted))
    if environ["REQUEST_METHOD"] == "POST":  # of unknown length: sent in chunks
        body = bytes(environ["wsgi.input"].read(MAX_BYTES + 1))
        return None if len(body) > MAX_BYTES else body
    return b""


def _headers(environ: Environ) -> dict[str, str]:
    found = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"}
    found["content-type"] = environ.get("CONTENT_TYPE", "") or JSON
    return found
