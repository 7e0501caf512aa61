"""Whether a monitor itself can be trusted: one that did not run, or that sees no data, is red."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring import live, measure
from monitoring.models import DriftKind, DriftRun, Monitor

LATE = timedelta(days=2)
"""The watch runs daily: a window unjudged for longer has been missed."""


@dataclass(frozen=True)
class Health:
    """``verdict``: passed, failed (it moved or decayed), inconclusive (it sees too little) or error (it did not run).

    ``is_red``: somebody has to look. Waiting for the first window, or nothing live, is neither good nor red.
    """

    verdict: str
    message: str
    is_red: bool


def health(monitor: Monitor, now: datetime) -> Health:
    """How the model's newest windows look, worst first."""
    reigns = live.reigns([monitor])
    if not reigns:
        return Health("inconclusive", "No version is champion: there is nothing to watch.", is_red=False)
    reign = reigns[0]
    if missed := _missed(reign, now):
        return missed
    newest = _newest(reign)
    if not newest:
        first = reign.since + timedelta(days=reign.settings.window_days)
        return Health("inconclusive", f"The first window of {reign.version} closes on {first:%Y-%m-%d}.", is_red=False)
    for verdict in ("failed", "error", "inconclusive"):
        for run in newest:
            if run.verdict == verdict:
                return Health(verdict, f"{run.get_kind_display()}: {run.summary}", is_red=True)
    return Health("passed", " ".join(f"{run.get_kind_display()}: {run.summary}" for run in newest), is_red=False)


def _newest(reign: live.Reign) -> list[DriftRun]:
    """The newest run of each kind of this champion's reign."""
    runs = DriftRun.objects.filter(monitor=reign.monitor, version=reign.version, window_from__gte=reign.since)
    found = [runs.filter(kind=kind).order_by("-window_to").first() for kind in DriftKind.values]
    return [run for run in found if run is not None]


def _missed(reign: live.Reign, now: datetime) -> Health | None:
    due = live.due(reign, now=now)
    settle = measure.outcome_window(reign.version.registered_model)
    for kind, windows, wait in (("drift", due.drift, timedelta(0)), ("performance", due.performance, settle)):
        if windows and now - windows[0].end - wait > LATE:
            closed = f"{kind} window that closed on {windows[0].end:%Y-%m-%d}"
            return Health("error", f"The {closed} has not been judged: the monitor did not run.", is_red=True)
    return None
