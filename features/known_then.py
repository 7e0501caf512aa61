"""Was a training value in the house when it claims to have been known? Ask the join as it would have answered then.

The join trusts each view's word about when a value was known. The sources also say when their rows *arrived*; asked
with nothing but what had arrived at an instant, an honest view gives the same answer for that instant as today. One
that differs was filled in later: training sees what serving could not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import cells, offline
from features.consistency import GRACE
from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion

INSTANTS = (0.3, 0.6, 0.95)
"""Where in the period of the rows is asked: these shares of them come before."""
ENTITIES = 200
"""So many rows before each instant say whom to ask for."""
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class KnownThen:
    """One stored feature of a service.

    Of ``cells`` values given for the instants, ``late`` had not arrived ``GRACE`` after it: then there was another
    value, or none. ``loaded_later``: instants at which nothing at all had arrived of a source, as in a history that was
    loaded afterwards; they can tell nothing and are not in ``cells``.
    Of ``compared`` values of the table itself, ``different`` are not what the join gives at each row's own time.
    """

    column: str
    version: FeatureViewVersion
    cells: int
    late: int
    loaded_later: int
    compared: int
    different: int


def known_then(
    service: FeatureService, table: pa.Table, *, timestamp: str, as_of: datetime, sample: int = 500
) -> tuple[list[KnownThen], list[datetime]]:
    """Every stored feature of ``table`` (a training join at ``as_of``), and the instants that were asked about.

    ``table`` has the join keys, ``timestamp`` and the service's columns. Raises InvalidInput where a key is missing,
    Unavailable.
    """
    pinned = [each for each in service.pinned() if each.column in table.column_names]
    if not pinned or not table.num_rows:
        return [], []
    keys = list(dict.fromkeys(key for each in pinned for key in each.view_version.view.entity.join_keys))
    asked = _asked(table, [name for name in keys if name in table.column_names], timestamp)
    instants, groups = _groups(asked)
    places = np.unique(np.linspace(0, table.num_rows - 1, min(sample, table.num_rows)).astype(np.int64))
    today = offline.stored_frame(service, pa.concat_tables([asked.take(places), *groups]), timestamp="at", as_of=as_of)
    own, given = today.slice(0, len(places)), today.slice(len(places))
    then = [
        offline.stored_frame(service, group, timestamp="at", as_of=min(instant + GRACE, as_of))
        for instant, group in zip(instants, groups, strict=True)
    ]
    arrived = {each.view_version: _arrived(each.view_version, instants, as_of) for each in pinned}
    kept = table.take(places)
    return [_told(each, given, then, arrived[each.view_version], own=own, kept=kept) for each in pinned], instants


def _asked(table: pa.Table, keys: Sequence[str], timestamp: str) -> pa.Table:
    """Join keys and time, under a name that no key has."""
    at = table.column(timestamp)
    zoned = at if at.type.tz is not None else pc.assume_timezone(at, "UTC")
    return table.select(keys).append_column("at", pc.cast(zoned, _TIME, safe=False))


def _groups(asked: pa.Table) -> tuple[list[datetime], list[pa.Table]]:
    """The instants, and for each the entities that had asked just before, as if they all asked at that instant."""
    ordered = asked.filter(pc.is_valid(asked.column("at"))).sort_by("at")
    last = sorted({int(share * (ordered.num_rows - 1)) for share in INSTANTS}) if ordered.num_rows else []
    instants, groups = [], []
    for place in last:
        instant = ordered.column("at")[place].as_py()
        group = ordered.slice(max(0, place + 1 - ENTITIES), min(ENTITIES, place + 1))
        at = pa.array([instant] * group.num_rows, _TIME)
        groups.append(group.set_column(group.column_names.index("at"), "at", pa.chunked_array([at])))
        instants.append(instant)
    return instants, groups


def _arrived(version: FeatureViewVersion, instants: Sequence[datetime], as_of: datetime) -> list[bool]:
    """At which of the instants something had arrived of every source of the version."""
    sources = [offline.source_table(source) for source in version.sources.all()]
    with offline.answering():
        return [
            all(offline.engine().freshness(source, as_of=min(instant + GRACE, as_of)) is not None for source in sources)
            for instant in instants
        ]


def _told(
    feature: FeatureServiceFeature,
    given: pa.Table,
    then: Sequence[pa.Table],
    arrived: Sequence[bool],
    *,
    own: pa.Table,
    kept: pa.Table,
) -> KnownThen:
    name, dtype = feature.column, feature.view_version.types[feature.feature]
    place = total = late = 0
    for answer, had_arrived in zip(then, arrived, strict=True):
        if had_arrived:
            today = given.column(name).slice(place, answer.num_rows)
            late += int(cells.differing(today, answer.column(name)).sum())
            total += answer.num_rows
        place += answer.num_rows
    try:
        different = int(cells.differing(cells.conform(kept.column(name), dtype), own.column(name)).sum())
    except pa.ArrowInvalid:  # of another type altogether
        different = kept.num_rows
    return KnownThen(
        column=name,
        version=feature.view_version,
        cells=total,
        late=late,
        loaded_later=sum(not each for each in arrived),
        compared=kept.num_rows,
        different=different,
    )
