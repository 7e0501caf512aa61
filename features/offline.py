"""The feature store's door to the offline engine: sources, training joins and stored datasets as tables.

What an engine refuses becomes a refusal of ours: a frame that does not fit is the caller's input, a source or view that
can not be read is an outage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache

import pyarrow as pa
from django.conf import settings

from audit.errors import InvalidInput, NotFound, Unavailable
from engines.duckdb_engine import DuckDBEngine
from engines.expressions import ExpressionError
from engines.offline import FrameError, OfflineEngine, OfflineError, Progress, SourceTable, ViewSpec
from engines.spark_engine import SparkEngine
from features import cells, files, meaning, transforms
from features.description import aggregations_of
from features.models import Dataset, DataSource, FeatureService, FeatureViewVersion


def engine() -> OfflineEngine:
    """This process's engine, which keeps the sources it has read in memory: the first of ``engines``."""
    return engines()[0]


def engines() -> list[OfflineEngine]:
    """All configured engines (``GATEHOUSE_ENGINES``), which must agree on every view (``engines.conformance``)."""
    return [_engine_of(os.getpid(), name) for name in settings.ENGINES]


@lru_cache(maxsize=2)
def _engine_of(process: int, name: str) -> OfflineEngine:
    # by process, because a forked worker must not share an embedded database with its parent
    if name == "spark":
        return SparkEngine(master=settings.SPARK_MASTER)
    return DuckDBEngine(roots=[str(settings.DATA_ROOT)], memory_limit=settings.ENGINE_MEMORY or None)


@contextmanager
def answering() -> Iterator[None]:
    """Turn what the engine refuses into errors of ours."""
    try:
        yield
    except FrameError as error:
        raise InvalidInput({"frame": str(error)}) from error
    except (OfflineError, ExpressionError) as error:
        raise Unavailable(str(error)) from error


def source_table(source: DataSource) -> SourceTable:
    """The source as the engine sees it, at its place below the data root."""
    created = source.created_timestamp or None
    return SourceTable(source.name, files.below_root(source.uri), source.event_timestamp, created)


def view_spec(version: FeatureViewVersion) -> ViewSpec:
    """The version as the engine sees it."""
    return ViewSpec(
        name=version.view.name,
        version=version.number,
        join_keys=tuple(version.view.entity.join_keys),
        features=version.feature_names,
        expression=version.expression,
        event_timestamp=version.event_timestamp,
        known_at=version.known_at,
        ttl=version.ttl,
        cadence=version.cadence,
        sources=tuple(source_table(source) for source in sorted(version.sources.all(), key=lambda each: each.name)),
        lookback=version.lookback,
        aggregations=aggregations_of(version.aggregations),
    )


def read_source(
    name: str, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
) -> pa.Table:
    """The rows of a source that had arrived at ``as_of``, in no promised order.

    ``since`` (inclusive) and ``until`` (exclusive) bound when they happened. Raises NotFound, Unavailable.
    """
    source = DataSource.objects.filter(name=name).first()
    if source is None:
        raise NotFound(f"There is no data source {name!r}.")
    with answering():
        return engine().rows(source_table(source), as_of=as_of, since=since, until=until)


def training_frame(
    service: FeatureService,
    frame: pa.Table,
    *,
    timestamp: str,
    as_of: datetime,
    reasons: bool = False,
    progress: Progress | None = None,
) -> pa.Table:
    """The frame with the service's columns, as each would have been served, and those of its on-demand transforms.

    ``timestamp`` names the frame's column with the asked time. Nothing that arrived after ``as_of`` is used. The frame
    carries the join keys and the service's request features. Rows and their order are kept. With ``reasons`` a column
    ``<view>__reason`` per view says why there is a value or none (``OfflineEngine.point_in_time``); ``progress`` is
    called with the pieces done and the pieces there are.
    """
    missing = [name for name in service.request_features if name not in frame.column_names]
    if missing:
        raise InvalidInput({"frame": f"{service} needs the request features {', '.join(missing)}."})
    training, joined = _joined(service, frame, timestamp, as_of, reasons=reasons, progress=progress)
    training = transforms.apply(service, training)
    views = {each.view_version.view.name: each.view_version for each in service.pinned()}
    for version in views.values() if reasons else ():
        column = view_spec(version).reason_column
        training = training.append_column(column, joined.column(column))
    return training


def stored_frame(service: FeatureService, frame: pa.Table, *, timestamp: str, as_of: datetime) -> pa.Table:
    """The frame with the service's columns of the store only, as ``training_frame`` has them; needs join keys only."""
    return _joined(service, frame, timestamp, as_of)[0]


def _joined(
    service: FeatureService,
    frame: pa.Table,
    timestamp: str,
    as_of: datetime,
    *,
    reasons: bool = False,
    progress: Progress | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The frame with the store's columns in their declared types, and all that the engine gave."""
    pinned = service.pinned()
    versions = {each.view_version_id: each.view_version for each in pinned}
    # Whole views, also where the service pins some of their features: the engine orders ties by all of them, and the
    # online store holds what that order gives.
    views = [view_spec(version) for version in versions.values()]
    with answering():
        joined = engine().point_in_time(
            frame, views, timestamp=timestamp, as_of=as_of, reasons=reasons, progress=progress
        )
    training = frame
    for each in pinned:
        dtype = each.view_version.types[each.feature]
        training = training.append_column(each.column, _conformed(joined, each.column, dtype))
    return training, joined


def newest_values(
    version: FeatureViewVersion, spec: ViewSpec, *, as_of: datetime, known_after: datetime | None
) -> pa.Table:
    """What a materialization writes: the newest value per key that became known in ``(known_after, as_of]``.

    Join keys, ``event_timestamp``, ``known_at`` and the features in their declared types.
    """
    with answering():
        values = engine().values(spec, as_of=as_of, known_after=known_after)
    return conformed(version, values)


def conformed(version: FeatureViewVersion, values: pa.Table) -> pa.Table:
    """What an engine gave for a view, its features in their declared types. Raises Unavailable."""
    for name, dtype in version.types.items():
        values = values.set_column(values.column_names.index(name), name, _conformed(values, name, dtype))
    return values


def load(dataset: Dataset) -> pa.Table:
    """A dataset's table, checked against its digest. Raises Unavailable when the file is gone or was changed."""
    try:
        table = files.read(dataset.uri)
    except (OSError, pa.ArrowInvalid) as error:
        raise Unavailable(f"The file of dataset {dataset} can not be read: {error}") from error
    if digest_of(table, dataset) != dataset.digest:
        raise Unavailable(f"The file of dataset {dataset} is not what was stored: its digest differs.")
    return table


def digest_of(table: pa.Table, dataset: Dataset) -> str:
    """The digest that ``dataset`` has if ``table`` is its content."""
    return meaning.dataset_digest(
        cells.table_digest(table),
        service=dataset.service.content_hash,
        label=dataset.label,
        timestamp=dataset.timestamp,
        purpose=dataset.purpose,
    )


def _conformed(table: pa.Table, column: str, dtype: str) -> pa.ChunkedArray:
    try:
        return cells.conform(table.column(column), dtype)
    except pa.ArrowInvalid as error:
        raise Unavailable(f"{column} is declared as {dtype}, its source now yields something else: {error}") from error
