"""Addresses of the API, below /api/v1/."""

from __future__ import annotations

from urllib.parse import quote

from gatehouse.wire import Wire


class Calls:
    """Methods of a client; each is one request, or a few."""

    _wire: Wire


def named(text: str) -> str:
    """A name as one part of an address, whatever is in it."""
    return quote(text, safe="")


def below_model(name: str) -> str:
    return f"models/{named(name)}/"


def below_version(model: str, number: int) -> str:
    return f"{below_model(model)}versions/{number}/"
