"""What the online store holds of each view version, once a day: coverage, lag, and how the values are spread.

This is what the catalogue shows. It describes what is served, not what is known: values past their TTL count as not
alive and are left out of the distributions, because no model gets them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from django.db import transaction

from engines.packing import ARROW, Layout
from features import meaning, online
from features.distribution import distribution
from features.materialize import served_versions
from features.models import FeatureStatistics, FeatureViewVersion

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERY = timedelta(days=1)
KEPT = timedelta(days=90)
MOST_ROWS = 100_000
"""Distributions are of at most so many entities, evenly over all."""


def describe_due(*, now: datetime) -> list[FeatureStatistics]:
    """Describe every served version that has not been described today (UTC), and forget what is older than kept.

    Each version is kept by itself: what was done stays done when a later one can not be read.
    """
    since = meaning.slot(now, EVERY)
    described = set(FeatureStatistics.objects.filter(at__gte=since).values_list("view_version", flat=True))
    made = [describe(version, now=now) for version in served_versions() if version.pk not in described]
    FeatureStatistics.objects.filter(at__lt=now - KEPT).delete()
    return made


def describe(version: FeatureViewVersion, *, now: datetime) -> FeatureStatistics:
    """Measure what is stored of a version at ``now`` and keep it; a second call for the same instant replaces it."""
    layout = online.layout_of(version)
    oldest = None if version.ttl is None else online.microseconds(now - version.ttl)
    empty = _empty(layout) if version.aggregations else None
    stored = ((event, record) for _, event, _, record in online.store().contents(version.pk))
    found = _gone_through(stored, oldest=oldest, empty=empty, most=MOST_ROWS)
    columns = layout.columns(found.sample, range(len(layout.types)))
    last = version.materializations.order_by("-up_to").first()
    values = {
        "entities": found.entities,
        "alive": found.alive,
        "newest": None if found.newest is None else _EPOCH + timedelta(microseconds=found.newest),
        "lag": now - last.up_to if last is not None else None,
        "features": {
            name: distribution(pa.chunked_array([column]))
            for name, column in zip(version.feature_names, columns, strict=True)
        },
    }
    with transaction.atomic():
        return FeatureStatistics.objects.update_or_create(view_version=version, at=now, defaults=values)[0]


@dataclass(frozen=True)
class _Counted:
    """What one pass over the store found. ``newest`` is microseconds since 1970 UTC; ``sample`` are records alive."""

    entities: int
    alive: int
    newest: int | None
    sample: list[bytes]


def _gone_through(
    stored: Iterable[tuple[int, bytes]], *, oldest: int | None, empty: bytes | None, most: int
) -> _Counted:
    """One pass that keeps at most ``2 * most`` records in memory, and in the end every n-th of those alive.

    Alive are those that would be served: not before ``oldest``, and not ``empty`` (a window in which nothing happened).
    """
    entities = alive = 0
    newest: int | None = None
    sample: list[bytes] = []
    stride = 1
    for event, record in stored:
        entities += 1
        newest = event if newest is None else max(newest, event)
        if (oldest is not None and event < oldest) or record == empty:
            continue
        if alive % stride == 0:
            sample.append(record)
        alive += 1
        if len(sample) >= 2 * most:
            sample, stride = sample[::2], stride * 2
    return _Counted(entities, alive, newest, sample if len(sample) <= most else sample[::2])


def _empty(layout: Layout) -> bytes:
    """The record of a row without any value."""
    return layout.pack([pa.chunked_array([pa.nulls(1, ARROW[kind])]) for kind in layout.types])[0]
