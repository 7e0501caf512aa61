"""The gateway's core: assign, features, score, rescue, log, answer. No protocol and no database on this path.

The rules are in ``rules``; here are the columns of live requests, models in this process, the spool, and what a request
must not wait for: a candidate that hangs is given up, one that keeps failing is not asked (``breaker``), and a log that
has no room takes canaries off the traffic first.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import orjson

from rollout.gateway import rules
from rollout.gateway.arms import CANARY, CHAMPION, FALLBACK
from rollout.gateway.asked import (
    Answered,
    Asked,
    BadRequest,
    Described,
    Input,
    NotReady,
    UnknownEndpoint,
    Values,
)
from rollout.gateway.breaker import Breaker
from rollout.gateway.limits import GivenUp, Limited
from rollout.gateway.rules import Answers, MissingInputs, Rows, Scored
from rollout.gateway.table import TableLine, TableVersion
from rollout.prediction_log import CANDIDATE_GIVEN
from rollout.spool import NotDurable, SpoolFull

log = logging.getLogger(__name__)

CROWDED = 0.8
"""Share of the spool's budget from which on no canary gets traffic: their rows are the first we can do without."""
EARLY = timedelta(minutes=1)
"""How far a client's clock may be ahead."""


class FeaturesAway(Exception):
    """The online store did not answer."""


class Tables(Protocol):
    """The lines that are in effect."""

    def line(self, endpoint: str) -> TableLine | None:
        """None while nothing can answer."""

    def is_known(self, endpoint: str) -> bool: ...


class Asking(Protocol):
    """A loaded model and what is known of it."""

    @property
    def model(self) -> Any: ...
    @property
    def is_warm(self) -> bool: ...

    calls: int


class WarmModels(Protocol):
    def get(self, version: TableVersion) -> Asking | None: ...


class Log(Protocol):
    """``rollout.spool.Spool``."""

    @property
    def pressure(self) -> float: ...
    def append(self, record: bytes, *, durable: bool = False, rows: int = 1) -> None: ...


class Features(Protocol):
    """The online store, by version."""

    def read(
        self, version: TableVersion, columns: Mapping[str, Values], rows: int, *, now: datetime, at: Sequence[datetime]
    ) -> Mapping[str, Values]:
        """What the store has of a version's inputs. Raises FeaturesAway, and MissingInputs without its join keys."""


class Gateway:
    """Answers requests for every endpoint of ``tables``. Any number of threads may ask."""

    def __init__(
        self,
        tables: Tables,
        models: WarmModels,
        spool: Log,
        clock: Callable[[], datetime],
        *,
        features: Features | None = None,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        self._tables, self._models, self._spool, self._clock, self._features = tables, models, spool, clock, features
        self._opened = opened
        self._limited = Limited()
        self._described: dict[str, tuple[TableLine, Described]] = {}
        self.breakers: dict[tuple[str, int], Breaker] = {}
        self.counts: dict[tuple[str, str, str], int] = {}
        """Rows by endpoint, arm and status since the process began."""
        self.dropped = 0
        """Rows that were answered but not logged."""
        self.unconfirmed = 0
        """Rows of durable endpoints that the disk did not confirm."""
        self.is_crowded = False

    # ------------------------------------------------------------------ what is served

    def line(self, endpoint: str) -> TableLine:
        """The endpoint's line. Raises UnknownEndpoint, NotReady."""
        line = self._tables.line(endpoint)
        if line is None:
            if self._tables.is_known(endpoint):
                raise NotReady(f"{endpoint} is not ready: its models are still loading.")
            raise UnknownEndpoint(f"There is no endpoint {endpoint[:100]!r}.")
        return line

    def describe(self, endpoint: str) -> Described:
        """Raises UnknownEndpoint; an endpoint that is not ready is described as such."""
        line = self._tables.line(endpoint)
        if line is None:
            if self._tables.is_known(endpoint):
                return Described(endpoint, None, (), False)
            raise UnknownEndpoint(f"There is no endpoint {endpoint[:100]!r}.")
        known = self._described.get(endpoint)
        if known is None or known[0] is not line:
            known = self._described[endpoint] = (line, _described(line))
        return known[1]

    # ------------------------------------------------------------------ one request

    def answer(self, endpoint: str, asked: Asked) -> Answered:
        """Answer every row and log it; when this returns, the log has it. Raises Refusal."""
        line = self.line(endpoint)
        if line.stage == CANARY and self._has_no_room():
            line = replace(line, share=0.0)
        now = self._clock()
        rows = _rows(line, asked, now)
        if not line.enabled or line.champion is None:
            return self._stopped(line, rows, asked, now)
        return self._served(line, line.champion, rows, asked, now)

    def _served(self, line: TableLine, champion: TableVersion, rows: Rows, asked: Asked, now: datetime) -> Answered:
        inputs, took, problem = self._champion_inputs(champion, rows, asked, now)
        theirs, they_took, their_problem = self._candidate_inputs(line, champion, inputs, took, rows, asked, now)
        canary = rules.canary_rows(line, rows)
        answers = rules.answer(
            canary,
            champion=self._asking(champion, inputs, problem),
            candidate=self._candidate(line, theirs, their_problem),
            fallback=self._fallback(line, rows, asked, now),
        )
        self._judge_breakers(line, canary, answers)
        latency, warm = self._latency(line, rows, canary, answers, took, they_took)
        columns = rules.log_columns(line, rows, canary, answers, latency, warm)
        taking = ((line.champion, inputs), (line.candidate, theirs))
        features = rules.logged_features(taking, asked.columns)
        if theirs is not None:
            features[CANDIDATE_GIVEN] = [True] * len(rows)
        return self._logged(line, rows, columns, features)

    def _stopped(self, line: TableLine, rows: Rows, asked: Asked, now: datetime) -> Answered:
        """The kill switch is pulled, or nobody serves here yet."""
        version = line.fallback_version
        answers = rules.nobody(len(rows), fallback=self._fallback(line, rows, asked, now))
        columns = rules.fallback_columns(line, rows, answers, version_id=version.pk if version else None)
        return self._logged(line, rows, columns, {})

    # ------------------------------------------------------------------ inputs

    def _inputs(
        self, version: TableVersion, rows: Rows, asked: Asked, now: datetime
    ) -> tuple[dict[str, Values], float]:
        """A version's inputs, and the milliseconds until they were there."""
        began = time.perf_counter()
        features = self._features

        def read() -> Mapping[str, Values]:
            if features is None or version.service is None:
                return {}
            return features.read(version, asked.columns, len(rows), now=now, at=rows.at)

        found = rules.inputs_of(str(version), version.names, asked.columns, read)
        return found, (time.perf_counter() - began) * 1000

    def _champion_inputs(
        self, champion: TableVersion, rows: Rows, asked: Asked, now: datetime
    ) -> tuple[dict[str, Values] | None, float, str]:
        """Raises BadRequest for what the request should have brought; a store that is away is the gateway's failure."""
        try:
            return *self._inputs(champion, rows, asked, now), ""
        except MissingInputs as missing:
            name, said = next(iter(missing.fields.items()))
            raise BadRequest(f"{name}: {said}", name) from missing
        except FeaturesAway as problem:
            return None, 0.0, str(problem)

    def _candidate_inputs(
        self,
        line: TableLine,
        champion: TableVersion,
        inputs: dict[str, Values] | None,
        took: float,
        rows: Rows,
        asked: Asked,
        now: datetime,
    ) -> tuple[dict[str, Values] | None, float, str]:
        """The candidate's inputs, also in shadow, where they are logged; what it can not be given hurts nobody else."""
        candidate = line.candidate
        if candidate is None:
            return None, 0.0, ""
        if candidate.service == champion.service and candidate.inputs == champion.inputs and inputs is not None:
            return inputs, took, ""
        try:
            return *self._inputs(candidate, rows, asked, now), ""
        except (MissingInputs, FeaturesAway) as problem:
            return None, 0.0, str(problem)

    # ------------------------------------------------------------------ asking

    def _asking(self, version: TableVersion, inputs: dict[str, Values] | None, problem: str) -> rules.Ask:
        warm = self._models.get(version)
        if inputs is None or warm is None:
            said = problem or "Its model is not loaded."
            return lambda places: Scored.failed(len(places), said)
        return lambda places: _ask(warm, inputs, places)

    def _candidate(self, line: TableLine, inputs: dict[str, Values] | None, problem: str) -> rules.Ask:
        """The candidate, given up after its time; not asked at all while its breaker is open."""
        if line.candidate is None:
            return lambda places: Scored.failed(len(places), "There is no candidate.")
        ask = self._asking(line.candidate, inputs, problem)
        breaker = self._breaker(line, line.candidate)
        limit = line.timeout_ms

        def limited(places: Sequence[int]) -> Scored:
            if not breaker.lets_through(time.monotonic()):
                return Scored.failed(len(places), f"It is not asked: it kept failing. {breaker.problem}")
            if limit is None:
                return ask(places)
            try:
                return self._limited.call(lambda: ask(places), seconds=limit / 1000)
            except GivenUp as given_up:
                return Scored.failed(len(places), str(given_up))

        return limited

    def _fallback(self, line: TableLine, rows: Rows, asked: Asked, now: datetime) -> rules.Ask:
        """An earlier champion where one was named; a fixed score where none was, or it can not answer either."""
        fallback = line.fallback
        score = math.nan if fallback is None or fallback.score is None else fallback.score
        version = line.fallback_version

        def ask(places: Sequence[int]) -> Scored:
            if version is None:
                return Scored([score] * len(places), {})
            try:
                inputs, _ = self._inputs(version, rows, asked, now)
            except (MissingInputs, FeaturesAway):
                return Scored([score] * len(places), {})
            found = self._asking(version, inputs, "")(places)
            return Scored([score if each != each else each for each in found.scores], found.errors)

        return ask

    # ------------------------------------------------------------------ what is learned from it

    def _breaker(self, line: TableLine, version: TableVersion) -> Breaker:
        key = (line.endpoint, version.pk)
        rollout = line.rollout if line.candidate is version else None
        found = self.breakers.get(key)
        if found is None or found.rollout != rollout:
            found = self.breakers[key] = Breaker(rollout)
        return found

    def _judge_breakers(self, line: TableLine, canary: Sequence[bool], answers: Answers) -> None:
        """A request that only the arm failed at is its failure; rows that nobody could score say nothing of it."""
        for arm, version in ((CHAMPION, line.champion), (CANARY, line.candidate)):
            if version is None:
                continue
            mine = [place for place, each in enumerate(canary) if each == (arm == CANARY)]
            if any(answers.answered_by[place] == arm for place in mine):
                self._breaker(line, version).succeeded()
                continue
            lost = [place for place in mine if arm == CHAMPION or answers.answered_by[place] == CHAMPION]
            if lost and self._breaker(line, version).failed(answers.error[lost[0]] or "", time.monotonic()):
                log.error("%s keeps failing on %s: %s", version, line.endpoint, answers.error[lost[0]])
                self._opened()

    def _latency(
        self,
        line: TableLine,
        rows: Rows,
        canary: Sequence[bool],
        answers: Answers,
        took: float,
        they_took: float,
    ) -> tuple[list[float | None], bool]:
        """Milliseconds of the arm's own work, at the request's first row; and whether its model was warm.

        Only of requests that one arm answers whichever it is: part of a batch would be timed by another size.
        """
        latency: list[float | None] = [None] * len(rows)
        if not len(rows) or not rows.is_of_one:
            return latency, True
        arm, version = (CANARY, line.candidate) if canary[0] else (CHAMPION, line.champion)
        warm = self._models.get(version) if version is not None else None
        milliseconds = answers.milliseconds.get(arm)
        if milliseconds is not None and answers.answered_by[0] == arm:
            latency[0] = milliseconds + (they_took if arm == CANARY else took)
        return latency, warm is not None and warm.is_warm

    def _has_no_room(self) -> bool:
        self.is_crowded = self._spool.pressure >= CROWDED
        return self.is_crowded

    # ------------------------------------------------------------------ the log

    def _logged(self, line: TableLine, rows: Rows, columns: dict[str, list[Any]], features: dict[str, Any]) -> Answered:
        """Append the rows to the spool, then give the answers."""
        columns.update(features)
        self.write(line, columns, len(rows))
        arms: list[str] = columns["arm"]
        statuses: list[str] = columns["status"]
        answered_by: list[str] = columns["answered_by"]
        for arm, status in zip(arms, statuses, strict=True):
            key = (line.endpoint, arm, status)
            self.counts[key] = self.counts.get(key, 0) + 1
        numbers = {CHAMPION: line.champion, CANARY: line.candidate, FALLBACK: line.fallback_version}
        scores: list[float | None] = columns["score"]
        return Answered(
            scores=np.array(scores, dtype=np.float64),
            decisions=[None if score is None else score >= line.threshold for score in scores],
            arms=arms,
            answered_by=answered_by,
            versions=[
                version.number if score is not None and (version := numbers[by]) is not None else None
                for by, score in zip(answered_by, scores, strict=True)
            ],
            statuses=statuses,
            request_ids=rows.ids,
        )

    def write(self, line: TableLine, columns: dict[str, Any], rows: int) -> None:
        """Append a request's rows to the spool; what the log can not take is counted and answered all the same."""
        record = orjson.dumps(
            {"endpoint": line.endpoint, "columns": columns}, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY
        )
        try:
            self._spool.append(record, durable=line.durable, rows=rows)
        except NotDurable as problem:
            log.error("%d rows of %s are not on the disk: %s", rows, line.endpoint, problem)
            self.unconfirmed += rows
        except SpoolFull as problem:
            log.error("%d rows of %s are not logged: %s", rows, line.endpoint, problem)
            self.dropped += rows

    def close(self) -> None:
        """Give up the threads of limited work."""
        self._limited.close()


# ---------------------------------------------------------------------- rows


def _rows(line: TableLine, asked: Asked, now: datetime) -> Rows:
    n = asked.rows
    return rules.rows_of(line, _ids(asked.request_id, n), _entities(line, asked), _times(asked.at, n, now))


def _ids(said: str | Sequence[str] | None, n: int) -> list[str]:
    if said is None:
        return [new_id() for _ in range(n)]
    if isinstance(said, str):
        return [said] if n == 1 else [f"{said}:{row}" for row in range(n)]
    return list(said)


def _entities(line: TableLine, asked: Asked) -> list[str | None] | None:
    """Who asks: said for the request, or in the endpoint's entity column; None: nobody is named."""
    said = asked.entity
    if isinstance(said, str):
        return [said] * asked.rows
    if said is not None:
        return list(said)
    column = asked.columns.get(line.entity_column)
    if column is None:
        return None
    return [_name(each) for each in (column.tolist() if isinstance(column, np.ndarray) else column)]


def _name(value: Any) -> str | None:
    """An entity as text, as a cast in Arrow would have it: 7 and 7.0 are one."""
    if value is None or value != value:
        return None
    if type(value) is float and value.is_integer():
        return str(int(value))
    return ("true" if value else "false") if type(value) is bool else str(value)


def _times(said: datetime | Sequence[datetime | None] | None, n: int, now: datetime) -> list[datetime]:
    if said is None:
        return [now] * n
    every = [said] * n if isinstance(said, datetime) else [each or now for each in said]
    if any(each > now + EARLY for each in every):
        raise BadRequest(f"A request can not be later than now ({now.isoformat()}).", "at")
    return every


def new_id() -> str:
    """A request id for who brought none: UUID version 7, which sorts by time (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _ask(warm: Asking, inputs: dict[str, Values], places: Sequence[int]) -> Scored:
    """A model's scores of some rows, and how long it took."""
    began = time.perf_counter()
    mine = _taken(inputs, places)
    scores, errors = warm.model.scores(mine, len(places))
    took = (time.perf_counter() - began) * 1000
    warm.calls += 1
    return Scored(scores.tolist(), errors, took)


def _taken(inputs: dict[str, Values], places: Sequence[int]) -> dict[str, Values]:
    """The rows at ``places``; often that is all of them."""
    if not inputs or len(next(iter(inputs.values()))) == len(places):
        return inputs
    index = list(places)
    return {
        name: values[index] if isinstance(values, np.ndarray) else [values[place] for place in index]
        for name, values in inputs.items()
    }


def _described(line: TableLine) -> Described:
    champion = line.champion
    if champion is None:
        return Described(line.endpoint, None, (), line.fallback is not None, "", (), line.entity_column)
    return Described(
        endpoint=line.endpoint,
        version=champion.number,
        inputs=tuple(Input(each.name, each.kind) for each in champion.inputs),
        ready=True,
        platform=champion.load_class,
        keys=champion.keys,
        entity_column=line.entity_column,
    )


def _plain(value: Any) -> Any:
    """What JSON has no form for: arrays that are not contiguous, numbers of NumPy, times without a zone (UTC)."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    raise TypeError(f"{type(value).__name__} can not be logged")
