"""The inference gateway: in this process for tables of requests (``serve``), and as a server of its own (``wsgi``).

What stands here is ``rollout.gateway.batch``, imported when it is asked for: the server's modules are imported before
Django is set up, and most of them never need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rollout.gateway.arms import CANARY, CHAMPION, ERROR, FALLBACK, OK

if TYPE_CHECKING:
    from rollout.gateway.batch import Served, serve

__all__ = ["CANARY", "CHAMPION", "ERROR", "FALLBACK", "OK", "Served", "serve"]


def __getattr__(name: str) -> Any:
    if name in ("Served", "serve"):
        return getattr(import_module("rollout.gateway.batch"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
