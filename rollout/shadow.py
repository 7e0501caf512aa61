"""What a candidate would have answered: scored from the log, in batches, where no request waits for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engines.scoring import Unscorable
from registry.models import ModelVersion
from rollout import prediction_log, scorers
from rollout.day_files import TIME
from rollout.models import Rollout, RolloutState
from rollout.prediction_log import SHADOW
from rollout.routing import Serving, serving

BATCH = 2000
TIMING_BUDGET = timedelta(seconds=5)

FloatArray = NDArray[np.float64]


def requests_of(rollout: Rollout, *, until: datetime) -> pa.Table:
    """The log's rows that the candidate shadowed, oldest first, with what both versions were (or would be) given."""
    if rollout.shadow_since is None:
        raise ValueError(f"{rollout} has not been in shadow")
    columns = ["entity", "salt", "stage", "status", "score", *_serving(rollout).logged.values()]
    if rollout.incumbent is not None:
        columns += serving(rollout.incumbent).logged.values()
    rows = prediction_log.read(rollout.endpoint.name, since=rollout.shadow_since, until=until, columns=columns)
    mine = pc.and_(pc.equal(rows["salt"], rollout.salt), pc.equal(rows["stage"], RolloutState.SHADOW.value))
    return rows.filter(mine).sort_by("at")


def scores(rollout: Rollout, rows: pa.Table, *, now: datetime, timed_rows: int) -> pa.Table:
    """``SHADOW`` rows for all of ``rows``: those scored before, and the rest scored now and stored.

    Idempotent by (request, version), so a repeated or competing run changes nothing. The first ``timed_rows`` new rows
    are also timed one by one, by the candidate and then by the champion, for a fair comparison.
    """
    if not len(rows):
        return SHADOW.empty_table()
    endpoint, version = rollout.endpoint.name, rollout.version_id
    since, until = rows["at"][0].as_py(), rows["at"][-1].as_py() + timedelta(microseconds=1)
    done = prediction_log.read_shadow(endpoint, version, since=since, until=until).select(SHADOW.names)
    waiting = rows.filter(pc.invert(pc.is_in(rows["request_id"], value_set=done["request_id"])))
    parts = [done]
    for start in range(0, len(waiting), BATCH):
        batch = _scored(rollout, waiting.slice(start, BATCH), now, timed_rows if start == 0 else 0)
        prediction_log.append_shadow(endpoint, version, batch)
        parts.append(batch)
    return pa.concat_tables(parts)


def _serving(rollout: Rollout) -> Serving:
    return serving(rollout.version, beside=serving(rollout.incumbent) if rollout.incumbent else None)


def _scored(rollout: Rollout, rows: pa.Table, now: datetime, timed_rows: int) -> pa.Table:
    """``SHADOW`` rows for a batch. A candidate whose process dies fails on all of them."""
    n = len(rows)
    inputs = _inputs(_serving(rollout), rows)
    answered, errors = _predict(rollout.version, inputs)
    both = np.flatnonzero(~np.isnan(answered) & (rows["status"].to_numpy(zero_copy_only=False) == "ok"))
    worked = np.random.default_rng().permutation(both)[:timed_rows]
    mine = _times(rollout.version, inputs, worked)
    theirs = np.full(n, np.nan)
    if rollout.incumbent is not None:
        theirs = _times(rollout.incumbent, _inputs(serving(rollout.incumbent), rows), worked)
    failed = np.isnan(answered)
    columns: dict[str, Any] = {
        "request_id": rows["request_id"],
        "at": rows["at"],
        "version_id": [rollout.version_id] * n,
        "score": pa.array(answered, from_pandas=True),
        "status": ["error" if each else "ok" for each in failed],
        "error": [errors.get(row, "The model gave no number.")[:500] if failed[row] else None for row in range(n)],
        "latency_ms": pa.array(mine, from_pandas=True),
        "champion_latency_ms": pa.array(theirs, from_pandas=True),
        "scored_at": pa.array([now] * n, TIME),
    }
    return pa.table([_column(columns[each.name], each.type) for each in SHADOW], schema=SHADOW)


def _column(values: Any, kind: pa.DataType) -> Any:
    return pa.array(values, kind) if isinstance(values, list) else values.cast(kind)


def _inputs(which: Serving, rows: pa.Table) -> pa.Table:
    """A version's input columns from the log's columns; one that was never logged is null."""
    return pa.table({name: rows[which.logged[name]] for name in which.inputs})


def _predict(version: ModelVersion, inputs: pa.Table) -> tuple[FloatArray, dict[int, str]]:
    try:
        answered = scorers.scorer(version).predict(inputs)
    except Unscorable as error:
        return np.full(len(inputs), np.nan), dict.fromkeys(range(len(inputs)), str(error))
    return answered.scores, answered.errors


def _times(version: ModelVersion, inputs: pa.Table, places: NDArray[np.int64]) -> FloatArray:
    """Milliseconds of these rows, each asked alone, from the first on as many as fit into the budget; else NaN."""
    times = np.full(len(inputs), np.nan)
    if len(places):
        try:
            measured = scorers.scorer(version).time_rows(inputs.take(places), budget=TIMING_BUDGET)
        except Unscorable:
            return times
        times[places[: len(measured)]] = measured
    return times
