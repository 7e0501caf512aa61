"""Which data sources and which feature views break their owners' promise to be fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from engines.offline import SourceError
from features import offline
from features.materialize import served_versions
from features.models import DataSource, FeatureViewVersion


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


@dataclass(frozen=True)
class StaleView:
    """A served view version whose newest value in the online store is older than promised.

    ``newest`` is that value's event time, None when nothing was ever written. ``age`` is the value's; without any, the
    time since the version was published.
    """

    version: FeatureViewVersion
    newest: datetime | None
    promise: timedelta
    age: timedelta
    problem: str


def stale_views(*, now: datetime) -> list[StaleView]:
    """The versions that the online store is kept up to date with and that break their view's promise at ``now``."""
    promising = (version for version in served_versions() if version.view.freshness is not None)
    return [stale for version in promising if (stale := _stale_view(version, now)) is not None]


def _stale_view(version: FeatureViewVersion, now: datetime) -> StaleView | None:
    promise = version.view.freshness
    assert promise is not None  # asked only of views that promise
    newest = version.materializations.order_by("-up_to").values_list("newest", flat=True).first()
    age = now - (newest or version.state_since or version.created_at)
    if age <= promise:
        return None
    ago = timedelta(seconds=round(age.total_seconds()))
    happened = f"Its newest value happened {ago} ago" if newest else f"Nothing was written since it was made {ago} ago"
    return StaleView(version, newest, promise, age, f"{happened}, promised were {promise}.")
