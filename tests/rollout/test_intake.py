"""Predictions and outcomes of teams that serve elsewhere, posted to the real addresses."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit import clock
from audit.errors import Conflict, InvalidInput
from rollout import actions, business, intake, intake_bodies, looks, prediction_log
from rollout.judge import Kind
from rollout.models import BusinessMetric, Rollout
from tests.builders import NOON, ROBOT, audrey, charlie, paula, pete
from tests.mlops.calls import Caller, problem, refused_fields
from tests.races import THREADS, race
from tests.rollout import life
from tests.rollout.sent import lines, parquet, post, tabled

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ROW: dict[str, Any] = {
    "request_id": "a", "at": "2013-04-01T11:00:00Z", "version": 1, "score": 0.25, "entity": "N001", "x1": 3,
}  # fmt: skip


def push(body: Any, *, user: Any = None, what: str = "predictions", now: Any = NOON, **options: Any) -> Any:
    with clock.at(now):
        return post(Caller(user or pete()), what, body, **options)


def logged(**limits: Any) -> list[dict[str, Any]]:
    found = prediction_log.read("delay-warning", since=NOON - 40 * DAY, until=NOON + 40 * DAY, **limits)
    rows: list[dict[str, Any]] = found.sort_by("request_id").to_pylist()
    return rows


def counts(response: Any) -> tuple[int, int]:
    answer = response.json()
    assert response.status_code == 200, answer
    return answer["stored"], answer["repeated"]


def changed(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ROW, **fields}.items() if value is not None}


# ---------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("form", [lines, parquet])
def test_prediction__pushed__is_in_the_log_as_if_served_here(form: Any) -> None:
    story = life.begin()
    second = changed(request_id="b", entity=None, score=None, status="error", error="Too slow.", latency_ms=7.5)
    assert counts(push(form([ROW, second]))) == (2, 0)

    one, two = logged()
    assert (one["at"], one["entity"], one["sticky"], one["score"]) == (NOON - HOUR, "N001", True, 0.25)
    assert (one["version_id"], one["arm"], one["answered_by"]) == (story.champion.pk, "champion", "champion")
    assert (one["stage"], one["salt"], one["share"], one["x1"]) == ("", "", 0.0, 3)
    assert (two["entity"], two["sticky"], two["score"], two["latency_ms"]) == ("b", False, None, 7.5)
    assert (two["status"], two["error"], two["answered_by"]) == ("error", "Too slow.", "fallback")


def strange(story: life.Life) -> None:
    """Version 2 has an input that is called like a column of the log, and asks for a group."""
    version = story.champion
    version.pk, version.number, version.content_digest = None, 2, "strange"
    version.signature = {"inputs": [{"name": "x1", "type": "double"}, {"name": "score", "type": "double"}]}
    version.service = life.service("grouped", ["x1", "score", "group"], story.registered_model)
    version.save(force_insert=True)


def test_features__are_logged_under_the_names_that_the_log_has_for_them() -> None:
    strange(life.begin())
    named = {"request_id": "b", "version": 2, "feature:score": 9.0, "group": "old"}
    assert counts(push([ROW, changed(**named), changed(request_id="c", version=2, x1=4.5)])) == (3, 0)

    rows = logged()
    assert [row["x1"] for row in rows] == [3.0, 3.0, 4.5]
    assert [row["feature:score"] for row in rows] == [None, 9.0, None]
    assert [row["request:group"] for row in rows] == [None, "old", None]


def test_features__under_two_names_that_are_one_in_the_log__are_refused() -> None:
    strange(life.begin())
    both = changed(version=2, **{"group": "old", "request:group": "young"})
    assert refused_fields(push([both])) & {"group", "request:group"}


def test_prediction__sent_again__counts_once_in_either_form() -> None:
    life.begin()
    rows = [ROW, changed(request_id="b")]
    assert counts(push([*rows, ROW])) == (2, 1)
    assert counts(push(rows)) == (0, 2)
    assert counts(push(parquet([*rows, changed(request_id="c")]))) == (1, 2)
    assert [row["request_id"] for row in logged()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change", [{"score": 0.5}, {"at": "2013-04-01T10:59:00Z"}, {"at": "2013-03-31T11:00:00Z"}, {"x1": 4}, {"x1": None}]
)
def test_prediction__known_with_another_content__is_refused_and_nothing_stored(change: dict[str, Any]) -> None:
    life.begin()
    push([ROW])
    code, told = problem(push([changed(request_id="b"), changed(**change)]))

    assert code == 409
    assert "lines.2.request_id: 'a'" in told["detail"]
    assert next(iter(change)) in told["detail"]
    assert [row["request_id"] for row in logged()] == ["a"]


def test_prediction__twice_in_a_body_with_another_content__is_refused() -> None:
    life.begin()
    response = push([ROW, changed(score=0.5)])
    assert refused_fields(response) == {"lines.2.request_id"}
    assert "lines.1 has this id with another content (other score)" in response.json()["detail"]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request_id": None}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": 7}, "request_id"),
        ({"request_id": "x" * 201}, "request_id"),
        ({"request_id": "a\0"}, "request_id"),
        ({"entity": ""}, "entity"),
        ({"at": None}, "at"),
        ({"at": "noon"}, "at"),
        ({"at": 1364817600}, "at"),
        ({"at": "2013-04-01T12:02:00Z"}, "at"),
        ({"at": "1970-01-01T00:00:00Z"}, "at"),
        ({"version": None}, "version"),
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"version": 1.5}, "version"),
        ({"score": None}, "score"),
        ({"score": "high"}, "score"),
        ({"score": 1.5}, "score"),
        ({"score": -0.1}, "score"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"status": "fallback"}, "status"),
        ({"status": "fine"}, "status"),
        ({"error": "But it is ok."}, "error"),
        ({"arm": "shadow"}, "arm"),
        ({"arm": "canary"}, "arm"),
        ({"arm": "fallback"}, "version"),
        ({"share": 0.1}, "share"),
        ({"step": 1}, "step"),
        ({"rollout": 7}, "rollout"),
        ({"salt": "no"}, "salt"),
        ({"x1": [1]}, "x1"),
        ({"x1": "three"}, "x1"),
        ({"answered_by": "champion"}, "answered_by"),
        ({"rollout:candidate_given": True}, "rollout:candidate_given"),
    ],
)
def test_prediction__wrong_in_one_field__names_line_and_field_and_nothing_is_stored(
    change: dict[str, Any], field: str
) -> None:
    life.begin()
    response = push([changed(request_id="b"), changed(**change)])
    place = field if field in ("answered_by", "rollout:candidate_given") else f"lines.2.{field}"
    assert place in refused_fields(response), response.json()
    assert logged() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"\n \n", "body"),
        (b'{"request_id": "a"', "lines.1"),
        (b"\n[1]", "lines.2"),
        (b'{"score": NaN}', "lines.1"),
        (b"\xff\xfe", "lines.1"),
        (b"PAR1 but nothing else", "body"),
    ],
)
def test_body__that_holds_no_rows__is_refused(body: bytes, field: str) -> None:
    life.begin()
    assert refused_fields(push(body)) == {field}


def test_body__too_long_or_too_wide__is_refused() -> None:
    life.begin()
    many = b'{"request_id": "a"}\n' * (intake_bodies.MOST_ROWS + 1)
    wide = lines([{f"f{number}": 1 for number in range(intake_bodies.MOST_COLUMNS + 1)}])
    sparse = wide[: len(wide) // 2].rpartition(b",")[0] + b"}\n" + b"{}\n" * 20_000
    for body in (many, wide, sparse):
        assert refused_fields(push(body)) == {"body"}
    assert problem(push(b" " * (intake_bodies.MOST_BYTES + 1)))[0] == 413


def test_parquet__that_unpacks_to_more_than_it_seems__is_refused_before_it_does() -> None:
    life.begin()
    n = intake_bodies.MOST_ROWS
    long = pa.table({"request_id": [str(row) for row in range(n)], "note": pa.array(["x" * 10_000] * n)})
    body = parquet(long)
    assert len(body) < 2**20
    assert refused_fields(push(body)) == {"body"}
    assert refused_fields(push(parquet(pa.table({"request_id": ["a"] * (n + 1)})))) == {"body"}


@pytest.mark.parametrize(
    ("table", "field"),
    [
        (pa.table({"request_id": ["a"], "at": [{"day": 1}]}), "at"),
        (pa.table({"request_id": ["a"], "when": pa.array([NOON], pa.timestamp("us", "UTC"))}), "when"),
        (pa.table({"request_id": [7]}), "rows.0.request_id"),
        (pa.table({"request_id": pa.array([b"a"])}), "request_id"),
    ],
)
def test_parquet__with_columns_that_are_not_plain__names_them(table: pa.Table, field: str) -> None:
    life.begin()
    assert field in refused_fields(push(parquet(table)))


def test_parquet__that_was_damaged__is_refused_or_read_but_never_breaks() -> None:
    whole = parquet([changed(request_id=f"r{row}", carrier="UA") for row in range(20)], compression="none")
    random = np.random.default_rng(0)
    read = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for place in random.integers(4, len(whole), 3):
            damaged[place] = random.integers(256)
        with suppress(InvalidInput):
            intake_bodies.read(bytes(damaged), intake_bodies.PARQUET, intake.PREDICTION_FIELDS, extra=True)
            read += 1
    assert 0 < read < 600


def test_parquet__from_pandas__is_taken_as_pandas_means_it() -> None:
    life.begin()
    frame = tabled([ROW, changed(request_id="b", status="error", score=None)]).to_pandas()
    frame["version"] = [1.0, 1.0]
    frame["at"] = [NOON - HOUR, NOON - HOUR]
    frame.index = [4, 7]
    assert counts(push(parquet(pa.Table.from_pandas(frame)))) == (2, 0)
    assert [row["score"] for row in logged()] == [0.25, None]
    assert "__index_level_0__" not in logged()[0]


def test_body__in_a_form_or_encoding_that_is_not_read__is_415() -> None:
    life.begin()
    for options in ({"media_type": "application/json"}, {"media_type": "text/csv"}, {"content_encoding": "gzip"}):
        code, told = problem(push([ROW], **options))
        assert (code, "application/x-ndjson" in told["detail"]) == (415, True), told


def test_push__is_for_those_with_a_duty_and_the_scope() -> None:
    life.begin()
    for what in ("predictions", "outcomes"):
        assert problem(push([ROW], user=charlie(), what=what))[0] == 404
        assert problem(push([ROW], user=audrey(), what=what))[0] == 403
        assert problem(push([ROW], what=what, endpoint="nothing"))[0] == 404
        assert problem(post(Caller(), what, [ROW]))[0] == 401
        assert problem(post(Caller(pete(), "read", "decide"), what, [ROW]))[0] == 403
        assert refused_fields(push([ROW], what=what, endpoint=""), 400) == {"endpoint"}


def test_push__over_more_days_than_a_month__is_refused() -> None:
    life.begin()
    assert refused_fields(push([ROW, changed(request_id="b", at="2013-02-01T00:00:00Z")])) == {"body"}


# ---------------------------------------------------------------------- rows that a rollout split


def canary(story: life.Life) -> Rollout:
    """A rollout at its second step, that began two hours ago."""
    rollout = story.candidate()
    Rollout.objects.filter(pk=rollout.pk).update(shadow_since=NOON - 4 * HOUR)
    for hours in (2, 1):
        rollout.refresh_from_db()
        with clock.at(NOON - hours * HOUR):
            actions.advance(rollout, actor=ROBOT, reason="On.", now=NOON - hours * HOUR)
    rollout.refresh_from_db()
    return rollout


def split(of: Rollout, **fields: Any) -> dict[str, Any]:
    named = {"rollout": of.pk, "step": 1, "at": "2013-04-01T10:30:00Z", "x2": 1.5}
    return changed(**{**named, **fields})


def test_rows_of_a_rollout__count_for_it() -> None:
    rollout = canary(life.begin())
    rows = [
        split(rollout),
        split(rollout, request_id="b", arm="canary", version=2, share=0.1),
        split(rollout, request_id="c", rollout=None, salt=rollout.salt, arm="canary", version=2, step=2, share=0.5),
        split(rollout, request_id="d", step=0, at="2013-04-01T09:00:00Z"),
        split(rollout, request_id="e", arm="canary", version=2, status="error", score=0.5),
    ]
    assert counts(push(rows)) == (5, 0)

    one, two, three, four, five = logged()
    assert {row["salt"] for row in logged()} == {rollout.salt}
    assert [row["share"] for row in logged()] == [0.1, 0.1, 0.5, 0.0, 0.1]
    assert [row["stage"] for row in (one, three, four)] == ["canary", "canary", "shadow"]
    assert (two["arm"], two["version_id"]) == ("canary", rollout.version_id)
    assert (five["answered_by"], five["status"]) == ("champion", "error")
    assert one[prediction_log.CANDIDATE_GIVEN] is True
    assert counts(push(rows[3:])) == (0, 2)
    look = looks.take(rollout, now=NOON)
    assert (look.candidate_rows, look.incumbent_rows) == (3, 1)


def test_rows_of_a_rollout__sent_again_with_others_or_without__are_the_same() -> None:
    rollout = canary(life.begin())
    row = split(rollout, x2=None)
    assert counts(push([row, split(rollout, request_id="b")])) == (2, 0)
    assert counts(push([row])) == (0, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 2}, "version"),
        ({"arm": "canary"}, "version"),
        ({"arm": "fallback", "version": None, "score": None}, "arm"),
        ({"step": None}, "step"),
        ({"step": 3}, "step"),
        ({"step": -1}, "step"),
        ({"share": 0.5}, "share"),
        ({"step": 0, "arm": "canary", "version": 2}, "arm"),
        ({"step": 0}, "at"),
        ({"at": "2013-04-01T09:59:59Z"}, "at"),
        ({"salt": "another"}, "salt"),
    ],
)
def test_rows_of_a_rollout__not_split_as_it_planned__are_refused(change: dict[str, Any], field: str) -> None:
    rollout = canary(life.begin())
    assert f"lines.1.{field}" in refused_fields(push([split(rollout, **change)]))


def test_rows_of_a_rollout__after_its_end__are_refused() -> None:
    rollout = canary(life.begin())
    actions.abort(rollout, actor=ROBOT, reason="Enough.", now=NOON - timedelta(minutes=10))
    assert counts(push([split(rollout, at="2013-04-01T11:49:00Z")])) == (1, 0)
    assert refused_fields(push([split(rollout, request_id="b", at="2013-04-01T11:51:00Z")])) == {"lines.1.at"}


# ---------------------------------------------------------------------- outcomes


def metric(story: life.Life, name: str = "spent", **fields: Any) -> BusinessMetric:
    values: dict[str, Any] = {
        "title": "Money spent", "per": "entity", "better": "higher", "window": 3 * HOUR, "missing": "zero",
        "tolerated_harm": 1.0, "actor": ROBOT, "now": NOON - DAY, **fields,
    }  # fmt: skip
    return actions.define_business_metric(story.endpoint, name=name, **values)


def labels(now: Any = NOON) -> dict[str, float]:
    found = prediction_log.read_outcomes("delay-warning", since=NOON - 40 * DAY, until=NOON + DAY, as_of=now)
    return dict(zip(found["request_id"].to_pylist(), found["label"].to_pylist(), strict=True))


def learned(response: Any) -> tuple[int, int, int]:
    answer = response.json()
    assert response.status_code == 200, answer
    return answer["labels"], answer["values"], answer["unmatched"]


def test_label__by_request__finds_its_prediction_and_is_corrected_by_a_later_one() -> None:
    life.begin()
    push([ROW, changed(request_id="old", at="2013-03-20T11:00:00Z")])
    body = [
        {"request_id": "a", "label": 1},
        {"request_id": "old", "label": 0},
        {"request_id": "later", "label": 1, "predicted_at": "2013-04-01T08:00:00Z"},
    ]
    assert learned(push(body, what="outcomes")) == (3, 0, 0)
    assert learned(push([{"request_id": "a", "label": 0}], what="outcomes", now=NOON + HOUR)) == (1, 0, 0)
    assert labels() == {"a": 1.0, "old": 0.0, "later": 1.0}
    assert labels(NOON + HOUR)["a"] == 0.0


def test_label__by_entity__is_that_of_every_prediction_in_the_window_before() -> None:
    life.begin()
    push(
        [
            changed(request_id="early", at="2013-04-01T08:00:00Z"),
            changed(request_id="in", at="2013-04-01T09:30:00Z"),
            changed(request_id="too", at="2013-04-01T10:30:00Z"),
            changed(request_id="after", at="2013-04-01T11:30:00Z"),
            changed(request_id="other", at="2013-04-01T10:30:00Z", entity="N002"),
        ]
    )
    body = [
        {"entity": "N001", "label": 1, "at": "2013-04-01T11:00:00Z"},
        {"entity": "N9", "label": 1, "at": "2013-04-01"},
    ]
    assert learned(push(body, what="outcomes")) == (2, 0, 1)
    assert labels() == {"in": 1.0, "too": 1.0}


def test_value__of_a_metric__is_read_when_its_window_has_closed() -> None:
    story = life.begin()
    spent = metric(story)
    push([ROW, changed(request_id="b", entity="N002")])
    rows = prediction_log.read("delay-warning", since=NOON - DAY, until=NOON).sort_by("request_id")
    body = [
        {"metric": "spent", "entity": "N001", "value": 3.5, "at": "2013-04-01T11:30:00Z"},
        {"metric": "spent", "request_id": "a", "value": 4, "at": "2013-04-01T11:45:00Z"},
        {"metric": "spent", "entity": "N001", "value": 100, "at": "2013-04-01T10:45:00Z"},
    ]
    assert learned(push(body, what="outcomes")) == (0, 3, 0)
    assert learned(push(body[:1], what="outcomes")) == (0, 1, 0)  # again

    assert len(business.values(spent, rows, now=NOON + HOUR)) == 0
    found = business.values(spent, rows, now=NOON + 2 * HOUR)
    assert (found.entity, found.value.tolist(), found.row_index.tolist()) == (["N001", "N002"], [7.5, 0.0], [0, 1])

    corrected = {"metric": "spent", "request_id": "a", "value": 0, "at": "2013-04-01T11:45:00Z"}
    push([corrected], what="outcomes", now=NOON + 3 * HOUR)
    assert business.values(spent, rows, now=NOON + 3 * HOUR).value.tolist() == [3.5, 0.0]
    assert business.compact("delay-warning", now=NOON + 2 * DAY) == 3
    assert business.values(spent, rows, now=NOON + 3 * HOUR).value.tolist() == [3.5, 0.0]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"label": 1}, "request_id"),
        ({"request_id": "a"}, "label"),
        ({"request_id": "a", "label": 0.5}, "label"),
        ({"request_id": "a", "label": 1, "value": 2}, "label"),
        ({"request_id": "a", "value": 2}, "label"),
        ({"request_id": "a", "metric": "spent"}, "label"),
        ({"request_id": "unheard", "label": 1}, "request_id"),
        ({"request_id": "a", "label": 1, "at": "2013-04-01T11:30:00Z"}, "at"),
        ({"request_id": "a", "label": 1, "entity": "N001"}, "entity"),
        ({"request_id": "a", "label": 1, "report_id": "x"}, "report_id"),
        ({"request_id": "a", "label": 1, "predicted_at": "2013-04-02T11:30:00Z"}, "predicted_at"),
        ({"entity": "N001", "label": 1}, "at"),
        ({"entity": "N001", "label": 1, "at": "2013-04-02T11:30:00Z"}, "at"),
        ({"entity": "N001", "metric": "earned", "value": 2, "at": "2013-04-01"}, "metric"),
        ({"entity": "N001", "metric": "spent", "value": 2}, "at"),
        ({"entity": "N001", "metric": "spent", "value": 2, "at": "2013-04-02"}, "at"),
        ({"entity": "N001", "metric": "spent", "value": "2", "at": "2013-04-01"}, "value"),
        ({"entity": "N001", "metric": "rated", "value": 2, "at": "2013-04-01"}, "request_id"),
        ({"request_id": "a", "metric": "rated", "value": -2}, "value"),
        ({"request_id": "a", "label": 1, "colour": "red"}, "colour"),
    ],
)
def test_outcome__wrong_in_one_field__names_it_and_nothing_is_kept(row: dict[str, Any], field: str) -> None:
    story = life.begin()
    metric(story)
    metric(story, "rated", per="prediction", is_heavy_tailed=True)
    push([ROW])
    good = {"request_id": "a", "label": 1, "predicted_at": "2013-04-01T11:00:00Z"}
    assert f"lines.2.{field}" in refused_fields(push([good, row], what="outcomes"))
    assert labels() == {}


def test_outcomes__two_of_the_same_in_a_body__are_one_or_refused() -> None:
    metric(life.begin())
    push([ROW])
    label, value = {"request_id": "a", "label": 1}, {"request_id": "a", "metric": "spent", "value": 2}
    assert learned(push([label, label, value, value], what="outcomes")) == (1, 1, 0)
    assert refused_fields(push([label, {**label, "label": 0}], what="outcomes")) == {"lines.2.label"}
    assert refused_fields(push([value, {**value, "value": 3}], what="outcomes")) == {"lines.2.request_id"}
    assert learned(push([value, {**value, "report_id": "tip"}], what="outcomes")) == (0, 2, 0)


def test_outcomes__of_more_days_than_anybody_waits__are_refused() -> None:
    life.begin()
    days = [NOON - number * DAY for number in range(401)]
    rows = [{"request_id": f"r{n}", "label": 1, "predicted_at": day.isoformat()} for n, day in enumerate(days)]
    assert refused_fields(push(rows, what="outcomes")) == {"body"}
    assert learned(push(rows[:30], what="outcomes")) == (30, 0, 0)


def test_outcomes__as_parquet__by_those_who_own_the_product() -> None:
    metric(life.begin())
    table = pa.table({"entity": ["N001", "N002"], "metric": ["spent"] * 2, "value": [1, 2], "at": [NOON - HOUR] * 2})
    assert learned(push(parquet(table), what="outcomes", user=paula())) == (0, 2, 0)


def test_canary_served_elsewhere__that_costs_the_product_money__is_rolled_back_when_the_window_has_closed() -> None:
    story = life.begin()
    metric(story, harm_from=0.0, tolerated_harm=1.0)
    rollout = canary(story)
    random = np.random.default_rng(0)
    served = random.random(800) < 0.5
    rows = [
        split(
            rollout,
            request_id=f"r{row}",
            entity=f"N{row}",
            step=2,
            at="2013-04-01T11:00:30Z",
            **({"arm": "canary", "version": 2} if served[row] else {}),
        )
        for row in range(800)
    ]
    spent = random.normal(np.where(served, 3.0, 5.0), 1.0)
    told = [
        {"entity": f"N{row}", "metric": "spent", "value": value, "at": "2013-04-01T11:30:00Z"}
        for row, value in enumerate(spent.tolist())
    ]
    assert counts(push(parquet(rows))) == (800, 0)
    assert learned(push(parquet(told), what="outcomes")) == (0, 800, 0)

    verdicts = []
    for hours in (1, 3):  # the window closes two hours from now
        look = looks.take(rollout, now=NOON + hours * HOUR)
        [found] = [each for each in look.measured if each.metric == "spent"]
        verdicts.append((found.n, found.verdict, look.conclusion.kind == Kind.ROLL_BACK))
    assert verdicts == [(0, "inconclusive", False), (int(served.sum()), "failed", True)], look.conclusion.summary


# ---------------------------------------------------------------------- all at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_predictions__one_id_with_many_contents_at_once__one_is_stored_and_the_others_told() -> None:
    story = life.begin()
    kinds = intake.PREDICTION_FIELDS
    bodies = [lines([changed(score=n / 10)]) for n in range(THREADS)]
    sent = [intake_bodies.read(body, intake_bodies.LINES, kinds, extra=True) for body in bodies]
    found = race(lambda n: intake.log_predictions(story.endpoint, sent[n], now=NOON))

    stored = [each for each in found if isinstance(each, intake.Kept)]
    assert [each.stored for each in stored] == [1], found
    assert sum(isinstance(each, Conflict) for each in found) == THREADS - 1, found
    assert len(logged()) == 1
