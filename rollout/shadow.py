"""What a candidate would have answered: scored from the log, in batches, where no request waits for it.

Two measurements that are kept apart: every request is *scored*, in batches, which says nothing of how long one answer
takes; a drawn sample of them is *timed*, one request alone at a time, the candidate and the champion in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engines.scoring import Scored, Unscorable
from registry.models import ModelVersion
from rollout import prediction_log, scorers
from rollout.day_files import TIME
from rollout.gateway.arms import FALLBACK
from rollout.models import Rollout, RolloutState
from rollout.prediction_log import CANDIDATE_GIVEN, SHADOW
from rollout.routing import Serving, serving

BATCH = 2000
PIECE = 100
"""Rows asked together again when a whole batch took the candidate's process down."""
GIVE_UP = 3
"""Pieces in a row that fail before the rest of their batch is not asked any more."""
WARMED_BY = 2
"""Untimed answers of each version before the first timed one."""
TRAFFIC_BEFORE = timedelta(days=28)
"""How far before the shadow the champion's traffic is looked at for segments that have to be covered."""

NOT_GIVEN = "The request does not bring what this version takes."
NO_NUMBER = "The model gave no number."

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def requests_of(rollout: Rollout, *, until: datetime) -> pa.Table:
    """The log's rows that the candidate shadows, oldest first, with what both versions were (or would be) given.

    Which rows those are the gateway said when it answered (``shadow``); rows from before it said so are those of this
    rollout's salt in its shadow stage.
    """
    if rollout.shadow_since is None:
        raise ValueError(f"{rollout} has not been in shadow")
    columns = ["entity", "salt", "stage", "arm", "status", "score", "shadow", CANDIDATE_GIVEN, *seen_columns(rollout)]
    rows = prediction_log.read(rollout.endpoint.name, since=rollout.shadow_since, until=until, columns=columns)
    shadowed = pc.coalesce(rows["shadow"].cast(pa.bool_()), pc.equal(rows["stage"], RolloutState.SHADOW.value))
    mine = pc.and_(pc.equal(rows["salt"], rollout.salt), shadowed)
    # what the fallback answered has no champion's answer to be compared with
    return rows.filter(pc.and_(mine, pc.not_equal(rows["arm"], FALLBACK))).sort_by("at")


def traffic_of(rollout: Rollout, *, until: datetime, columns: list[str]) -> pa.Table:
    """What the champion's traffic of the last four weeks and of the shadow says in ``columns`` of the log."""
    if rollout.shadow_since is None:
        raise ValueError(f"{rollout} has not been in shadow")
    since = rollout.shadow_since - TRAFFIC_BEFORE
    return prediction_log.read(rollout.endpoint.name, since=since, until=until, columns=columns)


def seen_columns(rollout: Rollout) -> list[str]:
    """The log's columns of both versions: what they were given, and what the request said to find it (groups, keys)."""
    found = dict.fromkeys([*_serving(rollout).logged.values(), *_serving(rollout).asked.values()])
    if rollout.incumbent is not None:
        champion = serving(rollout.incumbent)
        found |= dict.fromkeys([*champion.logged.values(), *champion.asked.values()])
    return list(found)


def scores(
    rollout: Rollout, rows: pa.Table, *, now: datetime, timed_rows: int, budget: timedelta = timedelta(seconds=5)
) -> pa.Table:
    """``SHADOW`` rows for ``rows``: those scored before, and the rest scored now and stored, batch by batch.

    Idempotent by (request, version), so a repeated or competing run changes nothing. A batch that fails costs only
    itself: what was scored before it is stored, and those after it are asked. When not one row of a batch was answered
    the rest waits for the next run, so that a candidate that hangs does not hold up the worker for hours. Of the new
    rows ``timed_rows``, drawn at random, are also timed alone, as many as fit into ``budget``.
    """
    if not len(rows):
        return SHADOW.empty_table()
    endpoint, version = rollout.endpoint.name, rollout.version_id
    since, until = rows["at"][0].as_py(), rows["at"][-1].as_py() + timedelta(microseconds=1)
    done = prediction_log.read_shadow(endpoint, version, since=since, until=until).select(SHADOW.names)
    waiting = rows.filter(pc.invert(pc.is_in(rows["request_id"], value_set=done["request_id"])))
    drawn = np.zeros(len(waiting), dtype=np.bool_)
    drawn[np.random.default_rng().permutation(len(waiting))[:timed_rows]] = True
    sample = _Sample(rollout, budget)
    parts = [done]
    for start in range(0, len(waiting), BATCH):
        batch = _scored(rollout, waiting.slice(start, BATCH), now, drawn[start : start + BATCH], sample)
        prediction_log.append_shadow(endpoint, version, batch)
        parts.append(batch)
        if batch["score"].null_count == len(batch):
            break
    return pa.concat_tables(parts)


def _serving(rollout: Rollout) -> Serving:
    return serving(rollout.version, beside=serving(rollout.incumbent) if rollout.incumbent else None)


def _scored(rollout: Rollout, rows: pa.Table, now: datetime, drawn: BoolArray, sample: _Sample) -> pa.Table:
    """``SHADOW`` rows for a batch."""
    n = len(rows)
    given = _given(rollout, rows)
    answered = np.full(n, np.nan)
    errors = {int(row): NOT_GIVEN for row in np.flatnonzero(~given)}
    places = np.flatnonzero(given)
    if len(places):
        mine = _predict(rollout.version, _inputs(_serving(rollout), rows).take(places))
        answered[places] = mine.scores
        errors |= {int(places[row]): said for row, said in mine.errors.items()}
    failed = np.isnan(answered)
    both = ~failed & (rows["status"].to_numpy(zero_copy_only=False) == "ok")
    mine_ms, theirs_ms = sample.times(rows, both & drawn)
    columns: dict[str, Any] = {
        "request_id": rows["request_id"],
        "at": rows["at"],
        "version_id": [rollout.version_id] * n,
        "score": pa.array(answered, from_pandas=True),
        "status": ["error" if each else "ok" for each in failed],
        "error": [errors.get(row, NO_NUMBER)[:500] if failed[row] else None for row in range(n)],
        "latency_ms": pa.array(mine_ms, from_pandas=True),
        "champion_latency_ms": pa.array(theirs_ms, from_pandas=True),
        "scored_at": pa.array([now] * n, TIME),
    }
    return pa.table([_column(columns[each.name], each.type) for each in SHADOW], schema=SHADOW)


def _column(values: Any, kind: pa.DataType) -> Any:
    return pa.array(values, kind) if isinstance(values, list) else values.cast(kind)


def _inputs(which: Serving, rows: pa.Table) -> pa.Table:
    """A version's input columns from the log's columns; one that was never logged is null."""
    return pa.table({name: rows[which.logged[name]] for name in which.inputs})


def _given(rollout: Rollout, rows: pa.Table) -> BoolArray:
    """Rows of which the log has the candidate's inputs.

    A candidate that asks for more than the requests bring is logged without inputs of its own: scoring those nulls
    would say what it makes of nothing. That can only be where it takes what the champion does not.
    """
    own = set(_serving(rollout).logged.values())
    if rollout.incumbent is not None:
        own -= set(serving(rollout.incumbent).logged.values())
    if not own:
        return np.ones(len(rows), dtype=np.bool_)
    given = pc.fill_null(rows[CANDIDATE_GIVEN].cast(pa.bool_()), False)
    for name in sorted(own):
        given = pc.or_(given, pc.is_valid(rows[name]))
    return np.asarray(given.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _predict(version: ModelVersion, inputs: pa.Table) -> Scored:
    """The candidate's scores; rows that it could not answer are NaN and say why."""

    def ask(rows: pa.Table) -> Scored | str:
        try:
            return scorers.scorer(version).predict(rows)
        except Unscorable as error:
            return str(error)

    return in_pieces(ask, inputs)


def in_pieces(ask: Callable[[pa.Table], Scored | str], inputs: pa.Table) -> Scored:
    """All rows at once. When that takes the process down (``ask`` says why in words), piece by piece, so that one
    poisonous row costs only its piece; after three pieces in a row that fail the rest is not asked."""
    whole = ask(inputs)
    if isinstance(whole, Scored):
        return whole
    scores, errors, in_a_row = np.full(len(inputs), np.nan), dict.fromkeys(range(len(inputs)), whole), 0
    for start in range(0, len(inputs) if len(inputs) > PIECE else 0, PIECE):
        piece = inputs.slice(start, PIECE)
        found = ask(piece)
        if isinstance(found, Scored):
            in_a_row = 0
            scores[start : start + len(piece)] = found.scores
            errors |= {start + row: found.errors.get(row, NO_NUMBER) for row in range(len(piece))}
            continue
        in_a_row += 1
        errors |= dict.fromkeys(range(start, start + len(piece)), found)
        if in_a_row == GIVE_UP:
            break
    return Scored(scores, errors)


class _Sample:
    """Single answers timed within a budget of wall-clock seconds for the whole run, candidate and champion in turns.

    In turns, and every other time the champion first: on a shared machine the load of a second would otherwise be one
    version's alone. Both are asked a few rows untimed first: a cold process is not what a request meets.
    """

    def __init__(self, rollout: Rollout, budget: timedelta) -> None:
        self._versions = [rollout.version] if rollout.incumbent is None else [rollout.version, rollout.incumbent]
        self._serving = [_serving(rollout)]
        if rollout.incumbent is not None:
            self._serving.append(serving(rollout.incumbent))
        self._left = budget.total_seconds()
        self._count = 0

    def times(self, rows: pa.Table, which: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Milliseconds of the candidate's and the champion's answer to each row ``which``; NaN where not timed."""
        found = np.full((2, len(rows)), np.nan)
        places = np.random.default_rng().permutation(np.flatnonzero(which))
        if not len(places) or self._left <= 0:
            return found[0], found[1]
        inputs = [_inputs(each, rows) for each in self._serving]
        try:
            if not self._count:
                for version, table in zip(self._versions, inputs, strict=True):
                    _time(version, table.take(places[:WARMED_BY]), self._left)
            for place in places:
                began = time.monotonic()
                order = range(len(inputs)) if self._count % 2 == 0 else reversed(range(len(inputs)))
                pair = {arm: _time(self._versions[arm], inputs[arm].slice(int(place), 1), self._left) for arm in order}
                self._count += 1
                self._left -= time.monotonic() - began
                if all(milliseconds is not None for milliseconds in pair.values()):
                    for arm, milliseconds in pair.items():
                        found[arm, place] = milliseconds
                if self._left <= 0:
                    break
        except Unscorable:  # one of the two died: what was timed before stands, errors are counted by the scores
            self._left = 0
        return found[0], found[1]


def _time(version: ModelVersion, inputs: pa.Table, seconds: float) -> float | None:
    """Milliseconds of the last of these rows, asked alone; None when it failed or did not fit into the budget."""
    measured = scorers.scorer(version).time_rows(inputs, budget=timedelta(seconds=max(seconds, 0.001)))
    return float(measured[-1]) if len(measured) == len(inputs) else None
