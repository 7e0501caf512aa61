"""Answer requests: route, online features, score, log, and only then the answer.

A row whose version fails still gets an answer: the candidate's rows get the champion's (and count as the candidate's
errors), the champion's get the endpoint's fallback. The shadow is never on this path; it is scored from the log
(``rollout.shadow``), for which the features that it would have been given are logged too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit.errors import GatehouseError, InvalidInput
from engines.scoring import Scored, Unscorable
from features import online
from registry.models import ModelVersion
from rollout import assignment, prediction_log, routing, scorers
from rollout.day_files import TIME
from rollout.routing import Line, Serving

CHAMPION, CANARY, FALLBACK = "champion", "canary", "fallback"
OK, ERROR = "ok", "error"
TIMING_BUDGET = timedelta(milliseconds=250)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Served:
    """The answers, one row per request in its order.

    ``table``: request_id, score (null when nobody could answer), decision (score at or above the threshold), arm,
    answered_by, version (number of the version that answered, null for the fallback), status.
    """

    table: pa.Table


@dataclass
class _Answers:
    """What becomes of each row, filled arm by arm."""

    score: FloatArray
    status: list[str]
    error: list[str | None]
    answered_by: list[str]
    latency: FloatArray

    @classmethod
    def none_yet(cls, n: int) -> _Answers:
        return cls(np.full(n, np.nan), [OK] * n, [None] * n, [FALLBACK] * n, np.full(n, np.nan))

    def fail(self, rows: BoolArray, problem: str) -> None:
        for place in np.flatnonzero(rows):
            self.status[place], self.error[place] = ERROR, problem[:500]


def serve(endpoint_name: str, requests: pa.Table, *, now: datetime, refresh: bool = False) -> Served:
    """Answer ``requests`` and log each; when this returns, the log has them.

    ``requests``: ``request_id``, the join keys and request features of the served models, the endpoint's entity column
    (without it, or where it is null, a row sticks to nothing) and optionally ``at``, each request's own time (else
    ``now``). ``refresh`` reads the route even if this process read it a moment ago. Raises NotFound, InvalidInput.
    """
    line = routing.line(endpoint_name, refresh=refresh)
    rows = _identified(requests, line, now)
    if not line.enabled or line.champion is None:
        return _fallback(line, rows)
    at: list[datetime] = rows["at"].to_pylist()
    inputs = _inputs(line.champion, requests, now, at)
    candidate_inputs, problem = _candidate_inputs(line, inputs, requests, now, at)
    canary = _canary_rows(line, rows)
    answers = _Answers.none_yet(len(rows))
    timed = line.timed_rows if line.stage == CANARY else 0  # in shadow the look times both versions itself
    _answer(answers, line.champion, inputs, ~canary, by=CHAMPION, timed=timed)
    if line.candidate is not None and candidate_inputs is not None:
        _answer(answers, line.candidate, candidate_inputs, canary, by=CANARY, timed=timed)
    else:
        answers.fail(canary, problem)
    _rescue(answers, line.champion, inputs, canary)
    if line.fallback is not None:
        answers.score[[by == FALLBACK for by in answers.answered_by]] = line.fallback
    logged = _log_table(line, rows, canary, answers)
    features = _logged_features(line, requests, inputs, candidate_inputs)
    return _logged(line, logged, features)


def _identified(requests: pa.Table, line: Line, now: datetime) -> pa.Table:
    """request_id, at, entity, sticky and bucket of each row."""
    if "request_id" not in requests.column_names or requests["request_id"].null_count:
        raise InvalidInput({"request_id": "Each request needs one: it joins the outcome to the prediction."})
    n = len(requests)
    ids = requests["request_id"].cast(pa.string())
    there = line.entity_column in requests.column_names
    named = requests[line.entity_column].cast(pa.string()) if there else pa.chunked_array([pa.nulls(n, pa.string())])
    at = requests["at"].cast(TIME) if "at" in requests.column_names else pa.array([now] * n, TIME)
    entity = pc.coalesce(named, ids)
    buckets = assignment.buckets(entity.to_pylist(), salt=line.salt) if line.salt else None
    return pa.table(
        {
            "request_id": ids,
            "at": pc.fill_null(at, pa.scalar(now, TIME)),
            "entity": entity,
            "sticky": pc.is_valid(named),
            "bucket": pa.nulls(n, pa.float64()) if buckets is None else pa.array(buckets),
        }
    )


def _canary_rows(line: Line, rows: pa.Table) -> BoolArray:
    if line.stage != CANARY or line.candidate is None or not line.salt:
        return np.zeros(len(rows), dtype=np.bool_)
    return assignment.is_canary(rows["bucket"].to_numpy(), share=line.share)


def _inputs(serving: Serving, requests: pa.Table, now: datetime, at: Sequence[datetime]) -> pa.Table:
    """The model's input columns in order: features from the online store, the rest from the request."""
    features = online.read(serving.service, requests, now=now, at=at) if serving.service else requests.select([])
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in serving.inputs:
        if name in features.column_names:
            found[name] = features[name]
        elif name in requests.column_names:
            found[name] = requests[name]
        else:
            missing[name] = f"{serving.version} takes this column from the request."
    if missing:
        raise InvalidInput(missing)
    return pa.table(found)


def _candidate_inputs(
    line: Line, champion: pa.Table, requests: pa.Table, now: datetime, at: Sequence[datetime]
) -> tuple[pa.Table | None, str]:
    """The candidate's inputs, also while it is only in shadow; None and why when it can not be given them.

    A candidate that asks for more than the requests bring must not hurt the champion's answers: it fails, they do not.
    """
    if line.candidate is None or line.champion is None:
        return None, ""
    if (line.candidate.service, line.candidate.inputs) == (line.champion.service, line.champion.inputs):
        return champion, ""
    try:
        return _inputs(line.candidate, requests, now, at), ""
    except InvalidInput as error:
        return None, str(error)


def _answer(answers: _Answers, serving: Serving, inputs: pa.Table, mine: BoolArray, *, by: str, timed: int) -> None:
    """Score the rows ``mine`` by one version; what fails keeps the status error and nobody's answer."""
    places = np.flatnonzero(mine)
    if not len(places):
        return
    scored = _predict(serving.version, inputs.take(places))
    for place, score in zip(places, scored.scores, strict=True):
        answers.score[place] = score
    for row, place in enumerate(places):
        if np.isnan(scored.scores[row]):
            answers.status[place] = ERROR
            answers.error[place] = scored.errors.get(row, "The model gave no number.")[:500]
        else:
            answers.answered_by[place] = by
    # Drawn anew each call: the first rows of a batch would time the same few entities every day.
    worked = np.random.default_rng().permutation(places[~np.isnan(scored.scores)])[:timed]
    times = _time(serving.version, inputs.take(worked)) if len(worked) else np.empty(0)
    answers.latency[worked[: len(times)]] = times


def _rescue(answers: _Answers, champion: Serving, inputs: pa.Table, canary: BoolArray) -> None:
    """The candidate's failed rows get the champion's answer; status and error stay the candidate's."""
    places = np.flatnonzero(canary & np.isnan(answers.score))
    if not len(places):
        return
    scored = _predict(champion.version, inputs.take(places))
    answers.score[places] = scored.scores
    for row, place in enumerate(places):
        if not np.isnan(scored.scores[row]):
            answers.answered_by[place] = CHAMPION


def _predict(version: ModelVersion, inputs: pa.Table) -> Scored:
    """Scores of a version; a scorer that died is started once more, then all rows are errors."""
    problem = ""
    for _ in range(2):
        try:
            return scorers.scorer(version).predict(inputs)
        except (Unscorable, GatehouseError, OSError) as error:
            problem = str(error)
    return Scored(np.full(len(inputs), np.nan), dict.fromkeys(range(len(inputs)), problem))


def _time(version: ModelVersion, inputs: pa.Table) -> FloatArray:
    """Milliseconds of single rows, as many as fit into the budget."""
    try:
        return scorers.scorer(version).time_rows(inputs, budget=TIMING_BUDGET)
    except (Unscorable, GatehouseError, OSError):
        return np.empty(0)


def _fallback(line: Line, rows: pa.Table) -> Served:
    """Nobody may answer (kill switch), or nobody can yet: everybody gets the fallback."""
    n = len(rows)
    answers = _Answers.none_yet(n)
    answers.status = [FALLBACK] * n
    if line.fallback is not None:
        answers.score[:] = line.fallback
    table = _log_table(line, rows, np.zeros(n, dtype=np.bool_), answers)
    table = table.set_column(table.column_names.index("arm"), "arm", pa.array([FALLBACK] * n))
    table = table.set_column(table.column_names.index("version_id"), "version_id", pa.nulls(n, pa.int64()))
    return _logged(line, table, {})


def _log_table(line: Line, rows: pa.Table, canary: BoolArray, answers: _Answers) -> pa.Table:
    """The rows of ``prediction_log.PREDICTION``."""
    n = len(rows)
    versions = {True: line.candidate, False: line.champion}
    ids = {arm: serving.version.pk if serving else None for arm, serving in versions.items()}
    columns = {
        **{name: rows[name] for name in rows.column_names},
        "endpoint": [line.endpoint] * n,
        "stage": [line.stage] * n,
        "step": [line.step] * n,
        "share": [line.share] * n,
        "salt": [line.salt] * n,
        "arm": [CANARY if each else CHAMPION for each in canary],
        "version_id": [ids[bool(each)] for each in canary],
        "answered_by": answers.answered_by,
        "score": pa.array(answers.score, from_pandas=True),
        "status": answers.status,
        "error": answers.error,
        "latency_ms": pa.array(answers.latency, from_pandas=True),
    }
    schema = prediction_log.PREDICTION
    return pa.table([_column(columns[each.name], each.type) for each in schema], schema=schema)


def _column(values: Any, kind: pa.DataType) -> Any:
    return pa.array(values, kind) if isinstance(values, list) else values.cast(kind)


def _logged_features(
    line: Line, requests: pa.Table, inputs: pa.Table, candidate_inputs: pa.Table | None
) -> dict[str, Any]:
    """What both versions were or would have been given and what was asked for it, under the names of the log."""
    features: dict[str, Any] = {}
    for serving, table in ((line.champion, inputs), (line.candidate, candidate_inputs)):
        if serving is not None and table is not None:
            asked = {column: name for name, column in serving.asked.items() if name in requests.column_names}
            features |= {column: requests[name] for column, name in asked.items()}
            features |= {serving.logged[name]: table[name] for name in serving.inputs}
    if candidate_inputs is not None:
        features[prediction_log.CANDIDATE_GIVEN] = pa.array([True] * len(requests))
    return features


def _logged(line: Line, table: pa.Table, features: dict[str, Any]) -> Served:
    """Write the rows, then give the answers."""
    whole = table
    for name, values in features.items():
        whole = whole.append_column(name, values)
    prediction_log.append(line.endpoint, whole)
    numbers = {CHAMPION: line.champion, CANARY: line.candidate, FALLBACK: None}
    answered = table["answered_by"].to_pylist()
    versions = [serving.version.number if (serving := numbers[by]) else None for by in answered]
    return Served(
        pa.table(
            {
                "request_id": table["request_id"],
                "score": table["score"],
                "decision": pc.greater_equal(table["score"], line.threshold),
                "arm": table["arm"],
                "answered_by": table["answered_by"],
                "version": pa.array(versions, pa.int64()),
                "status": table["status"],
            }
        )
    )
