"""Were the values that were served the values that training sees? Recompute a sample of them and compare every cell.

A value is recomputed for the instant of serving with all that has arrived since. So a view that claims to know
something before it could, a store that was tampered with, and a value that was served although its materialization was
long due, all differ: each teaches a model what it will not meet. Only the minutes that the store needs after each slot
are forgiven (``GRACE``), and counted apart as ``late``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import transaction

from audit.errors import InvalidInput
from features import cells, meaning, offline, transforms
from features.models import (
    ConsistencyCheck,
    FeatureService,
    FeatureServiceFeature,
    FeatureViewVersion,
    OnDemandTransform,
)

EXAMPLES = 5
"""How many differing cells a check keeps to show."""
LONGEST_TEXT = 200
GRACE = timedelta(minutes=30)
"""So long after a slot its values may still be on their way to the store: twice the schedule of materialization."""
RULE_OF_THREE = 3.0
"""So many expected differing cells, and none seen: then with 95 % confidence there are fewer than before."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Counts:
    """Cells of one feature; ``late``, those with the value of the slot before, do not count as differing."""

    cells: int = 0
    differing: int = 0
    late: int = 0

    def add(self, other: Counts) -> None:
        self.cells += other.cells
        self.differing += other.differing
        self.late += other.late

    def as_dict(self) -> dict[str, int]:
        return {"cells": self.cells, "differing": self.differing, "late": self.late}


@dataclass
class Compared:
    """What was found about one view version: counts by feature, and differing cells to show.

    An on-demand feature stands under its column's name with each view version whose values it was computed from.
    """

    version: FeatureViewVersion
    features: dict[str, Counts] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Compared) -> None:
        """Take in what another table of served values of the same version told."""
        for name, counts in other.features.items():
            self.features.setdefault(name, Counts()).add(counts)
        self.examples = [*self.examples, *other.examples][:EXAMPLES]


@dataclass(frozen=True)
class Cell:
    """One served value beside its recomputation.

    ``origin`` is the view version or transform it is of. ``is_late``: it differs because it is the value of the slot
    before, not longer than ``GRACE`` after its slot.
    """

    column: str
    origin: str
    served: Any
    recomputed: Any
    differs: bool
    is_late: bool

    @property
    def difference(self) -> float | None:
        """How much larger it was served than it should have been; None where the two are no numbers."""
        numbers = [each for each in (self.served, self.recomputed) if type(each) in (int, float)]
        return float(numbers[0] - numbers[1]) if len(numbers) == 2 else None


def check(
    service: FeatureService, served: pa.Table, *, timestamp: str, now: datetime, sample: int = 500
) -> list[ConsistencyCheck]:
    """Recompute ``sample`` rows of ``served`` offline and store one check per view version of the service.

    ``served`` is a piece of the prediction log: join keys, the time of serving (``timestamp``), request features and
    the service's columns as they were served. Nothing served gives no check, never a clean one.
    """
    missing = [name for name in service.columns if name not in served.column_names]
    if missing:
        raise InvalidInput({"served": f"The columns {', '.join(missing)} of {service} are missing."})
    rows = served.take(_spread(served.num_rows, sample)) if served.num_rows else served
    return keep(compare(service, rows, timestamp=timestamp, as_of=now), now=now)


def compare(service: FeatureService, served: pa.Table, *, timestamp: str, as_of: datetime) -> list[Compared]:
    """Recompute every row of ``served`` (see ``check``) and count the cells that differ, by view version.

    Only the columns that ``served`` has are compared: a model may take a part of its service. Raises InvalidInput
    where a join key is missing, Unavailable when the engine can not compute.
    """
    if not served.num_rows:
        return []
    on_demand, stored, table = _beside_recomputed(service, served, timestamp, as_of)
    found = {version: table.stored(version, features) for version, features in _by_version(stored).items()}
    for each in on_demand:
        for told in table.on_demand(each, _feeding(each, service)):
            found.setdefault(told.version, Compared(told.version)).add(told)
    return [each for each in found.values() if each.features]


def compare_row(service: FeatureService, served: pa.Table, *, timestamp: str, as_of: datetime) -> list[Cell]:
    """Recompute the one row of ``served`` (see ``check``), with what had arrived at ``as_of``: each column beside it.

    Columns that can not be recomputed (request features of their transform were not logged) are left out. Raises
    InvalidInput where a join key is missing, Unavailable when the engine can not compute.
    """
    on_demand, stored, table = _beside_recomputed(service, served, timestamp, as_of)
    found = [
        cell for version, features in _by_version(stored).items() for cell in table.stored_cells(version, features)
    ]
    return [*found, *(cell for each in on_demand for cell in table.on_demand_cells(each, _feeding(each, service)))]


def keep(compared: Iterable[Compared], *, now: datetime, since: datetime | None = None) -> list[ConsistencyCheck]:
    """Store one check per view version, whatever tables its values came from; served in [since, now)."""
    merged: dict[int, Compared] = {}
    for each in compared:
        merged.setdefault(each.version.pk, Compared(each.version)).add(each)
    with transaction.atomic():
        return [_kept(each, now, since) for each in merged.values()]


@dataclass(frozen=True)
class Standing:
    """Where one feature of a view version stands by its audits.

    ``at``, ``cells`` and ``differing`` are the newest audit's that found it above its view's ``limit``, or just the
    newest one's where none did (``needed`` is 0 then). ``clean``: cells audited since and found within the limit.
    """

    feature: str
    at: datetime
    cells: int
    differing: int
    limit: float
    clean: int
    needed: int

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0

    @property
    def is_broken(self) -> bool:
        """Above its limit, and too few cells were clean since to say that it is over.

        Were as many still differing, ``needed`` clean cells in a row would be an accident of one in twenty at most: a
        quiet hour with two requests proves nothing (rule of three; Hanley and Lippman-Hand 1983).
        """
        return self.clean < self.needed


def standings(version: FeatureViewVersion, *, since: datetime, until: datetime) -> dict[str, Standing]:
    """Each audited feature of a version by the audits at ``since`` <= at <= ``until``; one never served is left out."""
    limit = version.view.consistency_limit
    newest: dict[str, Standing] = {}
    clean: dict[str, int] = {}
    breached: dict[str, Standing] = {}
    for audit in version.consistency_checks.filter(at__gte=since, at__lte=until).order_by("-at", "-pk"):
        for name, each in audit.features.items():
            count, differing = each["cells"], each["differing"]
            if name in breached or not count:
                continue
            if differing / count > limit:
                needed = math.ceil(RULE_OF_THREE * count / differing)
                breached[name] = Standing(name, audit.at, count, differing, limit, clean.get(name, 0), needed)
            else:
                newest.setdefault(name, Standing(name, audit.at, count, differing, limit, 0, 0))
                clean[name] = clean.get(name, 0) + count
    return {**{name: replace(each, clean=clean[name]) for name, each in newest.items()}, **breached}


def sampled(rows: pa.Table, *, by: Sequence[str], size: int) -> pa.Table:
    """At most ``size`` rows: those whose ``by`` has the smallest hashes, so that asking again takes the same ones."""
    if rows.num_rows <= size:
        return rows
    keys = zip(*(rows.column(name).to_pylist() for name in by), strict=True)
    order = sorted((blake2b(repr(key).encode(), digest_size=8).digest(), place) for place, key in enumerate(keys))
    return rows.take(sorted(place for _, place in order[:size]))


def _kept(found: Compared, now: datetime, since: datetime | None) -> ConsistencyCheck:
    return ConsistencyCheck.objects.create(
        view_version=found.version,
        at=now,
        since=since,
        cells=sum(each.cells for each in found.features.values()),
        differing=sum(each.differing for each in found.features.values()),
        features={name: counts.as_dict() for name, counts in found.features.items()},
        examples=found.examples,
    )


def _spread(rows: int, sample: int) -> Places:
    """Positions of ``sample`` rows, evenly over all: the same each time, and from the whole period."""
    return np.unique(np.linspace(0, rows - 1, min(rows, sample)).astype(np.int64))


def _by_version(stored: Sequence[FeatureServiceFeature]) -> dict[FeatureViewVersion, list[FeatureServiceFeature]]:
    versions = {each.view_version_id: each.view_version for each in stored}
    by_version: dict[FeatureViewVersion, list[FeatureServiceFeature]] = {each: [] for each in versions.values()}
    for each in stored:
        by_version[versions[each.view_version_id]].append(each)
    return by_version


def _recomputable(service: FeatureService, served: Sequence[str]) -> list[OnDemandTransform]:
    """Its on-demand transforms with a served column, whose request features were all logged."""
    there, wanted = set(served), set(service.request_features)
    return [
        each
        for each in service.pinned_transforms()
        if there.intersection(each.columns) and there.issuperset(wanted.intersection(each.inputs))
    ]


def _feeding(transform: OnDemandTransform, service: FeatureService) -> list[FeatureViewVersion]:
    """The view versions whose stored values the transform takes (none: it takes request data only)."""
    taken = [each for each in service.pinned() if each.column in transform.inputs]
    return list(_by_version(taken))


def _before(version: FeatureViewVersion, asked: Sequence[datetime]) -> list[list[datetime]]:
    """For each asked time the instants that the store may still have stood at without blame; none beyond ``GRACE``.

    With a cadence that is the slot before. Without one every materialization is a slot of its own: the newest, and the
    one before it, in case the newest was still being written.
    """
    if version.cadence is not None:
        slots = [meaning.slot(moment, version.cadence) for moment in asked]
        recent = [moment - slot <= GRACE for moment, slot in zip(asked, slots, strict=True)]
        return [[slot - version.cadence] if is_recent else [] for slot, is_recent in zip(slots, recent, strict=True)]
    runs = version.materializations.order_by("up_to").filter(up_to__gte=min(asked) - 2 * GRACE, up_to__lte=max(asked))
    instants = list(runs.values_list("up_to", flat=True))
    found: list[list[datetime]] = []
    for moment in asked:
        place = bisect_right(instants, moment)
        is_recent = place > 0 and moment - instants[place - 1] <= GRACE
        found.append(instants[max(0, place - 2) : place][::-1] if is_recent else [])
    return found


def _recomputed(
    service: FeatureService,
    frame: pa.Table,
    on_demand: Sequence[OnDemandTransform],
    timestamp: str,
    as_of: datetime,
) -> pa.Table:
    """The frame with the store's columns and those of these transforms."""
    table = offline.stored_frame(service, frame, timestamp=timestamp, as_of=as_of)
    for each in on_demand:
        for name, values in transforms.computed(each, table).items():
            table = table.append_column(name, values)
    return table


def _beside_recomputed(
    service: FeatureService, served: pa.Table, timestamp: str, as_of: datetime
) -> tuple[list[OnDemandTransform], list[FeatureServiceFeature], _BesideRecomputed]:
    """What of ``served`` can be recomputed (transforms and stored features), and the two tables."""
    on_demand = _recomputable(service, served.column_names)
    stored = [each for each in service.pinned() if each.column in served.column_names]
    columns = {*(each.column for each in stored), *service.computed}
    frame = served.drop_columns([name for name in served.column_names if name in columns])
    recomputed = _recomputed(service, frame, on_demand, timestamp, as_of)
    return on_demand, stored, _BesideRecomputed(service, served, frame, recomputed, timestamp, as_of)


@dataclass(frozen=True)
class _Column:
    """A column that is compared: the feature's name in the counts, its column and type, and the transform it is of."""

    feature: str
    name: str
    dtype: str
    transform: OnDemandTransform | None = None


@dataclass(frozen=True)
class _BesideRecomputed:
    """One table of served values and its recomputation."""

    service: FeatureService
    served: pa.Table
    frame: pa.Table
    recomputed: pa.Table
    timestamp: str
    as_of: datetime

    def stored(self, version: FeatureViewVersion, features: Sequence[FeatureServiceFeature]) -> Compared:
        """The columns of one view version."""
        counts, examples = self._compared(_stored_columns(version, features), [version])
        return Compared(version, counts, examples)

    def stored_cells(self, version: FeatureViewVersion, features: Sequence[FeatureServiceFeature]) -> list[Cell]:
        """The columns of one view version, of the table's first row."""
        return self._cells(str(version), _stored_columns(version, features), [version])

    def on_demand(self, transform: OnDemandTransform, versions: Sequence[FeatureViewVersion]) -> list[Compared]:
        """The columns of a transform, told of each view version that feeds it."""
        counts, examples = self._compared(self._columns_of(transform), versions)
        return [Compared(each, {name: replace(count) for name, count in counts.items()}, examples) for each in versions]

    def on_demand_cells(self, transform: OnDemandTransform, versions: Sequence[FeatureViewVersion]) -> list[Cell]:
        """The columns of a transform, of the table's first row."""
        return self._cells(str(transform), self._columns_of(transform), versions)

    def _columns_of(self, transform: OnDemandTransform) -> list[_Column]:
        types = zip(transform.columns, (each["dtype"] for each in transform.features), strict=True)
        return [_Column(name, name, dtype, transform) for name, dtype in types if name in self.served.column_names]

    def _cells(self, origin: str, columns: Sequence[_Column], versions: Sequence[FeatureViewVersion]) -> list[Cell]:
        flags = {each.name: self._differing(each, self.recomputed, slice(None)) for each in columns}
        late = self._late(versions, columns, flags)
        return [
            Cell(
                column=each.name,
                origin=origin,
                served=cells.conform(self.served.column(each.name), each.dtype)[0].as_py(),
                recomputed=cells.conform(self.recomputed.column(each.name), each.dtype)[0].as_py(),
                differs=bool(flags[each.name][0]),
                is_late=bool(late[each.name][0]),
            )
            for each in columns
        ]

    def _compared(
        self, columns: Sequence[_Column], versions: Sequence[FeatureViewVersion]
    ) -> tuple[dict[str, Counts], list[dict[str, Any]]]:
        """Counts by feature and examples of columns that come from these view versions."""
        flags = {each.name: self._differing(each, self.recomputed, slice(None)) for each in columns}
        late = self._late(versions, columns, flags)
        wrong = {name: flag & ~late[name] for name, flag in flags.items()}
        counts = {
            each.feature: Counts(len(wrong[each.name]), int(wrong[each.name].sum()), int(late[each.name].sum()))
            for each in columns
        }
        keys = list(dict.fromkeys(key for version in versions for key in version.view.entity.join_keys))
        return counts, self._examples(keys, columns, wrong)

    def _differing(self, column: _Column, recomputed: pa.Table, rows: Places | slice) -> Flags:
        served = self.served.column(column.name)
        before = cells.conform(served if isinstance(rows, slice) else served.take(rows), column.dtype)
        return cells.differing(before, cells.conform(recomputed.column(column.name), column.dtype))

    def _late(
        self, versions: Sequence[FeatureViewVersion], columns: Sequence[_Column], flags: Mapping[str, Flags]
    ) -> dict[str, Flags]:
        """Differing cells that hold what the store had before a slot, not longer than ``GRACE`` after that slot."""
        late = {name: np.zeros(len(flag), np.bool_) for name, flag in flags.items()}
        rows = np.flatnonzero(np.any(list(flags.values()), axis=0))
        if not len(rows):
            return late
        asked = self.served.column(self.timestamp).take(rows).to_pylist()
        for version in versions:
            instants = _before(version, asked)
            for which in range(max(map(len, instants))):
                forgiven = [place for place, found in enumerate(instants) if len(found) > which]
                there = rows[forgiven]
                before = self._as_of([instants[place][which] for place in forgiven], there, columns)
                for each in columns:
                    late[each.name][there] |= flags[each.name][there] & ~self._differing(each, before, there)
        return late

    def _as_of(self, then: Sequence[datetime], rows: Places, columns: Sequence[_Column]) -> pa.Table:
        """What these rows would have got at the instants ``then``."""
        frame = self.frame.take(rows)
        place = frame.column_names.index(self.timestamp)
        frame = frame.set_column(place, self.timestamp, pa.array(then, frame.schema.field(place).type))
        used = {each.transform.pk: each.transform for each in columns if each.transform is not None}
        return _recomputed(self.service, frame, list(used.values()), self.timestamp, self.as_of)

    def _examples(
        self, keys: Sequence[str], columns: Sequence[_Column], flags: Mapping[str, Flags]
    ) -> list[dict[str, Any]]:
        """Some differing cells, of as many features as there are."""
        wrong = [each for each in columns if flags[each.name].any()]
        of_each = max(1, EXAMPLES // max(len(wrong), 1))
        places = [(each, place) for each in wrong for place in np.flatnonzero(flags[each.name])[:of_each].tolist()]
        return [self._example(keys, each, place) for each, place in places[:EXAMPLES]]

    def _example(self, keys: Sequence[str], column: _Column, place: int) -> dict[str, Any]:
        return {
            "entity": {key: _shown(self.served, key, place) for key in keys},
            "at": _shown(self.served, self.timestamp, place),
            "feature": column.feature,
            "served": _shown(self.served, column.name, place),
            "recomputed": _shown(self.recomputed, column.name, place),
        }


def _stored_columns(version: FeatureViewVersion, features: Sequence[FeatureServiceFeature]) -> list[_Column]:
    types = version.types
    return [_Column(each.feature, each.column, types[each.feature]) for each in features]


def _shown(table: pa.Table, column: str, place: int) -> str:
    """A cell as it may be stored: what was asked is somebody else's text, and PostgreSQL's JSON can not hold a NUL."""
    return str(table.column(column)[place].as_py()).replace("\0", "")[:LONGEST_TEXT]
