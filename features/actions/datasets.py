"""Store training tables for ever."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction

from audit.trail import Actor, record
from features import files, meaning, offline
from features.actions.rules import require_member, validate
from features.models import Dataset, FeatureService
from features.profile import profile_of


def snapshot(
    *,
    service: FeatureService,
    table: pa.Table,
    label: str,
    timestamp: str,
    purpose: str,
    as_of: datetime,
    actor: Actor,
    now: datetime,
) -> Dataset:
    """Store a training table (``offline.training_frame`` and a label) for ever, under the digest of its content."""
    require_member(actor, service.owner)
    table = _storable(table)
    missing = [name for name in service.vector if name not in table.column_names]
    dataset = Dataset(
        service=service,
        purpose=purpose,
        label=label,
        timestamp=timestamp,
        as_of=as_of,
        engine=f"{offline.engine().name} {offline.engine().version}",
        rows=table.num_rows,
        created_at=now,
        created_by_id=actor.pk if isinstance(actor, AbstractBaseUser) else None,
    )
    validate(
        dataset,
        exclude=("uri", "digest", "created_by"),
        also={
            "table": f"It lacks {', '.join(missing)}." if missing else "",
            "label": "" if label in table.column_names else "This is no column of the table.",
            "timestamp": "" if _is_time(table, timestamp) else "This is no time column of the table.",
        },
    )
    dataset.digest = offline.digest_of(table, dataset)
    existing = Dataset.objects.filter(digest=dataset.digest).first()
    if existing is not None:
        return existing
    dataset.uri = f"datasets/{dataset.digest[:2]}/{dataset.digest}.parquet"
    files.write_once(dataset.uri, table)
    bounds = pc.min_max(table.column(timestamp))
    dataset.time_from, dataset.time_to = bounds["min"].as_py(), bounds["max"].as_py()
    dataset.profile = profile_of(table)
    return _stored_once(dataset, actor=actor)


def _stored_once(dataset: Dataset, *, actor: Actor) -> Dataset:
    values = {
        field.attname: getattr(dataset, field.attname) for field in Dataset._meta.concrete_fields if field.name != "id"
    }
    with transaction.atomic():
        stored, created = Dataset.objects.get_or_create(digest=values.pop("digest"), defaults=values)
        if created:
            record("dataset.created", stored, actor=actor, data={"rows": stored.rows, "digest": stored.digest})
    return stored


def _storable(table: pa.Table) -> pa.Table:
    """Times in the one form that Parquet gives back as it got it: microseconds, UTC."""
    fields = [
        field.with_type(meaning.TYPES["timestamp"]) if pa.types.is_timestamp(field.type) else field
        for field in table.schema.remove_metadata()
    ]
    return table.cast(pa.schema(fields), safe=False)


def _is_time(table: pa.Table, column: str) -> bool:
    return column in table.column_names and pa.types.is_timestamp(table.schema.field(column).type)
