"""Which models are live, and which of their windows wait to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from monitoring import measure
from monitoring.config import MonitorSettings, parse
from monitoring.models import DriftKind, DriftRun, Monitor
from monitoring.windows import Window, closed
from registry.models import Alias, ModelVersion


@dataclass(frozen=True)
class Reign:
    """A monitored champion and since when it is one."""

    monitor: Monitor
    version: ModelVersion
    since: datetime
    settings: MonitorSettings


@dataclass(frozen=True)
class Due:
    """Closed windows that were not judged yet, oldest first."""

    drift: tuple[Window, ...]
    performance: tuple[Window, ...]

    def __bool__(self) -> bool:
        return bool(self.drift or self.performance)

    def __str__(self) -> str:
        ends = [windows[-1].end.isoformat() if windows else "-" for windows in (self.drift, self.performance)]
        return "/".join(ends)


def reigns(monitors: Sequence[Monitor]) -> list[Reign]:
    """The champions of the monitored models, in one query; models without a champion are left out."""
    aliases = Alias.objects.filter(
        name=Alias.CHAMPION, registered_model__in=[each.registered_model_id for each in monitors]
    )
    by_model = {
        alias.registered_model_id: alias
        for alias in aliases.select_related("version__registered_model", "version__service", "version__dataset")
    }
    return [
        Reign(monitor, alias.version, alias.since, parse(monitor.settings))
        for monitor in monitors
        if (alias := by_model.get(monitor.registered_model_id)) is not None
    ]


def due(reign: Reign, *, now: datetime) -> Due:
    """The windows of a champion that closed and wait; outcomes get the endpoints' outcome window to arrive first."""
    ends = dict(
        DriftRun.objects.filter(monitor=reign.monitor, version=reign.version, window_to__gt=reign.since)
        .order_by()
        .values_list("kind")
        .annotate(Max("window_to"))
    )
    length = timedelta(days=reign.settings.window_days)
    settle = measure.outcome_window(reign.version.registered_model)
    return Due(
        drift=tuple(closed(since=reign.since, now=now, length=length, after=ends.get(DriftKind.DRIFT))),
        performance=tuple(
            closed(since=reign.since, now=now, length=length, after=ends.get(DriftKind.PERFORMANCE), settle=settle)
        ),
    )


def first_served(reign: Reign) -> Window | None:
    """The first judged window in which the version answered enough: the reference of its own answers."""
    runs = DriftRun.objects.filter(
        monitor=reign.monitor, version=reign.version, kind=DriftKind.DRIFT, window_from__gte=reign.since
    )
    for run in runs.order_by("window_to"):
        if run.scores.get("answered", 0) >= reign.settings.minimum_rows:
            return Window(run.window_from, run.window_to)
    return None
