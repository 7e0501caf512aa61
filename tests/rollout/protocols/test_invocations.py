"""MLflow's scoring protocol: the four JSON forms, CSV, Parquet, refusals."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rollout.protocols import Call, reply
from rollout.protocols.calls import MAX_ROWS
from tests.rollout.protocols.houses import DELAY, NUMBERS, SINGLE, Summing, get, post, read

PARQUET = "application/vnd.apache.parquet"


def asked(content: Any, *, house: Summing | None = None, **headers: str) -> Any:
    house = house or Summing()
    answer = post(house, "/invocations", content, **headers)
    assert answer.status == 200, answer.body
    return house.asked[-1]


def refused(content: Any, **headers: str) -> tuple[int, str, str]:
    """Status, error code and field; the core was not asked."""
    house = Summing(endpoints=(NUMBERS,))
    answer = post(house, "/invocations", content, **headers)
    assert not house.asked
    found = read(answer)
    assert isinstance(found["message"], str)
    return answer.status, found["error_code"], found.get("field", "")


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


TWO_ROWS = {"distance": [1.0, 2.0], "carrier": ["UA", None]}


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": ["distance", "carrier"], "data": [[1.0, "UA"], [2.0, None]]}},
        {"dataframe_split": {"index": [0, 1], "columns": ["distance", "carrier"], "data": [[1.0, "UA"], [2.0, None]]}},
        {"dataframe_records": [{"distance": 1.0, "carrier": "UA"}, {"distance": 2.0}]},
        {"instances": [{"distance": 1.0, "carrier": "UA"}, {"distance": 2.0, "carrier": None}]},
        {"inputs": {"distance": [1.0, 2.0], "carrier": ["UA", None]}},
        {"inputs": {"distance": [[1.0], [2.0]], "carrier": ["UA", None]}},
    ],
)
def test_json__in_each_form__is_the_same(content: Any) -> None:
    assert asked(content).columns == TWO_ROWS


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_json__rows_without_names__are_the_models_inputs_in_order(form: str) -> None:
    found = asked({form: [[1.0, 2.0, 3.0]]}, house=Summing(endpoints=(NUMBERS,)))
    assert found.columns == {"a": [1.0], "b": [2.0], "c": [3.0]}
    assert asked({form: [1.0, 2.0]}, house=Summing(endpoints=(SINGLE,))).columns == {"x": [1.0, 2.0]}


def test_reply__is_one_score_per_row() -> None:
    answer = post(Summing(), "/invocations", {"inputs": {"distance": [0.25, 4.0]}})
    assert (answer.status, read(answer)) == (200, {"predictions": [0.25, 4.0]})


def test_reply__with_other_outputs__is_a_record_per_row() -> None:
    content = {"inputs": {"distance": [0.25, 4.0]}, "params": {"outputs": ["score", "decision", "arm"]}}
    assert read(post(Summing(), "/invocations", content)) == {
        "predictions": [
            {"score": 0.25, "decision": False, "arm": "champion"},
            {"score": 4.0, "decision": True, "arm": "canary"},
        ]
    }


def test_params__name_request_entity_and_time() -> None:
    params = {"entity": "bob", "request_id": "r", "at": "2026-03-01T12:00:00Z"}
    found = asked({"inputs": {"distance": [1.0]}, "params": params})
    assert (found.entity, found.request_id, found.at) == (["bob"], ["r"], [datetime(2026, 3, 1, 12, tzinfo=UTC)])


def test_csv__with_a_header__is_read_by_what_the_model_takes() -> None:
    body = b"distance,hour,carrier,customer,request_id\n1.5,3,7,007,a\n,4,UA,12,b\n"
    found = asked(body, content_type="text/csv; charset=utf-8")
    assert found.columns == {
        "distance": [1.5, None],
        "hour": [3, 4],
        "carrier": ["7", "UA"],  # the model takes text
        "customer": ["007", 12],  # 007 is not 7
    }
    assert found.request_id == ["a", "b"]


def test_parquet__with_its_types__is_read() -> None:
    at = pa.array([datetime(2026, 3, 1, 12, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC"))
    body = parquet(distance=[1.0, 2.0], carrier=["UA", None], hour=pa.array([1, 2], pa.int32()), at=at)
    found = asked(body, content_type=PARQUET)
    assert found.columns == {**TWO_ROWS, "hour": [1, 2]}
    assert found.at == [datetime(2026, 3, 1, 12, tzinfo=UTC)] * 2


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, ""),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "inputs"),
        ({"dataframe_split": []}, "dataframe_split"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "dataframe_split.data[0]"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "dataframe_split.columns"),
        ({"dataframe_split": {"columns": [], "data": [[]]}}, "dataframe_split.columns"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "dataframe_split.columns"),
        ({"dataframe_split": {"columns": ["a"], "data": [[{}]]}}, "dataframe_split.data[0].a"),
        ({"dataframe_split": {"columns": ["a"], "data": []}}, ""),
        ({"dataframe_records": {}}, "dataframe_records"),
        ({"dataframe_records": []}, "dataframe_records"),
        ({"dataframe_records": [[1]]}, "dataframe_records"),
        ({"dataframe_records": [{"a": 1}, 2]}, "dataframe_records[1]"),
        ({"dataframe_records": [{}]}, "dataframe_records"),
        ({"inputs": {"a": [1], "b": [1, 2]}}, "inputs.b"),
        ({"inputs": {"a": 1}}, "inputs.a"),
        ({"inputs": {"a": [[1, 2]]}}, "inputs[0].a"),
        ({"instances": [[1, 2]]}, "instances[0]"),
        ({"instances": [[1, 2, 3]], "params": []}, ""),
        ({"instances": [[1, 2, 3]], "params": [1]}, "params"),
        ({"instances": [[1, 2, 3]], "params": {"outputs": ["proba"]}}, "params.outputs"),
        ({"instances": [[1, 2, 3]], "params": {"outputs": [1]}}, "params.outputs"),
    ],
)
def test_json__malformed__is_refused_at_its_place(content: Any, field: str) -> None:
    if content.get("params") == []:  # nothing in it, nothing wrong with it
        assert post(Summing(endpoints=(NUMBERS,)), "/invocations", content).status == 200
        return
    assert refused(content) == (400, "BAD_REQUEST", field)


@pytest.mark.parametrize("body", [b"", b"\n\n", b"a,b\n", b"a,b\n1\n", b"a,a\n1,2\n", b"\xff\n1\n", b'a\n"1\n'])
def test_csv__malformed__is_refused(body: bytes) -> None:
    assert refused(body, content_type="text/csv")[:2] == (400, "BAD_REQUEST")


def test_parquet__malformed_or_nested__is_refused() -> None:
    whole = parquet(a=[1.0])
    for body in (b"", b"PAR1", whole[:-20], whole[20:], parquet(a=[[1.0]]), parquet(a=[b"raw"])):
        assert refused(body, content_type=PARQUET)[:2] == (400, "BAD_REQUEST")


def test_rows__more_than_the_limit__are_413() -> None:
    rows = MAX_ROWS + 1
    assert refused({"instances": [[1, 2, 3]] * rows})[:2] == (413, "REQUEST_LIMIT_EXCEEDED")
    assert refused(b"a\n" + b"1\n" * rows, content_type="text/csv")[0] == 413
    assert refused(parquet(a=[1.0] * rows), content_type=PARQUET)[0] == 413


def test_parquet__a_long_text_in_every_row__is_held_once() -> None:
    sink, texts = io.BytesIO(), pa.array(["x" * 1_000_000])
    table = pa.table({"carrier": pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), texts)})
    pq.write_table(table, sink, store_schema=False)  # to its reader the column is text
    body = sink.getvalue()
    assert len(body) < 100_000
    found = asked(body, content_type=PARQUET).columns["carrier"]
    assert len({id(text) for text in found}) == 1


def test_content_type__another__is_415() -> None:
    assert refused(b"", content_type="application/x-pickle") == (415, "BAD_REQUEST", "Content-Type")


# ---------------------------------------------------------------------- addresses


def test_endpoint__in_path_or_query__is_asked() -> None:
    content, house = {"inputs": {"distance": [1.0]}}, Summing(endpoints=(DELAY, NUMBERS))
    assert post(house, "/endpoints/delay-warning/invocations", content).status == 200
    call = Call("POST", "/invocations", "endpoint=delay-warning", body=b'{"inputs":{"distance":[1.0]}}')
    assert reply(call, house).status == 200


def test_endpoint__not_said_where_there_are_two__is_refused_with_the_way_to_say_it() -> None:
    answer = post(Summing(endpoints=(DELAY, NUMBERS)), "/invocations", {"instances": [[1]]})
    assert (answer.status, read(answer)["field"]) == (400, "endpoint")
    assert "/endpoints/<name>/invocations" in read(answer)["message"]


def test_endpoint__unknown__is_404_in_mlflows_words() -> None:
    answer = post(Summing(), "/endpoints/other/invocations", {"instances": [[1]]})
    assert (answer.status, read(answer)["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert post(Summing(endpoints=()), "/invocations", {"instances": [[1]]}).status == 404


def test_server__ping_health_version__answer_as_mlflow_does() -> None:
    assert (get(Summing(), "/ping").status, get(Summing(), "/health").body) == (200, b"\n")
    assert get(Summing(ready=False), "/ping").status == 503
    assert get(Summing(), "/version").body == b"0.1.0"
