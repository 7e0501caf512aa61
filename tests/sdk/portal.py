"""The SDK's client on the real portal: same process, same database, over WSGI instead of a socket."""

from __future__ import annotations

import httpx
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from gatehouse import Client, Retries
from mlops.wsgi import application
from tests.mlops.calls import token
from tests.mlops.reported import settle

URL = "http://testserver"
AT_ONCE = Retries(attempts=3, pause=0.0)


class SameTransaction(httpx.WSGITransport):
    """A request inside a test's transaction must not close its connection when it ends (nor does Django's client)."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        signals = (request_started, request_finished)
        for signal in signals:
            signal.disconnect(close_old_connections)
        settle()  # what came before would have been committed
        try:
            response = super().handle_request(request)
            response.read()  # to its end, which is what finishes the request
            return response
        finally:
            for signal in signals:
                signal.connect(close_old_connections)


def transport() -> httpx.WSGITransport:
    return SameTransaction(application)


def client(user: User) -> Client:
    return Client(URL, token(user), transport=transport(), retries=AT_ONCE)
