"""Bring what became known to the online store: incrementally, once per slot, in whatever order runs happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from django.db import transaction
from django.db.models import Prefetch, Q

from audit.errors import Conflict
from engines.offline import ViewSpec
from features import meaning, offline, online
from features.models import DataSource, FeatureViewVersion, Materialization, ViewState


def materialize(version: FeatureViewVersion, *, now: datetime) -> Materialization | None:
    """Write the values that became known since the last run; None when the slot of ``now`` has been done.

    Values are those known at the slot (the last multiple of the view's cadence), not at ``now``: the training join
    floors to the same instant. Computing happens outside the transaction, so a run that finds its slot done when it
    comes to write, by another worker, throws its values away. Raises Conflict for a draft or retired version,
    Unavailable when the engine can not compute.
    """
    slot = due(version, now=now)
    return slot.write(slot.compute()) if slot else None


@dataclass(frozen=True)
class DueSlot:
    """One slot of one version that is to be done. ``compute`` needs no database and may run in another thread."""

    version: FeatureViewVersion
    spec: ViewSpec
    up_to: datetime
    after: datetime | None

    def compute(self) -> pa.Table:
        """The newest value per key that became known since the last run."""
        return offline.newest_values(self.version, self.spec, as_of=self.up_to, known_after=self.after)

    def write(self, values: pa.Table) -> Materialization | None:
        """Bring them to the online store; None when another worker was faster."""
        return _write(self.version, values, up_to=self.up_to)


def due(version: FeatureViewVersion, *, now: datetime) -> DueSlot | None:
    """The slot of ``now`` unless it has been done. Raises Conflict for a draft or retired version."""
    if not version.is_served:
        raise Conflict(f"{version} is {version.state}; only a published version is materialized.")
    up_to = meaning.slot(now, version.cadence)
    last = version.materializations.order_by("-up_to").first()
    if last is not None and last.up_to >= up_to:
        return None
    return DueSlot(version, offline.view_spec(version), up_to, last.up_to if last else None)


def served_versions() -> Iterator[FeatureViewVersion]:
    """Every version the online store is kept up to date with: published, or deprecated but pinned by a service.

    ``materialize`` itself tells which of them have a slot to do.
    """
    served = Q(state=ViewState.PUBLISHED) | Q(state=ViewState.DEPRECATED, used_in__isnull=False)
    sources = Prefetch("sources", DataSource.objects.order_by("name"))
    versions = FeatureViewVersion.objects.filter(served).distinct().select_related("view__entity")
    yield from versions.prefetch_related(sources).order_by("view__name", "number")


def _write(version: FeatureViewVersion, values: pa.Table, *, up_to: datetime) -> Materialization | None:
    with transaction.atomic():
        # One writer per version: rows equal in both times are decided by which run is later, and only a lock tells.
        FeatureViewVersion.objects.select_for_update().only("pk").get(pk=version.pk)
        last = version.materializations.order_by("-up_to").first()
        if last is not None and last.up_to >= up_to:
            return None
        written = online.write(version, values)
        return Materialization.objects.create(
            view_version=version,
            up_to=up_to,
            after=last.up_to if last else None,
            rows=written,
            newest=_newest(values, last),
        )


def _newest(values: pa.Table, last: Materialization | None) -> datetime | None:
    known = [last.newest] if last is not None and last.newest is not None else []
    if values.num_rows:
        known.append(pc.max(values.column("event_timestamp")).as_py())
    return max(known, default=None)
