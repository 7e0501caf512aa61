"""Keys of the graph: how they are read, and where each thing's page is."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from django.urls import reverse

from audit.errors import InvalidInput

PINNED = re.compile(r"(?P<name>[a-z][a-z0-9_-]*)@(?P<number>[1-9]\d{0,8})")
NUMBERED = re.compile(r"(?P<name>[a-z][a-z0-9_-]*)/(?P<number>[1-9]\d{0,8})")
PAGES = {"view": "portal:feature-view-version", "service": "portal:feature-service", "version": "portal:version"}
BY_ID = {
    "gate_run": "portal:gate-run",
    "rollout": "portal:rollout",
    "incident": "portal:incident",
    "rethink": "portal:rethink",
}
KINDS = (
    "version", "prediction", "incident", "run", "dataset", "service", "view", "transform", "source", "external",
    "gate_run", "rollout", "retraining", "rethink",
)  # fmt: skip
"""What may be asked for."""


def parted(key: str) -> tuple[str, str]:
    """Kind and name of a key. Raises InvalidInput when there is no such kind."""
    kind, _, name = key.partition(":")
    if kind not in KINDS or not name:
        raise InvalidInput({"of": f"A key such as version:late-arrival/7 is needed; kinds: {', '.join(KINDS)}."})
    return kind, name


def pinned(kind: str, name: str) -> tuple[str, int]:
    """Name and number of ``name@3`` (``name/3`` of a version). Raises InvalidInput."""
    found = (NUMBERED if kind == "version" else PINNED).fullmatch(name)
    if found is None:
        example = "version:late-arrival/7" if kind == "version" else f"{kind}:name@2"
        raise InvalidInput({"of": f"A {kind} is named like {example}."})
    return found["name"], int(found["number"])


def identity(kind: str, name: str) -> int:
    """The number of a run, rollout and so on. Raises InvalidInput."""
    if not name.isascii() or not name.isdigit() or len(name) > 18:
        raise InvalidInput({"of": f"A {kind} is named by its number, such as {kind}:5."})
    return int(name)


def url_of(key: str) -> str:
    """The page of what a key names; '' where there is none."""
    kind, _, name = key.partition(":")
    if kind in BY_ID:
        return reverse(BY_ID[kind], args=[name])
    if kind == "prediction":
        endpoint, _, request_id = name.partition("/")
        return f"{reverse('portal:prediction')}?{urlencode({'endpoint': endpoint, 'request_id': request_id})}"
    if kind == "source":
        return reverse("portal:data-source", args=[name])
    if kind in PAGES:
        return reverse(PAGES[kind], args=list(pinned(kind, name)))
    return ""
