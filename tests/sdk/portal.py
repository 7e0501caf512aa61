"""The SDK's client on the real portal: same process, same database, over WSGI instead of a socket."""

from __future__ import annotations

import httpx
from django.contrib.auth.models import User

from gatehouse import Client, Retries
from mlops.wsgi import application
from tests.mlops.calls import token

URL = "http://testserver"
AT_ONCE = Retries(attempts=3, pause=0.0)


def transport() -> httpx.WSGITransport:
    return httpx.WSGITransport(application)


def client(user: User) -> Client:
    return Client(URL, token(user), transport=transport(), retries=AT_ONCE)
