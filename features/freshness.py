"""Which data sources break their owners' promise to be fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from engines.offline import SourceError
from features import offline
from features.models import DataSource


@dataclass(frozen=True)
class StaleSource:
    """A source whose newest arrived row is older than promised.

    ``newest`` is that row's event time and ``age`` its age; both are None when nothing had arrived or the source can
    not be read (``problem`` says which).
    """

    source: DataSource
    newest: datetime | None
    promise: timedelta
    age: timedelta | None
    problem: str


def stale_sources(*, now: datetime) -> list[StaleSource]:
    """The sources that break their promise at ``now``, by name. A source without a promise can not."""
    promising = DataSource.objects.filter(freshness__isnull=False).select_related("owner").order_by("name")
    return [stale for source in promising if (stale := _stale(source, now)) is not None]


def _stale(source: DataSource, now: datetime) -> StaleSource | None:
    promise = source.freshness
    if promise is None:
        return None
    try:
        newest = offline.engine().freshness(offline.source_table(source), as_of=now)
    except SourceError as error:
        return StaleSource(source, None, promise, None, str(error))
    if newest is None:
        return StaleSource(source, None, promise, None, "Nothing has arrived.")
    age = now - newest
    if age <= promise:
        return None
    return StaleSource(source, newest, promise, age, f"The newest row happened {age} ago, promised were {promise}.")
