"""Compare the training data with what the endpoints see now.

What they see are the requests of the last days (the pipeline's entity frame), joined as they were served: the same join
gives training its values, so a difference is the world's and not the join's. The prediction log would say the same of
the requests that a rollout answered, but it lies above the gates, and a model without a rollout has none.
"""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa

from features import offline
from gates.collect.training_table import spread, table_of
from gates.frozen import Frozen, Json, Unmeasurable
from gates.measure.live_drift import moved
from gates.models import GateRun
from gates.policy import LiveDriftCheck
from gates.preparation import pipeline_of
from registry import frames

MOST_REQUESTS = 20_000
MOST_TRAINED = 40_000


def collect(check: LiveDriftCheck, run: GateRun, frozen: Frozen) -> Json:
    """Everything that ``judge.live_drift`` looks at. Raises Unmeasurable, Unavailable."""
    version, until = run.version, frozen.began
    if version.service is None:
        raise Unmeasurable("The version names no feature service: which features it takes is unknown.")
    trained = spread(table_of(version), MOST_TRAINED)
    pipeline = pipeline_of(version)
    start = until - timedelta(days=check.days)
    requests = frames.requests_frame(pipeline, start=start, end=until, as_of=until)
    told: Json = {"days": check.days, "until": until.isoformat(), "requests": requests.num_rows, "features": []}
    if requests.num_rows < check.minimum_rows:
        return told
    timestamp = frames.timestamp_column(pipeline)
    sample = spread(requests.sort_by([(timestamp, "ascending"), (frames.REQUEST_ID, "ascending")]), MOST_REQUESTS)
    current = offline.training_frame(version.service, sample, timestamp=timestamp, as_of=until)
    for name in frozen.features:
        if name not in trained.column_names:
            continue
        before = trained.column(name)
        is_there = name in current.column_names
        now = current.column(name) if is_there else pa.chunked_array([pa.nulls(current.num_rows, before.type)])
        found = moved(before, now)
        told["features"].append({"feature": name, "importance": version.importance.get(name), **found})
    return told
