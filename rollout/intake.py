"""Predictions and outcomes of teams that serve elsewhere: checked row by row, then kept all or not at all.

A prediction counts once by its id, however often it is sent; the same id with another content is refused, since what
was served can not be something else afterwards. Those that a rollout split must have been split as it planned.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from audit.errors import Conflict, InvalidInput
from registry.models import ModelVersion, Task
from rollout import business, prediction_log
from rollout.business import SKEW
from rollout.day_files import TIME
from rollout.intake_bodies import NAMED_ERRORS, Kind, Sent, Wrong
from rollout.models import BusinessMetric, Endpoint, MeasuredPer, Rollout, RolloutState
from rollout.plan import RolloutPlan
from rollout.routing import Serving, serving
from rollout.spool import one_at_a_time

CHAMPION, CANARY, FALLBACK = "champion", "canary", "fallback"
OK, ERROR = "ok", "error"
LONGEST_ID = 200
LONGEST_SPAN = timedelta(days=31)
"""Between the first and the last row of a body: each day is a file, and is looked through for what was sent before."""
WEEK = timedelta(days=7)
LONGEST_MEMORY = timedelta(days=400)
"""How far back the prediction of a label is looked for that does not say when it was made."""
SAME_SHARE = 1e-9

PREDICTION_FIELDS: Mapping[str, Kind] = {
    "request_id": Kind.TEXT,
    "at": Kind.TIME,
    "version": Kind.WHOLE,
    "score": Kind.NUMBER,
    "entity": Kind.TEXT,
    "status": Kind.TEXT,
    "error": Kind.TEXT,
    "latency_ms": Kind.NUMBER,
    "arm": Kind.TEXT,
    "rollout": Kind.WHOLE,
    "salt": Kind.TEXT,
    "step": Kind.WHOLE,
    "share": Kind.NUMBER,
}
OUTCOME_FIELDS: Mapping[str, Kind] = {
    "request_id": Kind.TEXT,
    "entity": Kind.TEXT,
    "label": Kind.NUMBER,
    "predicted_at": Kind.TIME,
    "metric": Kind.TEXT,
    "value": Kind.NUMBER,
    "at": Kind.TIME,
    "report_id": Kind.TEXT,
}


@dataclass(frozen=True)
class Kept:
    """``stored`` predictions are new, ``repeated`` ones were there already or twice in the body."""

    stored: int
    repeated: int


@dataclass(frozen=True)
class Learned:
    """``labels`` and business ``values`` that were kept; ``unmatched``: labels of entities that nobody asked about."""

    labels: int
    values: int
    unmatched: int


# ---------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class _Split:
    """A rollout that rows say they were split by."""

    rollout: Rollout
    plan: RolloutPlan
    candidate: Serving
    champion: Serving | None

    @classmethod
    def of(cls, rollout: Rollout) -> _Split:
        champion = serving(rollout.incumbent) if rollout.incumbent else None
        candidate = serving(rollout.version, beside=champion)
        return cls(rollout, RolloutPlan.model_validate(rollout.plan), candidate, champion)


def log_predictions(endpoint: Endpoint, sent: Sent, *, now: datetime) -> Kept:
    """Put predictions that were served elsewhere into the endpoint's log, as its gateway would have.

    Raises InvalidInput by place and field, Conflict for an id that is known with another content.
    """
    wrong = Wrong()
    versions = _versions(endpoint, sent)
    splits = _splits(endpoint, sent)
    rows = []
    for place in range(sent.count):
        row = sent.row(place)
        check = _Check(wrong, sent, place)
        rows.append(_log_row(endpoint, row, versions, splits, check, now))
    _check_span([row["at"] for row in rows if row.get("at")], wrong)
    wrong.stop()
    table = _with_features(rows, sent, versions, splits, wrong)
    wrong.stop()
    once, same = _once(table, sent)
    with _one_body_at_a_time(endpoint):  # of two bodies with one id, one comes after the other
        new = once.filter(pa.array(~_known(endpoint.name, once, sent)))
        name = f"{time.time_ns()}-{uuid.uuid4().hex}"
        for day in prediction_log.stage(endpoint.name, new.drop_columns([_PLACE]), name=name):
            day.publish()
    return Kept(len(new), same + len(once) - len(new))


@contextmanager
def _one_body_at_a_time(endpoint: Endpoint) -> Iterator[None]:
    folder = Path(settings.DATA_ROOT) / "intake" / endpoint.name
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        yield


@dataclass(frozen=True)
class _Check:
    """Refuses fields of one row."""

    wrong: Wrong
    sent: Sent
    place: int

    def __call__(self, holds: bool, field: str, problem: str) -> bool:
        if not holds:
            self.wrong(self.sent.place(self.place, field), problem)
        return holds


def _log_row(
    endpoint: Endpoint,
    row: dict[str, Any],
    versions: Mapping[int, ModelVersion],
    splits: Mapping[int | str, _Split],
    check: _Check,
    now: datetime,
) -> dict[str, Any]:
    """A row of the log (``prediction_log.PREDICTION``); what is wrong goes to ``check``."""
    arm = row.setdefault("arm", CHAMPION)
    status = row.setdefault("status", FALLBACK if arm == FALLBACK else OK)
    _check_identity(row, check, now)
    check(arm in (CHAMPION, CANARY, FALLBACK), "arm", "champion, canary or fallback is needed.")
    fits = status == FALLBACK if arm == FALLBACK else status in (OK, ERROR)
    check(fits, "status", "ok or error is needed; fallback for the arm fallback, and only for it.")
    _check_answer(endpoint, row, check)
    _check_version(endpoint, row, versions, check)
    split = _split_of(row, splits, check)
    if split is not None:
        _check_split(row, split, versions, check)
    version = versions.get(row.get("version", 0))
    return _logged(endpoint, row, None if arm == FALLBACK else version, split)


def _check_identity(row: Mapping[str, Any], check: _Check, now: datetime) -> None:
    for field in ("request_id", "entity"):
        if field == "request_id" or field in row:
            fits = 0 < len(row.get(field, "")) <= LONGEST_ID
            check(fits, field, f"A text of 1 to {LONGEST_ID} characters is needed.")
    if check("at" in row, "at", f"{Kind.TIME} is needed: when it was asked."):
        check(row["at"] <= now + SKEW, "at", f"A prediction can not be later than now ({now.isoformat()}).")


def _check_answer(endpoint: Endpoint, row: Mapping[str, Any], check: _Check) -> None:
    score = row.get("score")
    if row["status"] == OK:
        check(score is not None, "score", "A finite number is needed; a row without one has the status error.")
    if score is not None and endpoint.registered_model.task == Task.BINARY_CLASSIFICATION:
        check(0 <= score <= 1, "score", "A probability from 0 to 1 is needed.")
    check(row.get("latency_ms", 0.0) >= 0, "latency_ms", "Milliseconds, not below 0.")
    check("error" not in row or row["status"] != OK, "error", "A row with an error has the status error.")


def _check_version(
    endpoint: Endpoint, row: Mapping[str, Any], versions: Mapping[int, ModelVersion], check: _Check
) -> None:
    number = row.get("version")
    if row["arm"] == FALLBACK:
        check(number is None, "version", "The fallback is no version: leave this out.")
    elif check(number is not None, "version", "The number of the version that should answer is needed."):
        said = f"{endpoint.registered_model} has no version {number}."
        check(number in versions, "version", said)


def _split_of(row: Mapping[str, Any], splits: Mapping[int | str, _Split], check: _Check) -> _Split | None:
    """The rollout that a row names by id or salt; a row without one has nothing to say of arms and shares."""
    named = [field for field in ("rollout", "salt") if row.get(field) not in (None, "")]
    if not named:
        check(row["arm"] != CANARY, "arm", "A canary's rows name their rollout, by its id (rollout) or its salt.")
        for field in ("step", "share"):
            check(not row.get(field), field, "Only rows that name their rollout have this.")
        return None
    found = [splits.get(row[field]) for field in named]
    for field, split in zip(named, found, strict=True):
        check(split is not None, field, "There is no such rollout of this endpoint.")
    same = found[0] is not None and all(split is found[0] for split in found)
    check(same or None in found, "salt", "This is the salt of another rollout.")
    return found[0] if same else None


def _check_split(row: dict[str, Any], split: _Split, versions: Mapping[int, ModelVersion], check: _Check) -> None:
    """The row's arm, version, step, share and time are those that its rollout planned."""
    rollout, step = split.rollout, row.get("step")
    if not check(row["arm"] != FALLBACK, "arm", "What the fallback answered belongs to no rollout: leave it out."):
        return
    planned = rollout.version if row["arm"] == CANARY else rollout.incumbent
    if row.get("version") in versions:
        said = f"Rollout {rollout.pk} compares v{rollout.version.number} (canary) with {_named(rollout.incumbent)}."
        check(planned is not None and planned.pk == versions[row["version"]].pk, "version", said)
    known = f"A step is needed: 0 for its shadow, or one that it has reached (1 to {rollout.step})."
    if not check(step is not None and 0 <= step <= rollout.step, "step", known):
        return
    share = split.plan.step(step).share if step else 0.0
    if not step:
        check(row["arm"] == CHAMPION, "arm", "In its shadow (step 0) the champion answers everybody.")
    check(
        abs(row.setdefault("share", share) - share) <= SAME_SHARE,
        "share",
        f"At step {step} rollout {rollout.pk} has the share {share:g}.",
    )
    since = rollout.canary_since if step else rollout.shadow_since
    until = rollout.ended_at if step else rollout.canary_since or rollout.ended_at
    if at := row.get("at"):
        when = f"Its {'canary' if step else 'shadow'} began {_said(since)} and ended {_said(until)}."
        check(since is not None and since <= at and (until is None or at <= until), "at", when)


def _named(version: ModelVersion | None) -> str:
    return f"v{version.number} (champion)" if version else "nothing"


def _said(moment: datetime | None) -> str:
    return moment.isoformat() if moment else "not yet"


def _logged(
    endpoint: Endpoint, row: Mapping[str, Any], version: ModelVersion | None, split: _Split | None
) -> dict[str, Any]:
    arm, status = row["arm"], row["status"]
    step = row.get("step") or 0
    rescued = CHAMPION if arm == CANARY and row.get("score") is not None else FALLBACK
    shadow = split is not None and not step
    stage = (RolloutState.CANARY if step else RolloutState.SHADOW).value if split else ""
    return {
        "request_id": row.get("request_id"),
        "at": row.get("at"),
        "endpoint": endpoint.name,
        "entity": row.get("entity", row.get("request_id")),
        "bucket": None,  # who split them says into which arm, not how
        "sticky": "entity" in row,
        "stage": stage,
        "step": step,
        "share": row.get("share", 0.0),
        "salt": split.rollout.salt if split else "",
        "arm": arm,
        "version_id": version.pk if version else None,
        "answered_by": arm if status == OK else rescued,
        "score": row.get("score"),
        "status": status,
        "error": row["error"][:500] if "error" in row else None,
        "latency_ms": row.get("latency_ms"),
        "warm": None,  # who served it knows
        "shadow": shadow,
        "candidate_id": split.rollout.version_id if split else None,
        "source": prediction_log.INTAKE,
    }


def _versions(endpoint: Endpoint, sent: Sent) -> dict[int, ModelVersion]:
    """The versions of the endpoint's model that the rows name, by number."""
    numbers = set(sent.fields["version"]) - {None}
    versions = ModelVersion.objects.filter(registered_model=endpoint.registered_model_id, number__in=numbers)
    return {version.number: version for version in versions.select_related("registered_model", "service")}


def _splits(endpoint: Endpoint, sent: Sent) -> dict[int | str, _Split]:
    """The endpoint's rollouts that the rows name, each by id and by salt."""
    ids, salts = set(sent.fields["rollout"]) - {None}, set(sent.fields["salt"]) - {None, ""}
    mine = Rollout.objects.filter(endpoint=endpoint)
    related = ("version__service", "version__registered_model", "incumbent__service", "incumbent__registered_model")
    found: dict[int | str, _Split] = {}
    for rollout in (mine.filter(pk__in=ids) | mine.filter(salt__in=salts)).select_related(*related):
        found[rollout.pk] = found[rollout.salt] = _Split.of(rollout)
    return found


def _check_span(moments: Iterable[datetime], wrong: Wrong) -> None:
    there = sorted(moments)
    if there and there[-1] - there[0] > LONGEST_SPAN:
        said = f"From {there[0].isoformat()} to {there[-1].isoformat()}: at most {LONGEST_SPAN.days} days at once."
        wrong("body", said)


# ---------------------------------------------------------------------- their features

_PLACE = "intake:place"
"""Which row of the body it was; not logged."""
_OF_THE_BODY = (_PLACE, prediction_log.CANDIDATE_GIVEN)
"""What a row has from those that it came with: another body may say it otherwise of the same row."""


def _with_features(
    rows: list[dict[str, Any]],
    sent: Sent,
    versions: Mapping[int, ModelVersion],
    splits: Mapping[int | str, _Split],
    wrong: Wrong,
) -> pa.Table:
    """The rows as the log has them, extra columns under the names that the versions' inputs have there."""
    schema = prediction_log.PREDICTION
    table = pa.table([pa.array([row[each.name] for row in rows], each.type) for each in schema], schema=schema)
    table = table.append_column(_PLACE, pa.array(np.arange(len(rows))))
    by_salt = {split.rollout.salt: split for split in splits.values()}
    kinds = {(row["version_id"], row["salt"]) for row in rows}
    names = {kind: _names(*kind, versions, by_salt) for kind in kinds}
    mine = {kind: np.array([(row["version_id"], row["salt"]) == kind for row in rows]) for kind in kinds}
    parts: dict[str, pa.Array] = {}
    for name, column in sent.extra.items():
        for kind in kinds:
            here = pc.if_else(pa.array(mine[kind]), column, pa.scalar(None, column.type))
            target = names[kind].get(name, name)
            if here.null_count == len(here):
                continue
            if (target in schema.names or ":" in target) and target not in names[kind].values():
                wrong(name, "Gatehouse says this by itself; a model's input of this name is sent as feature:NAME.")
                break
            parts[target] = here if target not in parts else _merged(parts[target], here, name, wrong)
    for target, column in parts.items():
        table = table.append_column(target, column)
    return _with_given(table, by_salt.values())


def _merged(first: pa.Array, second: pa.Array, name: str, wrong: Wrong) -> pa.Array:
    """Two columns that are one in the log; of no row may both have a value."""
    if first.type != second.type:
        wrong(name, f"Sent as {first.type} and as {second.type} under two names that are one in the log.")
        return first
    if pc.any(pc.and_(pc.is_valid(first), pc.is_valid(second))).as_py():
        wrong(name, "A row has this under two names that are one in the log.")
    return pc.coalesce(first, second)


def _names(
    version_id: int | None, salt: str, versions: Mapping[int, ModelVersion], splits: Mapping[str, _Split]
) -> dict[str, str]:
    """What a row's columns are called in the log: those of its version's inputs, and of the candidate's in a rollout.

    A column under the log's own name for it stays what it is.
    """
    found: dict[str, str] = {}
    answering = [serving(version) for version in versions.values() if version.pk == version_id]
    if split := splits.get(salt):
        mine = split.candidate if split.rollout.version_id == version_id else split.champion
        answering = [split.candidate, *([mine] if mine else [])]
    for each in answering:
        found |= {**each.asked, **each.logged}
    return {**{target: target for target in found.values()}, **found}


def _with_given(table: pa.Table, splits: Iterable[_Split]) -> pa.Table:
    """Says of a rollout's rows whether the candidate's inputs came with them: it can be scored from the log then."""
    given = pa.nulls(len(table), pa.bool_())
    for split in splits:
        if set(split.candidate.logged.values()) <= set(table.column_names):
            given = pc.if_else(pc.equal(table["salt"], split.rollout.salt), True, given)
    has = len(table) and pc.count(given).as_py()
    return table.append_column(prediction_log.CANDIDATE_GIVEN, given) if has else table


# ---------------------------------------------------------------------- sent before


def _once(table: pa.Table, sent: Sent) -> tuple[pa.Table, int]:
    """The rows with each id once, and how many were said again. Raises InvalidInput for two under one id."""
    ids = table["request_id"].to_pylist()
    first: dict[str, int] = {}
    again = [(place, first[each]) for place, each in enumerate(ids) if first.setdefault(each, place) != place]
    if not again:
        return table, 0
    wrong = Wrong()
    for place, before in again:
        one, other = (_content(table.slice(each, 1).to_pylist()[0]) for each in (before, place))
        if one != other:
            said = f"{sent.place(before)} has this id with another content ({_apart(one, other)})."
            wrong(sent.place(place, "request_id"), said)
    wrong.stop()
    return table.take(pa.array(sorted(first.values()))), len(again)


def _known(endpoint: str, table: pa.Table, sent: Sent) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows are in the log already. Raises Conflict for those that are there with another content.

    The day before and after are looked through as well: a wrong zone moves a time that far.
    """
    limits = pc.min_max(table["at"]).as_py()
    period = {"since": limits["min"] - timedelta(days=1), "until": limits["max"] + timedelta(days=1)}
    ids = prediction_log.read(endpoint, **period, columns=["request_id"])["request_id"]
    known: np.ndarray[Any, np.dtype[np.bool_]] = (
        pc.is_in(table["request_id"], value_set=ids.combine_chunks()).to_numpy(zero_copy_only=False).astype(np.bool_)
    )
    if not known.any():
        return known
    repeated = table.filter(pa.array(known))
    there = prediction_log.read(endpoint, **period)
    there = there.filter(pc.is_in(there["request_id"], value_set=repeated["request_id"].combine_chunks()))
    before = {row["request_id"]: _content(row) for row in there.to_pylist()}
    apart = {}
    for row in repeated.to_pylist():
        was, now = before[row["request_id"]], _content(row)
        if was != now:
            apart[sent.place(row[_PLACE], "request_id")] = f"{row['request_id']!r} ({_apart(was, now)})"
    if apart:
        told = "; ".join(f"{place}: {said}" for place, said in list(apart.items())[:NAMED_ERRORS])
        raise Conflict(
            f"{len(apart)} of the predictions are in the log with another content, and what was served can not be "
            f"something else afterwards: {told}. Nothing was stored."
        )
    return known


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says, where it says something: numbers as numbers, whichever kind a file had them in."""
    return {
        name: float(value) if type(value) is int else value
        for name, value in row.items()
        if value is not None and name not in _OF_THE_BODY and not (isinstance(value, float) and math.isnan(value))
    }


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The fields in which two contents differ."""
    return "other " + ", ".join(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))


# ---------------------------------------------------------------------- outcomes


def learn_outcomes(endpoint: Endpoint, sent: Sent, *, now: datetime) -> Learned:
    """Keep what really happened: labels, and values of business metrics. They arrive now.

    A label belongs to the prediction of its ``request_id``, or to every prediction of its ``entity`` that was made at
    most the endpoint's outcome window before its ``at``. Raises InvalidInput by place and field.
    """
    wrong = Wrong()
    metrics = {metric.name: metric for metric in endpoint.business_metrics.order_by("created_at", "pk")}  # the newest
    rows = [sent.row(place) for place in range(sent.count)]
    labels: dict[int, dict[str, Any]] = {}
    values: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        check = _Check(wrong, sent, place)
        _check_names(row, check)
        if "label" in row and not check("metric" not in row and "value" not in row, "label", _EITHER):
            continue
        if "label" in row:
            _check_label(endpoint, row, check, now)
            labels[place] = row
        elif check("metric" in row and "value" in row, "label", _EITHER):
            _check_value(row, metrics, check, now)
            values[place] = row
    _check_span([row["at"] for row in labels.values() if "at" in row], wrong)
    wrong.stop()
    told, unmatched = _predictions_of(endpoint, labels, sent, now)
    if len({at.date() for _, at in told.values()}) > LONGEST_MEMORY.days:
        raise InvalidInput({"body": f"Predictions of more than {LONGEST_MEMORY.days} days: send them in parts."})
    reports = _reports(values, sent, now)
    if told:
        prediction_log.append_outcomes(endpoint.name, _outcomes(told, now))
    for name, table in reports.items():
        business.append(endpoint.name, name, table)
    return Learned(len(told), sum(len(table) for table in reports.values()), unmatched)


_EITHER = "Either a label is needed, or a metric with its value."


def _check_names(row: Mapping[str, Any], check: _Check) -> None:
    for field in ("request_id", "entity", "report_id"):
        if field in row:
            check(0 < len(row[field]) <= LONGEST_ID, field, f"A text of 1 to {LONGEST_ID} characters is needed.")
    check("request_id" in row or "entity" in row, "request_id", "Whose outcome is it? A request_id or an entity.")


def _check_label(endpoint: Endpoint, row: Mapping[str, Any], check: _Check, now: datetime) -> None:
    if endpoint.registered_model.task == Task.BINARY_CLASSIFICATION:
        check(row["label"] in (0.0, 1.0), "label", "0 or 1 is needed.")
    check(
        "report_id" not in row, "report_id", "Only a metric's value has this: a later label of a request corrects it."
    )
    if "request_id" in row:
        check("at" not in row, "at", "A label of a request_id has predicted_at: the time of the prediction.")
        check("entity" not in row, "entity", "A label belongs to a request_id or to an entity, not to both.")
        later = "predicted_at" in row and row["predicted_at"] > now + SKEW
        check(not later, "predicted_at", "A prediction can not be later than now.")
    else:
        check("predicted_at" not in row, "predicted_at", "A label of an entity has at: when it was so.")
        if check("at" in row, "at", f"{Kind.TIME} is needed: when it was so."):
            check(row["at"] <= now + SKEW, "at", "Nothing can have happened later than now.")


def _check_value(row: Mapping[str, Any], metrics: Mapping[str, BusinessMetric], check: _Check, now: datetime) -> None:
    metric = metrics.get(row["metric"])
    if metric is None:
        check(False, "metric", f"There is no such metric. There are: {', '.join(metrics) or 'none'}.")
        return
    if metric.per == MeasuredPer.PREDICTION:
        check("request_id" in row, "request_id", f"{metric.name} is measured per prediction: its request_id is needed.")
    if metric.is_heavy_tailed:
        check(row["value"] >= 0, "value", f"{metric.name} is compared on log(1 + value): not below 0.")
    check("predicted_at" not in row, "predicted_at", "A metric's value has at: when it happened.")
    check(row.get("at", now) <= now + SKEW, "at", "Nothing can have happened later than now.")
    named = "request_id" in row or "report_id" in row or "at" in row
    check(named, "at", "An entity's value says when it happened (at), or has a report_id: else twice is not once.")


def _reports(values: Mapping[int, Mapping[str, Any]], sent: Sent, now: datetime) -> dict[str, pa.Table]:
    """The reports of each metric (``business.REPORT``), each name once. Raises InvalidInput for two under one name."""
    wrong = Wrong()
    found: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {}
    for place, row in values.items():
        report = {
            "report": _report_name(row),
            "entity": row.get("entity"),
            "request_id": row.get("request_id"),
            "value": row["value"],
            "at": row.get("at", now),
            "arrived_at": now,
        }
        before, told = found.setdefault(row["metric"], {}).setdefault(str(report["report"]), (place, report))
        if told != report:
            field = "report_id" if "report_id" in row else "request_id" if "request_id" in row else "at"
            wrong(
                sent.place(place, field), f"{sent.place(before)} says something else of the same: name each report_id."
            )
    wrong.stop()
    return {
        name: pa.Table.from_pylist([report for _, report in reports.values()], schema=business.REPORT)
        for name, reports in found.items()
    }


def _report_name(row: Mapping[str, Any]) -> str:
    """What is corrected when it is said again: the sender's name for it, else the request's one value, else the
    entity's value at that moment."""
    if "report_id" in row:
        return f"report:{row['report_id']}"
    if "request_id" in row:
        return f"request:{row['request_id']}"
    return f"entity:{row['entity']}@{row['at'].isoformat()}"


def _predictions_of(
    endpoint: Endpoint, labels: Mapping[int, Mapping[str, Any]], sent: Sent, now: datetime
) -> tuple[dict[str, tuple[float, datetime]], int]:
    """Label and time of each prediction by request id, and how many labels found none.

    Raises InvalidInput for a request that is not in the log (and has no predicted_at), and for two labels of one.
    """
    wrong = Wrong()
    by_request = {place: row for place, row in labels.items() if "request_id" in row}
    by_entity = {place: row for place, row in labels.items() if "request_id" not in row}
    asked = {row["request_id"] for row in by_request.values() if "predicted_at" not in row}
    moments = _moments_of(endpoint.name, asked, now)
    found: dict[str, tuple[float, datetime]] = {}
    said: dict[str, int] = {}
    for place, row in by_request.items():
        request = row["request_id"]
        moment = row.get("predicted_at") or moments.get(request)
        if moment is None:
            problem = "There is no such prediction in the log. One that is not there yet has predicted_at."
            wrong(sent.place(place, "request_id"), problem)
        elif found.setdefault(request, (row["label"], moment)) != (row["label"], moment):
            wrong(sent.place(place, "label"), f"{sent.place(said[request])} says something else of this request.")
        said.setdefault(request, place)
    wrong.stop()
    matched, unmatched = _predictions_of_entities(endpoint, by_entity)
    return {**matched, **found}, unmatched


def _moments_of(endpoint: str, requests: set[str], now: datetime) -> dict[str, datetime]:
    """When these requests were asked, looked for from now back, a week at a time."""
    found: dict[str, datetime] = {}
    until = now + SKEW + timedelta(microseconds=1)
    while len(found) < len(requests) and until > now - LONGEST_MEMORY:
        rows = prediction_log.read(endpoint, since=until - WEEK, until=until, columns=["request_id"])
        wanted = pa.array(sorted(requests - found.keys()), pa.string())
        mine = rows.filter(pc.is_in(rows["request_id"], value_set=wanted))
        found |= dict(zip(mine["request_id"].to_pylist(), mine["at"].to_pylist(), strict=True))
        until -= WEEK
    return found


def _predictions_of_entities(
    endpoint: Endpoint, labels: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[str, tuple[float, datetime]], int]:
    """The predictions that entities' labels belong to; of two labels for one prediction the later counts."""
    if not labels:
        return {}, 0
    window = endpoint.outcome_window
    moments = [row["at"] for row in labels.values()]
    rows = prediction_log.read(
        endpoint.name,
        since=min(moments) - window,
        until=max(moments) + timedelta(microseconds=1),
        columns=["entity", "sticky"],
    )
    rows = rows.filter(pc.fill_null(rows["sticky"], False))
    asked: dict[str, list[tuple[datetime, str]]] = {}
    columns = (rows[name].to_pylist() for name in ("entity", "at", "request_id"))
    for entity, at, request in zip(*columns, strict=True):
        asked.setdefault(entity, []).append((at, request))
    found: dict[str, tuple[float, datetime]] = {}
    unmatched = 0
    for row in sorted(labels.values(), key=lambda each: each["at"]):
        mine = [each for each in asked.get(row["entity"], ()) if row["at"] - window < each[0] <= row["at"]]
        found |= {request: (row["label"], at) for at, request in mine}
        unmatched += not mine
    return found, unmatched


def _outcomes(told: Mapping[str, tuple[float, datetime]], now: datetime) -> pa.Table:
    columns = {
        "request_id": list(told),
        "label": [label for label, _ in told.values()],
        "arrived_at": [now] * len(told),
        "predicted_at": pa.array([at for _, at in told.values()], TIME),
    }
    schema = prediction_log.OUTCOME
    return pa.table([pa.array(columns[each.name], each.type) for each in schema], schema=schema)
