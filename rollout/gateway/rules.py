"""The rules by which a request becomes answers and rows of the log, whoever asks and however columns are held. Pure.

Who is who and sticks to which arm, which inputs a version gets, who answers when somebody fails, and what the log says
of it. ``rollout.gateway.core`` serves live requests by them, ``rollout.gateway.batch`` tables of requests.

A row whose version fails still gets an answer: the candidate's rows get the champion's (and count as the candidate's
errors), the champion's get the endpoint's fallback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from rollout import assignment
from rollout.gateway.arms import CANARY, CHAMPION, ERROR, FALLBACK, LIVE, OK

SHADOW = "shadow"
LONGEST_ERROR = 500
NO_NUMBER = "The model gave no number."

Columns = TypeVar("Columns")


class Routed(Protocol):
    """A route, as far as the rules look at it."""

    @property
    def endpoint(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def share(self) -> float: ...
    @property
    def salt(self) -> str: ...
    @property
    def champion_id(self) -> int | None: ...
    @property
    def candidate_id(self) -> int | None: ...


class Taking(Protocol):
    """What a version takes, and the names under which it is logged."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def logged(self) -> Mapping[str, str]: ...
    @property
    def asked(self) -> Mapping[str, str]: ...


# ---------------------------------------------------------------------- who asks


@dataclass(frozen=True, slots=True)
class Rows:
    """Who asks, row by row. ``entities`` stick to an arm; one that named nobody has its request id there.

    ``buckets`` are None outside a rollout.
    """

    ids: list[str]
    entities: list[str]
    sticky: list[bool]
    at: list[datetime]
    buckets: list[float | None]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_of_one(self) -> bool:
        """Whether all rows stick together, so that one arm answers the whole request, whichever it is."""
        return len(self.ids) == 1 or len(set(self.entities)) == 1


def rows_of(routed: Routed, ids: list[str], named: Sequence[str | None] | None, at: list[datetime]) -> Rows:
    """The rows with their buckets; ``named`` are entities (None: the request names nobody)."""
    if named is None:
        entities, sticky = ids, [False] * len(ids)
    else:
        entities = [each if entity is None else entity for each, entity in zip(ids, named, strict=True)]
        sticky = [entity is not None for entity in named]
    salt = routed.salt
    buckets: list[float | None]
    buckets = [assignment.bucket(each, salt=salt) for each in entities] if salt else [None] * len(ids)
    return Rows(ids, entities, sticky, at, buckets)


def canary_rows(routed: Routed, rows: Rows) -> list[bool]:
    """Which rows are the candidate's."""
    if routed.stage != CANARY or routed.candidate_id is None or not routed.salt:
        return [False] * len(rows)
    share = routed.share
    return [bucket is not None and bucket < share for bucket in rows.buckets]


# ---------------------------------------------------------------------- what a version is given


class MissingInputs(Exception):
    """A version takes columns that neither the request nor the online store gives; what to say of each."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {said}" for name, said in fields.items()))
        self.fields = dict(fields)


def inputs_of(
    title: str, names: Sequence[str], given: Mapping[str, Any], read: Callable[[], Mapping[str, Any]] | None
) -> dict[str, Any]:
    """A version's input columns in order. By value where the request brings them all; else what the online store has
    (``read``), and the rest from the request. Raises MissingInputs."""
    if given.keys() >= set(names):
        return {name: given[name] for name in names}
    features = read() if read is not None else {}
    lacking = [name for name in names if name not in features and name not in given]
    if lacking:
        raise MissingInputs(dict.fromkeys(lacking, f"{title} takes this column from the request."))
    return {name: features[name] if name in features else given[name] for name in names}


def logged_features(
    versions: Sequence[tuple[Taking | None, Mapping[str, Any] | None]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What the versions were or would have been given and what was asked for it, under the names of the log."""
    features: dict[str, Any] = {}
    for taking, inputs in versions:
        if taking is not None and inputs is not None:
            features.update({column: given[name] for name, column in taking.asked.items() if name in given})
            logged = taking.logged
            features.update({logged[name]: inputs[name] for name in taking.names})
    return features


# ---------------------------------------------------------------------- who answers


class Scored(NamedTuple):
    """Scores in the order asked, NaN where the version failed, and what it said there by position."""

    scores: Sequence[float]
    errors: Mapping[int, str]
    milliseconds: float | None = None

    @classmethod
    def failed(cls, rows: int, problem: str) -> Scored:
        return cls([math.nan] * rows, dict.fromkeys(range(rows), problem))


Ask = Callable[[Sequence[int]], Scored]
"""Asks somebody about the rows at these places."""


@dataclass(slots=True)
class Answers:
    """What becomes of each row. ``milliseconds``: how long each arm took for its part of the request."""

    score: list[float]
    status: list[str]
    error: list[str | None]
    answered_by: list[str]
    milliseconds: dict[str, float | None]


def answer(canary: Sequence[bool], *, champion: Ask, candidate: Ask, fallback: Ask) -> Answers:
    """Every row by its arm; what an arm failed at by the next: the candidate's by the champion, the champion's by the
    fallback. Status and error stay those of the arm that failed."""
    n = len(canary)
    answers = Answers([math.nan] * n, [OK] * n, [None] * n, [FALLBACK] * n, {})
    mine = [place for place in range(n) if not canary[place]]
    theirs = [place for place in range(n) if canary[place]] if len(mine) < n else []
    if mine:
        _put(answers, champion(mine), mine, by=CHAMPION)
    if theirs:
        failed = _put(answers, candidate(theirs), theirs, by=CANARY)
        if failed:
            _fill(answers, champion(failed), failed, by=CHAMPION)
    left = [place for place in range(n) if answers.answered_by[place] == FALLBACK]
    if left:
        _fill(answers, fallback(left), left, by=FALLBACK)
    return answers


def nobody(n: int, *, fallback: Ask) -> Answers:
    """Nobody may answer (kill switch), or nobody can yet: everybody gets the fallback."""
    answers = Answers([math.nan] * n, [FALLBACK] * n, [None] * n, [FALLBACK] * n, {})
    _fill(answers, fallback(range(n)), range(n), by=FALLBACK)
    return answers


def _put(answers: Answers, scored: Scored, places: Sequence[int], *, by: str) -> list[int]:
    """An arm's own rows; the places at which it failed."""
    answers.milliseconds[by] = scored.milliseconds
    failed = []
    for row, place in enumerate(places):
        score = float(scored.scores[row])
        if score != score:
            answers.status[place] = ERROR
            answers.error[place] = scored.errors.get(row, NO_NUMBER)[:LONGEST_ERROR]
            failed.append(place)
        else:
            answers.score[place] = score
            answers.answered_by[place] = by
    return failed


def _fill(answers: Answers, scored: Scored, places: Sequence[int], *, by: str) -> None:
    """Somebody else's answer for rows whose arm failed."""
    for row, place in enumerate(places):
        score = float(scored.scores[row])
        if score == score:
            answers.score[place] = score
            answers.answered_by[place] = by


# ---------------------------------------------------------------------- what the log says


def log_columns(
    routed: Routed, rows: Rows, canary: Sequence[bool], answers: Answers, latency: Sequence[float | None], warm: Any
) -> dict[str, list[Any]]:
    """The columns of ``prediction_log.PREDICTION`` for answered rows."""
    n = len(rows)
    arms = [CANARY if each else CHAMPION for each in canary]
    ids = {CANARY: routed.candidate_id, CHAMPION: routed.champion_id}
    return _columns(routed, rows, answers, arms, [ids[arm] for arm in arms], latency, [warm] * n)


def fallback_columns(routed: Routed, rows: Rows, answers: Answers, *, version_id: int | None) -> dict[str, list[Any]]:
    """The same where nobody was to answer but the fallback; ``version_id`` of the earlier champion, if it is one."""
    n = len(rows)
    return _columns(routed, rows, answers, [FALLBACK] * n, [version_id] * n, [None] * n, [True] * n)


def _columns(
    routed: Routed,
    rows: Rows,
    answers: Answers,
    arms: list[str],
    versions: list[int | None],
    latency: Sequence[float | None],
    warm: list[Any],
) -> dict[str, list[Any]]:
    n = len(rows)
    return {
        "request_id": rows.ids,
        "at": rows.at,
        "endpoint": [routed.endpoint] * n,
        "entity": rows.entities,
        "bucket": rows.buckets,
        "sticky": rows.sticky,
        "stage": [routed.stage] * n,
        "step": [routed.step] * n,
        "share": [routed.share] * n,
        "salt": [routed.salt] * n,
        "arm": arms,
        "version_id": versions,
        "answered_by": answers.answered_by,
        "score": [None if each != each else each for each in answers.score],
        "status": answers.status,
        "error": answers.error,
        "latency_ms": list(latency),
        "warm": warm,
        "shadow": [routed.stage == SHADOW] * n,
        "candidate_id": [routed.candidate_id] * n,
        "source": [LIVE] * n,
    }
