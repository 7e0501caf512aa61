"""Business values: reported as they happen, kept by arrival, read only when their window has closed.

They lie below the data root in ``business/<endpoint>/<metric>``, a folder per day of arrival. A metric that is defined
anew under its name finds the values that were reported before: they are facts, the definition is how they are judged.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings
from django.db.models import Q, QuerySet

from rollout.day_files import TIME, DayFiles
from rollout.maturity import Matured, matured
from rollout.models import BusinessMetric, MeasuredPer, Missing, Rollout

REPORT = pa.schema(
    [
        ("report", pa.string()),  # names it: sent again it counts once, with another value it is corrected
        ("entity", pa.string()),
        ("request_id", pa.string()),
        ("value", pa.float64()),
        ("at", TIME),  # when it happened
        ("arrived_at", TIME),
    ]
)
SKEW = timedelta(minutes=1)
"""How far the clock of who reports may be ahead of ours."""
COMPACTED_FOR = timedelta(days=14)


def append(endpoint: str, metric: str, reports: pa.Table) -> None:
    """Keep reports (``REPORT``). When this returns, every later reader knows them."""
    # Filed under name and arrival, so that a correction is a row of its own.
    arrived = reports["arrived_at"].cast(TIME).cast(pa.int64()).cast(pa.string())
    filing = pc.binary_join_element_wise(reports["report"].cast(pa.string()), arrived, "@")
    _files(endpoint, metric).append(reports.append_column("filing", filing))


def read(endpoint: str, metric: str, *, since: datetime, until: datetime) -> pa.Table:
    """Every report that arrived at ``since`` <= arrived_at <= ``until``, corrections beside what they correct."""
    end = until + timedelta(microseconds=1)
    return _files(endpoint, metric).read(since=since, until=end, columns=REPORT.names).select(REPORT.names)


def values(metric: BusinessMetric, rows: pa.Table, *, now: datetime) -> Matured:
    """The metric of predictions, or of the entities from their first of these rows on, whose window has closed.

    ``rows``: of the prediction log, with ``request_id``, ``entity``, ``at`` and ``sticky`` (without which every row
    counts as sticky). ``row_index`` of the answer points into them.
    """
    if not len(rows):
        return Matured(np.empty(0, dtype=np.int64), [], np.empty(0))
    # What happened to them arrived after they were asked, corrections included.
    first: datetime = pc.min(rows["at"]).as_py()
    reports = read(metric.endpoint.name, metric.name, since=first - SKEW, until=max(first, now))
    return matured(
        rows,
        reports,
        per_entity=metric.per == MeasuredPer.ENTITY,
        window=metric.window,
        missing_is_zero=metric.missing == Missing.ZERO,
        now=now,
    )


def metrics_of(rollout: Rollout) -> QuerySet[BusinessMetric]:
    """The metrics that judge a canary: those in force when it began. Nobody can change its rules while it runs."""
    if rollout.canary_since is None:
        return BusinessMetric.objects.none()
    then = rollout.canary_since
    mine = BusinessMetric.objects.filter(endpoint=rollout.endpoint_id, created_at__lte=then)
    return mine.filter(Q(retired_at=None) | Q(retired_at__gt=then)).select_related("endpoint")


def compact(endpoint: str, *, now: datetime) -> int:
    """Put the files of each day that is over into one; the count of files replaced."""
    root, today = _root() / endpoint, now.date()
    if not root.is_dir():
        return 0
    metrics = [_files(endpoint, folder.name) for folder in root.iterdir()]
    recent = [(files, day) for files in metrics for day in files.days() if today - COMPACTED_FOR <= day < today]
    return sum(files.compact(day) for files, day in recent)


def _files(endpoint: str, metric: str) -> DayFiles:
    schema = pa.schema([*REPORT, pa.field("filing", pa.string())])
    return DayFiles(_root() / endpoint / metric, schema, key="filing", at="arrived_at")


def _root() -> Path:
    """Read at call time, so that each test has its own."""
    return Path(settings.DATA_ROOT) / "business"
