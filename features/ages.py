"""How old the values of a training join were when they were joined: each row's time minus the value's own.

The times come from the join itself, asked for the event time of what it would pick. A value older than its view's TTL
is not joined; its age is told all the same, because that is why there is a null.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from engines.expressions import parsed
from engines.offline import ViewSpec
from features import offline
from features.models import FeatureService, FeatureViewVersion
from stats.interval import FloatArray

HAPPENED = "gatehouse_happened"
"""Column beside a view's own: the event time of a row, as a value."""
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Ages:
    """Ages in seconds of one view version's values, one per row asked; NaN where nothing was known."""

    version: FeatureViewVersion
    seconds: FloatArray

    @property
    def promise(self) -> timedelta | None:
        """How old a value may be before its owner's promise is broken; a TTL is none, it only says when it is over."""
        return self.version.view.freshness

    @property
    def known(self) -> int:
        return int(np.isfinite(self.seconds).sum())

    @property
    def stale(self) -> int:
        """Values that were older than promised."""
        return 0 if self.promise is None else int((self.seconds > self.promise.total_seconds()).sum())

    @property
    def expired(self) -> int:
        """Values that were older than the TTL, and therefore not given."""
        ttl = self.version.ttl
        return 0 if ttl is None else int((self.seconds > ttl.total_seconds()).sum())


def joined_ages(service: FeatureService, frame: pa.Table, *, timestamp: str, as_of: datetime) -> list[Ages]:
    """The ages of what the join gives each row of ``frame`` (join keys and ``timestamp``), by view version.

    A view with aggregations answers for the instant of its materialization; its age counts from there, also for a key
    in whose windows nothing happened. Raises InvalidInput where a join key is missing, Unavailable.
    """
    versions = list({each.view_version_id: each.view_version for each in service.pinned()}.values())
    keys = dict.fromkeys(key for version in versions for key in version.view.entity.join_keys)
    asked = frame.select([name for name in (*keys, timestamp) if name in frame.column_names])
    timed = [_timed(offline.view_spec(version)) for version in versions if not version.aggregations]
    with offline.answering():
        joined = offline.engine().point_in_time(asked, timed, timestamp=timestamp, as_of=as_of) if timed else asked
    at = _seconds(asked.column(timestamp))
    found = []
    for version in versions:
        if version.aggregations:
            happened = _slots(at, version.cadence)
        else:
            happened = _seconds(joined.column(f"{version.view.name}__{HAPPENED}"))
        found.append(Ages(version, at - happened))
    return found


def _timed(view: ViewSpec) -> ViewSpec:
    """The view with its event time as its only feature, and without a TTL."""
    select = parsed(view.expression)
    named = {each.alias_or_name.lower(): each.unalias() for each in select.expressions}
    happened = exp.alias_(named[view.event_timestamp.lower()].copy(), HAPPENED)
    expression = select.select(happened, copy=True).sql(dialect="duckdb")
    return replace(view, features=(HAPPENED,), expression=expression, ttl=None)


def _slots(seconds: FloatArray, cadence: timedelta | None) -> FloatArray:
    """The instants of materialization before these times."""
    assert cadence is not None  # a view with aggregations has one
    length = cadence.total_seconds()
    return np.asarray(np.floor(seconds / length) * length, dtype=np.float64)


def _seconds(times: pa.ChunkedArray) -> FloatArray:
    """Seconds since 1970 UTC, NaN for null."""
    zoned = times if times.type.tz is not None else pc.assume_timezone(times, "UTC")
    whole = pc.cast(pc.cast(zoned, _TIME, safe=False), pa.int64())
    return np.asarray(pc.cast(whole, pa.float64(), safe=False).to_numpy(), dtype=np.float64) / 1e6
