"""The feature store: definitions as code, values."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gatehouse.answers import Push, Vectors, read
from gatehouse.calls.addresses import Calls, named
from gatehouse.plans import Plan

LONGEST_PLAN = 600.0
"""Seconds that the portal may measure what a plan would change."""


class FeatureCalls(Calls):
    def plan(self, definitions: Mapping[str, Any], *, publish: bool = False) -> Plan:
        """What applying these definitions would do (``gatehouse.repository.load`` reads them from files).

        Nothing is written. New meanings of views are measured on a sample, so it may take a while.
        """
        body = {"definitions": definitions, "publish": publish}
        return read(Plan, self._wire.post("features/plan/", body, repeat=True, patience=LONGEST_PLAN))

    def apply(self, definitions: Mapping[str, Any], *, digest: str, publish: bool = False, reason: str = "") -> Plan:
        """Carry out the plan with this digest: all of it or nothing. Raises Conflict when it is outdated.

        With ``publish`` new versions are published, for the ``reason``; the plan must have been made with it.
        """
        body = {"definitions": definitions, "publish": publish, "digest": digest, "reason": reason}
        return read(Plan, self._wire.post("features/apply/", body, repeat=True, patience=LONGEST_PLAN))

    def online(self, service: str, entities: Sequence[Mapping[str, Any]]) -> Vectors:
        """The features of a service (name, or name@number) as they are served now, for up to 1,000 entities.

        An entity names its join keys, and the service's request features where it has on-demand transforms.
        """
        name, _, number = service.partition("@")
        body: dict[str, Any] = {"rows": [_said(entity) for entity in entities]}
        if number:
            body["number"] = int(number) if number.isascii() and number.isdigit() else number
        return read(Vectors, self._wire.post(f"features/services/{named(name)}/online/", body, repeat=True))

    def push(self, source: str, rows: Sequence[Mapping[str, Any]], *, push_id: str | None = None) -> Push:
        """Send up to 10,000 rows to a data source: known to training and served from the moment this returns.

        With the same ``push_id`` it happens once however often it is sent; without one, it is tried again only by this
        very call. Times without a zone are UTC.
        """
        body = {"source": source, "push_id": push_id or uuid.uuid4().hex, "rows": [_said(row) for row in rows]}
        return read(Push, self._wire.post("push/", body, repeat=True))


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON can say it: times in ISO, null for numbers that are not finite."""
    said = dict(row)
    for name, value in row.items():
        if isinstance(value, datetime):
            said[name] = value.isoformat()
        elif isinstance(value, float) and not math.isfinite(value):
            said[name] = None
    return said
