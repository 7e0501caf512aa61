"""A version's signature: its input columns in order and what it answers. Pure.

``{"inputs": [{"name": "distance", "type": "double"}, …], "output": {…}}``; whatever else a pipeline writes into it is
kept and not obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class SignatureError(ValueError):
    """A signature that does not say what a model takes; the message is for the user."""


def check(signature: Mapping[str, Any], *, columns: Sequence[str] | None = None) -> None:
    """Raise SignatureError unless the inputs are named, each once, and are ``columns`` in this order where given."""
    inputs = signature.get("inputs", [])
    if not isinstance(inputs, list) or not all(isinstance(each, Mapping) and _name(each) for each in inputs):
        raise SignatureError('The inputs must be a list such as [{"name": "distance", "type": "double"}].')
    names = [_name(each) for each in inputs]
    if len(set(names)) < len(names):
        raise SignatureError("An input column is listed twice.")
    if columns is not None and names != list(columns):
        raise SignatureError(
            f"The model takes {_listed(names)}; its feature service gives {_listed(columns)}, in this order."
        )


def _name(each: Mapping[str, Any]) -> str:
    name = each.get("name")
    return name if isinstance(name, str) else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "nothing"
