"""Bring what became known to the online store: incrementally, once per slot, in whatever order runs happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, Subquery

from audit.errors import Conflict
from audit.trail import Actor, record
from engines.offline import ViewSpec
from engines.online import Records
from features import meaning, offline, online
from features.models import DataSource, FeatureServiceFeature, FeatureViewVersion, Materialization, ViewState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DueSlot:
    """One slot of one version that is to be done. ``compute`` needs no database and may run in another thread."""

    version: FeatureViewVersion
    spec: ViewSpec
    up_to: datetime
    after: datetime | None

    def compute(self) -> Computed:
        """The newest value per key that became known since the last run. Raises Unavailable."""
        values = offline.newest_values(self.version, self.spec, as_of=self.up_to, known_after=self.after)
        return Computed(self, online.packed(self.version, values))


@dataclass(frozen=True)
class Computed:
    """A slot and what is to be written for it."""

    slot: DueSlot
    records: Records


def materialize(version: FeatureViewVersion, *, now: datetime) -> Materialization | None:
    """Write the values that became known since the last run; None when the slot of ``now`` has been done.

    Values are those known at the slot (the last multiple of the view's cadence), not at ``now``: the training join
    floors to the same instant. Computing happens outside the transaction, so a run that finds its slot done when it
    comes to write, by another worker, throws its values away. Raises Conflict for a draft or retired version,
    Unavailable when the engine can not compute.
    """
    if not version.is_served:
        raise Conflict(f"{version} is {version.state}; only a published version is materialized.")
    slot = _due(version, _last_of([version]).get(version.pk, _NEVER), now)
    if slot is None:
        return None
    _await_pushes([version])
    return write([slot.compute()])[0]


def due_slots(*, now: datetime) -> list[DueSlot]:
    """Of every version that is kept in the online store, the slot of ``now`` unless it has been done."""
    versions = list(served_versions())
    last = _last_of(versions)
    slots = (_due(version, last.get(version.pk, _NEVER), now) for version in versions)
    due = [slot for slot in slots if slot is not None]
    _await_pushes([slot.version for slot in due])
    return due


def refill(version: FeatureViewVersion, *, actor: Actor, now: datetime) -> int:
    """Compute anew everything the online store should hold of a version, after the store lost it; the rows written.

    It is what the last materialization left (without a cadence: what is known now, for pushes came since), and nothing
    newer is replaced, so it may run at any time and again. A version that was never materialized needs no refill.
    Raises Unavailable.
    """
    last = _last_of([version]).get(version.pk, _NEVER)
    if last.up_to is None:
        return 0
    _await_pushes([version])
    as_of = last.up_to if version.cadence else max(now, last.up_to)
    values = offline.newest_values(version, offline.view_spec(version), as_of=as_of, known_after=None)
    with transaction.atomic():
        rows = online.write(version, values)
        data = {"rows": rows, "as_of": as_of.isoformat(), "store": online.store().name}
        record("feature_view_version.refilled", version, actor=actor, data=data)
    return rows


def served_versions() -> QuerySet[FeatureViewVersion]:
    """Every version the online store is kept up to date with.

    That is what is published, and what is deprecated but pinned by a service that has not been retired.
    """
    pins = FeatureServiceFeature.objects.filter(view_version=OuterRef("pk"), service__retired_at__isnull=True)
    served = Q(state=ViewState.PUBLISHED) | Q(state=ViewState.DEPRECATED) & Exists(pins)
    sources = Prefetch("sources", DataSource.objects.order_by("name"))
    versions = FeatureViewVersion.objects.filter(served).select_related("view__entity")
    return versions.prefetch_related(sources).order_by("view__name", "number")


def write(computed: Sequence[Computed]) -> list[Materialization | None]:
    """Bring the values to the online store in one transaction; None for a slot that another worker did meanwhile."""
    versions = [each.slot.version for each in computed]
    with transaction.atomic():
        # One writer per version: rows equal in both times are decided by which run is later, and only a lock tells.
        locked = FeatureViewVersion.objects.select_for_update().filter(pk__in=[version.pk for version in versions])
        list(locked.order_by("pk").values_list("pk"))
        last = _last_of(versions)
        wanted = [each for each in computed if _is_newer(each, last.get(each.slot.version.pk, _NEVER))]
        kept = online.keep([each.records for each in wanted])
        runs = {
            each.slot.version.pk: _run(each, last.get(each.slot.version.pk, _NEVER), rows)
            for each, rows in zip(wanted, kept, strict=True)
        }
        Materialization.objects.bulk_create(runs.values())
    return [runs.get(version.pk) for version in versions]


@dataclass(frozen=True)
class _Last:
    """How far a version has been materialized, and its newest value so far."""

    up_to: datetime | None = None
    newest: datetime | None = None


_NEVER = _Last()


def _last_of(versions: Sequence[FeatureViewVersion]) -> dict[int, _Last]:
    latest = Materialization.objects.filter(view_version=OuterRef("pk")).order_by("-up_to")
    asked = FeatureViewVersion.objects.filter(pk__in=[version.pk for version in versions]).order_by("pk")
    found = asked.values_list("pk", Subquery(latest.values("up_to")[:1]), Subquery(latest.values("newest")[:1]))
    return {version: _Last(up_to, newest) for version, up_to, newest in found}


def _await_pushes(versions: Sequence[FeatureViewVersion]) -> None:
    """Until the pushes that hold a source of these have ended; those that begin after it arrive after the slot."""
    pushed = {source.pk for version in versions for source in version.sources.all() if source.push_schema}
    if pushed:
        with transaction.atomic():
            list(DataSource.objects.select_for_update().filter(pk__in=pushed).order_by("pk").values_list("pk"))


def _due(version: FeatureViewVersion, last: _Last, now: datetime) -> DueSlot | None:
    up_to = meaning.slot(now, version.cadence)
    if last.up_to is not None and last.up_to >= up_to:
        return None
    return DueSlot(version, offline.view_spec(version), up_to, last.up_to)


def _is_newer(computed: Computed, last: _Last) -> bool:
    return last.up_to is None or last.up_to < computed.slot.up_to


def _run(computed: Computed, last: _Last, rows: int) -> Materialization:
    events = computed.records.events
    known = [_EPOCH + timedelta(microseconds=max(events))] if events else []
    return Materialization(
        view_version=computed.slot.version,
        up_to=computed.slot.up_to,
        after=last.up_to,
        rows=rows,
        newest=max([*known, *([last.newest] if last.newest else [])], default=None),
    )
