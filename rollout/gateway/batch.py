"""Answer tables of requests in this process: the demo's replay, the portal's API, whoever has many rows at once.

The rules are the gateway's (``rollout.gateway.rules``). What differs is that models are asked in children
(``rollout.scorers``), that columns are Arrow's, and that rows go straight into the day files. The shadow is never on
this path; it is scored from the log (``rollout.shadow``), for which the features that it would have been given are
logged too.
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
from engines import scoring
from engines.scoring import Unscorable
from features import online
from registry.models import ModelVersion
from rollout import prediction_log, routing, scorers
from rollout.day_files import TIME
from rollout.gateway import rules
from rollout.gateway.arms import CANARY, CHAMPION, FALLBACK
from rollout.gateway.rules import Answers, MissingInputs, Rows, Scored
from rollout.routing import Line, Serving

TIMING_BUDGET = timedelta(milliseconds=250)

FloatArray = NDArray[np.float64]
Columns = dict[str, pa.ChunkedArray]


@dataclass(frozen=True)
class Served:
    """The answers, one row per request in its order.

    ``table``: request_id, score (null when nobody could answer), decision (score at or above the threshold), arm,
    answered_by, version (number of the version that answered, null for a fixed score), status.
    """

    table: pa.Table


def serve(endpoint_name: str, requests: pa.Table, *, now: datetime, refresh: bool = False) -> Served:
    """Answer ``requests`` and log each; when this returns, the log has them.

    ``requests``: ``request_id``, the join keys and request features of the served models, the endpoint's entity column
    (without it, or where it is null, a row sticks to nothing) and optionally ``at``, each request's own time (else
    ``now``). ``refresh`` reads the route even if this process read it a moment ago. Raises NotFound, InvalidInput.
    """
    line = routing.line(endpoint_name, refresh=refresh)
    rows = _identified(requests, line, now)
    if not line.enabled or line.champion is None:
        answers = rules.nobody(len(rows), fallback=_fallback_of(line, requests, rows, now))
        version = line.fallback_version.version.pk if line.fallback_version else None
        return _logged(line, rules.fallback_columns(line, rows, answers, version_id=version), {})
    inputs = _inputs(line.champion, requests, now, rows.at)
    candidate_inputs, problem = _candidate_inputs(line, inputs, requests, now, rows.at)
    canary = rules.canary_rows(line, rows)
    answers = rules.answer(
        canary,
        champion=_asking(line.champion, inputs, ""),
        candidate=_asking(line.candidate, candidate_inputs, problem),
        fallback=_fallback_of(line, requests, rows, now),
    )
    latency = _timed(line, canary, answers, {CHAMPION: inputs, CANARY: candidate_inputs})
    columns = rules.log_columns(line, rows, canary, answers, latency, True)
    given = _columns_of(requests)
    features = rules.logged_features(((line.champion, inputs), (line.candidate, candidate_inputs)), given)
    if candidate_inputs is not None:
        features[prediction_log.CANDIDATE_GIVEN] = pa.array([True] * len(rows))
    return _logged(line, columns, features)


def _columns_of(table: pa.Table) -> Columns:
    return dict(zip(table.column_names, table.columns, strict=True))


def _identified(requests: pa.Table, line: Line, now: datetime) -> Rows:
    """Who asks, row by row."""
    if "request_id" not in requests.column_names or requests["request_id"].null_count:
        raise InvalidInput({"request_id": "Each request needs one: it joins the outcome to the prediction."})
    n = len(requests)
    ids = requests["request_id"].cast(pa.string()).to_pylist()
    there = line.entity_column in requests.column_names
    named = requests[line.entity_column].cast(pa.string()).to_pylist() if there else None
    at = requests["at"].cast(TIME) if "at" in requests.column_names else pa.array([now] * n, TIME)
    return rules.rows_of(line, ids, named, pc.fill_null(at, pa.scalar(now, TIME)).to_pylist())


# ---------------------------------------------------------------------- what a version is given


def _inputs(serving: Serving, requests: pa.Table, now: datetime, at: Sequence[datetime]) -> Columns:
    """The model's input columns in order: by value, or features from the online store and the rest from the request."""
    service = serving.service

    def read() -> Columns:
        return _columns_of(online.read(service, requests, now=now, at=at)) if service else {}

    try:
        return rules.inputs_of(str(serving.version), serving.inputs, _columns_of(requests), read)
    except MissingInputs as missing:
        raise InvalidInput(missing.fields) from missing


def _candidate_inputs(
    line: Line, champion: Columns, requests: pa.Table, now: datetime, at: Sequence[datetime]
) -> tuple[Columns | None, str]:
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


# ---------------------------------------------------------------------- who answers


def _asking(serving: Serving | None, inputs: Columns | None, problem: str) -> rules.Ask:
    """Asks a version in its child; one without inputs fails with ``problem``."""
    if serving is None or inputs is None:
        return lambda places: Scored.failed(len(places), problem)
    table = pa.table(inputs)

    def ask(places: Sequence[int]) -> Scored:
        found = _predict(serving.version, table.take(pa.array(places, pa.int64())))
        return Scored(found.scores.tolist(), found.errors)

    return ask


def _fallback_of(line: Line, requests: pa.Table, rows: Rows, now: datetime) -> rules.Ask:
    """Asks what answers when nobody else may or can: a fixed score, or the earlier champion that was named."""
    stand_in = line.fallback_version
    if stand_in is None:
        score = float("nan") if line.fallback is None else line.fallback
        return lambda places: Scored([score] * len(places), {})

    def ask(places: Sequence[int]) -> Scored:
        try:
            inputs = _inputs(stand_in, requests, now, rows.at)
        except GatehouseError as error:
            return Scored.failed(len(places), str(error))
        return _asking(stand_in, inputs, "")(places)

    return ask


def _predict(version: ModelVersion, inputs: pa.Table) -> scoring.Scored:
    """Scores of a version; a scorer that died is started once more, then all rows are errors."""
    problem = ""
    for _ in range(2):
        try:
            return scorers.scorer(version).predict(inputs)
        except (Unscorable, GatehouseError, OSError) as error:
            problem = str(error)
    return scoring.Scored(np.full(len(inputs), np.nan), dict.fromkeys(range(len(inputs)), problem))


def _timed(
    line: Line, canary: Sequence[bool], answers: Answers, given: dict[str, Columns | None]
) -> list[float | None]:
    """Milliseconds of a few rows of each arm, asked one by one; None elsewhere.

    In a canary only: in shadow the look times both versions itself. Drawn anew each call: the first rows of a batch
    would time the same few entities every day.
    """
    latency: list[float | None] = [None] * len(canary)
    if line.stage != CANARY or not line.timed_rows:
        return latency
    for arm, serving in ((CHAMPION, line.champion), (CANARY, line.candidate)):
        inputs = given[arm]
        worked = [place for place, each in enumerate(canary) if each == (arm == CANARY)]
        worked = [place for place in worked if answers.answered_by[place] == arm]
        if serving is None or inputs is None or not worked:
            continue
        drawn = np.random.default_rng().permutation(np.array(worked))[: line.timed_rows]
        for place, milliseconds in zip(drawn, _time(serving.version, pa.table(inputs).take(drawn)), strict=False):
            latency[int(place)] = float(milliseconds)
    return latency


def _time(version: ModelVersion, inputs: pa.Table) -> FloatArray:
    """Milliseconds of single rows, as many as fit into the budget."""
    try:
        return scorers.scorer(version).time_rows(inputs, budget=TIMING_BUDGET)
    except (Unscorable, GatehouseError, OSError):
        return np.empty(0)


# ---------------------------------------------------------------------- the log


def _logged(line: Line, columns: dict[str, list[Any]], features: dict[str, Any]) -> Served:
    """Write the rows, then give the answers."""
    schema = prediction_log.PREDICTION
    table = pa.table([pa.array(columns[each.name], each.type) for each in schema], schema=schema)
    whole = table
    for name, values in features.items():
        whole = whole.append_column(name, values)
    prediction_log.append(line.endpoint, whole)
    numbers = {CHAMPION: line.champion, CANARY: line.candidate, FALLBACK: line.fallback_version}
    versions = [
        serving.version.number if score is not None and (serving := numbers[by]) else None
        for by, score in zip(columns["answered_by"], columns["score"], strict=True)
    ]
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
