"""Endpoints: who serves them, and what a product owner decides about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gatehouse.answers import read
from gatehouse.calls.addresses import Calls, named
from gatehouse.endpoints import Decision, Endpoint, Fallback, Freeze
from gatehouse.showing import Rows


class EndpointCalls(Calls):
    def endpoints(self, *, model: str | None = None) -> list[Endpoint]:
        """Newest first."""
        return Rows(read(Endpoint, row) for row in self._wire.pages("endpoints/", **_given(model=model)))

    def endpoint(self, name: str) -> Endpoint:
        """With its queue, what was decided, its fallbacks and freezes."""
        return read(Endpoint, self._wire.get(_below(name)))

    def decisions(self, endpoint: str, *, waiting: bool | None = None) -> list[Decision]:
        """Newest first; ``waiting``: only those that are still to come, or only the others."""
        asked = _given(waiting=None if waiting is None else str(waiting).lower())
        return Rows(read(Decision, row) for row in self._wire.pages(f"{_below(endpoint)}decisions/", **asked))

    def decide(
        self,
        endpoint: str,
        kind: str,
        *,
        note: str,
        model: str | None = None,
        fallback: str | None = None,
        takes_effect_at: datetime | None = None,
    ) -> Decision:
        """As a product owner: ``serve`` (this model), ``stop`` (the kill switch, to a named fallback), ``resume``,
        ``pause`` (candidates) or ``continue``. Raises NotPermitted for anybody else, Conflict when it is so already."""
        at = takes_effect_at.isoformat() if takes_effect_at is not None else None
        body = {"kind": kind, "note": note, **_given(model=model, fallback=fallback, takes_effect_at=at)}
        return read(Decision, self._wire.post(f"{_below(endpoint)}decisions/", body))

    def withdraw_decision(self, endpoint: str, id: int, *, reason: str) -> Decision:
        """Before it takes effect."""
        return read(Decision, self._wire.post(f"{_below(endpoint)}decisions/{id}/withdraw/", {"reason": reason}))

    def fallbacks(self, endpoint: str, *, retired: bool | None = None) -> list[Fallback]:
        """What may answer everybody while the kill switch is pulled."""
        asked = _given(retired=None if retired is None else str(retired).lower())
        return Rows(read(Fallback, row) for row in self._wire.pages(f"{_below(endpoint)}fallbacks/", **asked))

    def add_fallback(
        self, endpoint: str, name: str, *, note: str, score: float | None = None, version: int | None = None
    ) -> Fallback:
        """Name a fixed score, or a version that was promoted for the endpoint's model."""
        body = {"name": name, "note": note, **_given(score=score, version=version)}
        return read(Fallback, self._wire.post(f"{_below(endpoint)}fallbacks/", body))

    def retire_fallback(self, endpoint: str, name: str, *, reason: str) -> Fallback:
        address = f"{_below(endpoint)}fallbacks/{named(name)}/retire/"
        return read(Fallback, self._wire.post(address, {"reason": reason}))

    def freezes(self, endpoint: str, *, open: bool | None = None) -> list[Freeze]:
        """``open``: not ended or lifted yet."""
        asked = _given(open=None if open is None else str(open).lower())
        return Rows(read(Freeze, row) for row in self._wire.pages(f"{_below(endpoint)}freezes/", **asked))

    def freeze(self, endpoint: str, *, starts_at: datetime, ends_at: datetime, note: str) -> Freeze:
        """Let no candidate start, get more traffic or be promoted for a time; it may always roll back."""
        body = {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat(), "note": note}
        return read(Freeze, self._wire.post(f"{_below(endpoint)}freezes/", body))

    def lift_freeze(self, endpoint: str, id: int, *, reason: str) -> Freeze:
        return read(Freeze, self._wire.post(f"{_below(endpoint)}freezes/{id}/lift/", {"reason": reason}))


def _below(endpoint: str) -> str:
    return f"endpoints/{named(endpoint)}/"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
