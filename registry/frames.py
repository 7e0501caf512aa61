"""The rows a model learns from and is judged on: what was asked, joined with how it turned out as far as known."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from audit.errors import InvalidInput
from features.models import DataSource
from features.offline import read_source
from registry.models import TrainingPipeline

REQUEST_ID = "request_id"
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Before all data: where an expanding window starts."""


def labelled_frame(pipeline: TrainingPipeline, *, start: datetime, end: datetime, as_of: datetime) -> pa.Table:
    """The requests of ``[start, end)`` whose outcome had arrived at ``as_of``, oldest first; the label comes last.

    A request whose outcome is unknown or null is left out. Of several outcomes of a request the last to arrive counts.
    """
    frame = requests_frame(pipeline, start=start, end=end, as_of=as_of)
    known = _known_outcomes(pipeline, as_of=as_of)
    joined = frame.join(known, keys=REQUEST_ID, join_type="inner")
    ordered = joined.sort_by([(timestamp_column(pipeline), "ascending"), (REQUEST_ID, "ascending")])
    return ordered.select([*frame.column_names, pipeline.label])


def requests_frame(pipeline: TrainingPipeline, *, start: datetime, end: datetime, as_of: datetime) -> pa.Table:
    """The requests of ``[start, end)``: request id, keys, what came with the request, and the time it was asked."""
    source = _source(pipeline.entity_frame)
    table = read_source(source.name, as_of=as_of, since=start, until=end)
    _require_columns(table, "entity_frame", source.name, REQUEST_ID, source.event_timestamp)
    at = table.column(source.event_timestamp)
    table = table.filter(pc.and_(pc.greater_equal(at, pa.scalar(start, at.type)), pc.less(at, pa.scalar(end, at.type))))
    arrival = source.created_timestamp
    return table.drop_columns([arrival]) if arrival and arrival != source.event_timestamp else table


def timestamp_column(pipeline: TrainingPipeline) -> str:
    """The column that says when a request was asked."""
    return _source(pipeline.entity_frame).event_timestamp


def _known_outcomes(pipeline: TrainingPipeline, *, as_of: datetime) -> pa.Table:
    source = _source(pipeline.outcomes)
    table = read_source(source.name, as_of=as_of)
    arrival = source.created_timestamp or source.event_timestamp
    _require_columns(table, "outcomes", source.name, REQUEST_ID, pipeline.label, arrival)
    in_order = table.sort_by(arrival).select([REQUEST_ID, pipeline.label])
    last = in_order.group_by(REQUEST_ID, use_threads=False).aggregate([(pipeline.label, "last")])
    known = last.rename_columns({f"{pipeline.label}_last": pipeline.label})
    return known.filter(pc.is_valid(known.column(pipeline.label)))


def _source(name: str) -> DataSource:
    source = DataSource.objects.filter(name=name).first()
    if source is None:
        raise InvalidInput({"pipeline": f"The data source {name!r} does not exist."})
    return source


def _require_columns(table: pa.Table, field: str, source: str, *columns: str) -> None:
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise InvalidInput({field: f"The data source {source!r} lacks the columns {', '.join(missing)}."})
