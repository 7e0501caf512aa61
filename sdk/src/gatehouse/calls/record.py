"""The record: events, the seals of the log, reports that can be verified offline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from gatehouse.answers import read
from gatehouse.calls.addresses import Calls, below_version
from gatehouse.records import Checkpoint, Event, LogState, Report
from gatehouse.showing import Rows

FORMS = ("json", "html", "pdf", "zip")


class RecordCalls(Calls):
    # ------------------------------------------------------------------ the log

    def events(
        self,
        *,
        model: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 200,
    ) -> list[Event]:
        """What happened, newest first, at most so many. ``name`` such as rollout.promoted; event time."""
        moments = {"since": since.isoformat() if since else None, "until": until.isoformat() if until else None}
        asked = {"model": model, "name": name, **moments}
        given = {name: value for name, value in asked.items() if value is not None}
        rows = self._wire.pages("events/", **given, page_size=max(1, min(most, 200)))
        return Rows(read(Event, row) for row in islice(rows, most))

    def event(self, id: int) -> Event:
        """With what followed from it."""
        return read(Event, self._wire.get(f"events/{id}/"))

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Signed checkpoints of the log, newest first. Keep copies elsewhere."""
        return (read(Checkpoint, row) for row in self._wire.pages("log/checkpoints/"))

    def log_state(self) -> LogState:
        """Where the log ends now, its newest checkpoint, and the public key to verify it with."""
        return read(LogState, self._wire.get("log/verification/"))

    # ------------------------------------------------------------------ reports

    def dossiers(self, model: str, number: int) -> list[Report]:
        """The dossiers of a version that were issued, newest first."""
        return Rows(read(Report, row) for row in self._wire.pages(f"{below_version(model, number)}dossiers/"))

    def issue_dossier(self, model: str, number: int) -> Report:
        """Issue the audit report of a version as of the newest event; recorded, with its digest."""
        address = f"{below_version(model, number)}dossiers/"
        return read(Report, self._wire.post(address, {}))

    def dossier(self, model: str, number: int, position: int, *, form: str = "json") -> bytes:
        """An issued dossier: ``json`` (canonical, what is verified), ``html``, ``pdf``, or ``zip`` of all."""
        return self._wire.get_bytes(f"{below_version(model, number)}dossiers/{position}/", form=form)

    def incident_reports(self, incident: int) -> list[Report]:
        """The reports of an incident that were issued, newest first."""
        return Rows(read(Report, row) for row in self._wire.pages(f"incidents/{incident}/reports/"))

    def issue_incident_report(self, incident: int) -> Report:
        return read(Report, self._wire.post(f"incidents/{incident}/reports/", {}))

    def incident_report(self, incident: int, position: int, *, form: str = "json") -> bytes:
        return self._wire.get_bytes(f"incidents/{incident}/reports/{position}/", form=form)
