"""Every prediction that was served, the outcomes that came later, and what a shadow would have answered.

A prediction's row is in the log before its answer leaves the gateway (``rollout.gateway``): as a file of its own here,
or in the spool of a gateway's process (``rollout.spool``), which every reader takes in first (``rollout.ingest``). All
files lie below the data root: ``predictions/<endpoint>``, ``outcomes/<endpoint>``, ``shadow/<endpoint>/<version id>``,
a folder per day.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from audit import clock
from rollout.day_files import TIME, DayFiles, Settled, Staged, all_settled, first_of_each

PREDICTION = pa.schema(
    [
        ("request_id", pa.string()),
        ("at", TIME),  # event time of the request
        ("endpoint", pa.string()),
        ("entity", pa.string()),  # who sticks to an arm; the request id when the request named nobody
        ("bucket", pa.float64()),
        ("sticky", pa.bool_()),  # False: the request named no entity
        ("stage", pa.string()),  # shadow, canary or empty, as routed at that moment
        ("step", pa.int16()),
        ("share", pa.float64()),  # the candidate's share at that moment
        ("salt", pa.string()),  # names the rollout
        ("arm", pa.string()),  # champion, canary or fallback: who should have answered
        ("version_id", pa.int64()),  # the arm's version; null for the fallback
        ("answered_by", pa.string()),  # who did answer
        ("score", pa.float64()),
        ("status", pa.string()),  # ok, error (the arm failed) or fallback
        ("error", pa.string()),
        ("latency_ms", pa.float64()),  # of one row alone, by the arm's version; null when not timed
        ("warm", pa.bool_()),  # the arm's version had shown its recorded scores again before it was routed to
        ("shadow", pa.bool_()),  # the candidate shadows this row
        ("candidate_id", pa.int64()),  # the version that has a rollout here, in shadow or canary; null without one
        ("source", pa.string()),  # gateway, or intake: served elsewhere and reported
    ]
)
"""What each row has, beside one column per served feature, and one per join key and request feature asked for it.

The last four are null in rows that were logged before they existed.
"""

GATEWAY, INTAKE = "gateway", "intake"

CANDIDATE_GIVEN = "rollout:candidate_given"
"""True where the candidate got, or would have got, its inputs: else its columns are null because nobody looked."""

OUTCOME = pa.schema(
    [("request_id", pa.string()), ("label", pa.float64()), ("arrived_at", TIME), ("predicted_at", TIME)]
)

SHADOW = pa.schema(
    [
        ("request_id", pa.string()),
        ("at", TIME),  # of the request
        ("version_id", pa.int64()),
        ("score", pa.float64()),
        ("status", pa.string()),  # ok or error
        ("error", pa.string()),
        ("latency_ms", pa.float64()),  # of one row alone; null when not timed
        ("champion_latency_ms", pa.float64()),  # the champion's on the same row, timed right after
        ("scored_at", TIME),
    ]
)

COMPACTED_FOR = timedelta(days=14)
"""Days further back than this are left as they are."""

MANY_FILES, SMALL_FILE = 64, 4 * 2**20
"""So many files of fewer than so many bytes each are put together although their day may go on."""


def append(endpoint: str, table: pa.Table) -> None:
    """Log predictions (``PREDICTION`` plus feature columns). They are in place when this returns."""
    _predictions(endpoint).append(table)


def read(endpoint: str, *, since: datetime, until: datetime, columns: Sequence[str] | None = None) -> pa.Table:
    """Predictions asked at ``since`` <= at < ``until``, each request once (as first answered).

    Everything that was acknowledged before the call is there, also what lies in this host's spool.
    """
    _take_in()
    return _predictions(endpoint).read(since=since, until=until, columns=columns)


def find_row(endpoint: str, request_id: str, *, at: datetime | None = None) -> pa.Table | None:
    """The logged prediction as a table of one row, with every column of its file; None when there is none.

    ``at`` (any moment of its day, UTC) spares looking through the days, newest first. A request id that was used on
    several days is its newest prediction; on one day, as first answered.
    """
    _take_in()
    days = None if at is None else [at.astimezone(UTC).date()]
    return _predictions(endpoint).find(request_id, days=days)


def find(endpoint: str, request_id: str, *, at: datetime | None = None) -> dict[str, Any] | None:
    """The logged prediction by column (see ``find_row``)."""
    row = find_row(endpoint, request_id, at=at)
    return None if row is None else dict(row.to_pylist()[0])


def find_outcome(endpoint: str, request_id: str, *, at: datetime, as_of: datetime) -> dict[str, Any] | None:
    """What became of a prediction that was made at ``at``, as known at ``as_of``: ``OUTCOME`` by column, or None."""
    known = read_outcomes(endpoint, since=at, until=at + timedelta(microseconds=1), as_of=as_of)
    mine = known.filter(pc.equal(known["request_id"], request_id))
    return dict(mine.to_pylist()[0]) if mine.num_rows else None


def append_outcomes(endpoint: str, table: pa.Table) -> None:
    """Log outcomes (``OUTCOME``); sending one again, or a corrected one later, is fine."""
    # Filed under a key of request and arrival, so that a correction is a row of its own.
    arrived = pc.cast(pc.cast(table["arrived_at"], TIME), pa.int64()).cast(pa.string())
    report = pc.binary_join_element_wise(table["request_id"].cast(pa.string()), arrived, "@")
    _outcomes(endpoint).append(table.append_column("report", report))


def read_outcomes(endpoint: str, *, since: datetime, until: datetime, as_of: datetime) -> pa.Table:
    """Outcomes of predictions made at ``since`` <= predicted_at < ``until``, as known at ``as_of``.

    One row per request: the latest report that had arrived by then. Columns of ``OUTCOME``.
    """
    reports = _outcomes(endpoint).read(since=since, until=until, columns=OUTCOME.names)
    known = reports.filter(pc.less_equal(reports["arrived_at"], pa.scalar(as_of, TIME)))
    latest_first = known.select(OUTCOME.names).sort_by([("arrived_at", "descending")])
    return first_of_each(latest_first, "request_id")


def append_shadow(endpoint: str, version: int, table: pa.Table) -> None:
    """Store what ``version`` would have answered (``SHADOW``); a request scored again counts once."""
    _shadow(endpoint, version).append(table)


def read_shadow(endpoint: str, version: int, *, since: datetime, until: datetime) -> pa.Table:
    """Shadow scores of ``version`` for requests asked at ``since`` <= at < ``until``."""
    return _shadow(endpoint, version).read(since=since, until=until)


def stage(endpoint: str, table: pa.Table, *, name: str) -> list[Staged]:
    """Write predictions aside, as files that are called ``name`` once they are published (``DayFiles.stage``)."""
    return _predictions(endpoint).stage(table, name=name)


def compact(endpoint: str, *, now: datetime, settled: Settled = all_settled) -> int:
    """Put the files of each day that is over into one; the count of files replaced.

    ``settled``: which files of predictions are there for good (``rollout.ingest.settled``).
    """
    today = now.date()
    kinds = [(_predictions(endpoint), settled), (_outcomes(endpoint), all_settled)]
    return sum(
        files.compact(day, settled=for_good)
        for files, for_good in kinds
        for day in files.days()
        if today - COMPACTED_FOR <= day < today
    )


def tidy(endpoint: str, *, settled: Settled) -> int:
    """Put the small files of predictions of any day into one, once there are many; the count of files replaced.

    Ingestion makes one for each look at the spool.
    """
    files = _predictions(endpoint)
    return sum(
        files.compact(day, settled=settled, at_least=MANY_FILES, below=SMALL_FILE) for day in reversed(files.days())
    )


def endpoints() -> list[str]:
    """The endpoints that have a log."""
    folder = _root() / "predictions"
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []


def _take_in() -> None:
    """What lies in the spool comes first. Imported here: gateways write the log and need nothing of its manifest."""
    from rollout.ingest import ingest

    ingest(now=clock.now())


def _predictions(endpoint: str) -> DayFiles:
    return DayFiles(_root() / "predictions" / endpoint, PREDICTION, key="request_id", at="at")


def _outcomes(endpoint: str) -> DayFiles:
    schema = pa.schema([*OUTCOME, pa.field("report", pa.string())])
    return DayFiles(_root() / "outcomes" / endpoint, schema, key="report", at="predicted_at")


def _shadow(endpoint: str, version: int) -> DayFiles:
    return DayFiles(_root() / "shadow" / endpoint / str(version), SHADOW, key="request_id", at="at")


def _root() -> Path:
    """Read at call time, so that each test has its own."""
    return Path(settings.DATA_ROOT)
