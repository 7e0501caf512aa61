"""Which line takes effect now, given what is wanted, what serves, and which versions are ready. Pure.

A version that is not ready is not routed to: the old champion serves until the new one is ready. What takes traffic
away (a candidate's end, the kill switch, a smaller share) takes effect at once, whatever else is still loading.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from rollout.gateway.table import CANARY, TableLine, TableVersion


class Readiness(Protocol):
    """What is known of the versions' models."""

    def is_loaded(self, version: TableVersion) -> bool:
        """It can be asked, and nothing speaks against it."""

    def is_reproduced(self, version: TableVersion) -> bool:
        """It gave the recorded scores for the recorded rows."""

    def is_refused(self, version: TableVersion) -> bool:
        """It can not be loaded, or gave other scores than recorded."""


def settled(wanted: TableLine, current: TableLine | None, models: Readiness) -> TableLine | None:
    """The line that serves from now on; None while nothing can answer yet."""
    champion = wanted.champion
    if champion is None or not wanted.enabled or models.is_loaded(champion):
        return _with_candidate(wanted, current, models)
    if current is not None and current.champion is not None and models.is_loaded(current.champion):
        return _old_champion(wanted, current)
    # Nobody else to serve meanwhile: of one that can not be loaded every row is an error, and the fallback answers.
    return wanted.without_candidate() if models.is_refused(champion) else None


def _with_candidate(wanted: TableLine, current: TableLine | None, models: Readiness) -> TableLine | None:
    """The wanted line; a canary that is not ready gets no traffic. A shadow is scored from the log and need not be.

    A process that has only just started waits for the candidate, too: its entities would meet the champion meanwhile.
    """
    candidate = wanted.candidate
    if candidate is None or wanted.stage != CANARY or models.is_reproduced(candidate):
        return wanted
    if current is None and wanted.enabled and not (models.is_loaded(candidate) or models.is_refused(candidate)):
        return None
    return wanted.without_candidate()


def _old_champion(wanted: TableLine, current: TableLine) -> TableLine:
    """What served goes on, with whatever of the wanted line takes traffic away or is no matter of models."""
    going_on = replace(
        current,
        enabled=wanted.enabled,
        durable=wanted.durable,
        threshold=wanted.threshold,
        entity_column=wanted.entity_column,
        fallback=wanted.fallback,
    )
    same = wanted.candidate == current.candidate and (wanted.salt, wanted.stage) == (current.salt, current.stage)
    if not same:
        return going_on.without_candidate()
    return replace(going_on, share=min(wanted.share, current.share))
