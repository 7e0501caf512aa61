"""Whatever bytes come, the reply is an answer or the protocol's refusal, never an error of ours."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.gateway.asked import BadRequest, Values
from rollout.protocols import Call, Reply, endpoint_of, reply, tensors
from tests.rollout.protocols.houses import DELAY, NUMBERS, Summing

PATHS = ("/v2/models/delay-warning/infer", "/endpoints/delay-warning/invocations")
NAMES = st.sampled_from(["distance", "hour", "carrier", "request_id", "at", "flight", "customer"]) | st.text(max_size=5)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
DATATYPES = st.sampled_from(["BOOL", "UINT8", "INT8", "INT64", "UINT64", "FP16", "FP32", "FP64", "BYTES", "FP8"])
TENSORS = st.fixed_dictionaries(
    {
        "name": NAMES | ANYTHING,
        "datatype": DATATYPES | ANYTHING,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | ANYTHING,
    },
    optional={
        "data": st.lists(SCALARS, max_size=4) | ANYTHING,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20) | ANYTHING}) | ANYTHING,
    },
)
PARAMETERS = st.dictionaries(st.sampled_from(["request_id", "entity", "at", "binary_data_output", "outputs"]), ANYTHING)
INFER = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | ANYTHING},
    optional={"id": ANYTHING, "parameters": PARAMETERS | ANYTHING, "outputs": ANYTHING},
)
FRAMES = st.fixed_dictionaries({"columns": st.lists(NAMES, max_size=3), "data": st.lists(ANYTHING, max_size=3)})
INVOCATIONS = st.dictionaries(
    st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]),
    FRAMES | ANYTHING | PARAMETERS,
    max_size=2,
)


def answered(path: str, body: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    house = Summing(endpoints=(DELAY, NUMBERS))
    answer = reply(Call("POST", path, headers=named, body=body), house)
    assert answer.status in (200, 400, 413, 415)
    if answer.content_type == "application/json" and answer.status != 200:
        assert orjson.loads(answer.body).keys() & {"error", "error_code"}
    for each in house.asked:
        assert each.rows > 0
        assert all(len(values) == each.rows for values in each.columns.values())
    return answer


def written(content: Any) -> bytes:
    return orjson.dumps(content)


@given(st.sampled_from(PATHS), st.binary(max_size=300))
def test_reply__to_any_bytes__is_a_refusal(path: str, body: bytes) -> None:
    assert answered(path, body).status == 400


@given(INFER, st.binary(max_size=40), st.none() | st.integers(-5, 400))
@settings(max_examples=300)
def test_infer__any_json_with_bytes_behind__is_answered_or_refused(
    content: Any, behind: bytes, off: int | None
) -> None:
    head = written(content)
    length = len(head) if off is None or off > 5 else len(head) + off
    answered(PATHS[0], head + behind, inference_header_content_length=str(length))
    answered(PATHS[0], head)


def long_way(inputs: list[Any]) -> dict[str, Any] | None:
    """The columns as the way that looks at everything reads them; None for a refusal."""
    found: list[tuple[str, int, list[Values]]] = []
    try:
        for tensor in inputs:
            name, datatype, rows, width = tensors.head(tensor, "inputs")
            found.append((name, width, list(tensors.from_json(tensor.get("data"), datatype, rows, width, "data"))))
        return dict(tensors.named(found, DELAY))
    except BadRequest:
        return None


PLAIN = st.fixed_dictionaries(
    {
        "name": NAMES,
        "datatype": DATATYPES | ANYTHING,
        "shape": st.sampled_from([[1], [1, 1], [True], [1.0], [1, True], 1]) | ANYTHING,
        "data": st.lists(SCALARS, min_size=1, max_size=1) | ANYTHING,
    }
)


@given(st.lists(PLAIN, min_size=2, max_size=3))
@settings(max_examples=500)
def test_plain_row__where_it_reads_at_all__reads_what_the_long_way_reads(inputs: list[Any]) -> None:
    row = tensors.plain_row(inputs)
    assert row is None or row == long_way(inputs)


def test_plain_row__of_each_exact_type__is_read() -> None:
    values = {"FP64": 0.5, "INT64": 3, "BOOL": True, "BYTES": "x"}
    inputs = [{"name": each, "datatype": each, "shape": [1], "data": [values[each]]} for each in values]
    assert tensors.plain_row(inputs) == long_way(inputs) == {each: [values[each]] for each in values}


@given(INVOCATIONS)
@settings(max_examples=300)
def test_invocations__any_json__is_answered_or_refused(content: Any) -> None:
    answered(PATHS[1], written(content))
    answered(PATHS[1], written(content).replace(b"null", b"NaN"))


@given(st.binary(max_size=200) | st.text(alphabet='a,"\r\n1.e-+0xNn \0', max_size=100).map(str.encode))
def test_invocations__any_csv__is_answered_or_refused(body: bytes) -> None:
    answered(PATHS[1], body, content_type="text/csv")


def whole_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"distance": [1.0, None, 3.0], "carrier": ["a", "bb", None]}), sink)
    return sink.getvalue()


@given(st.data())
@settings(max_examples=200)
def test_invocations__a_damaged_parquet__is_answered_or_refused(data: st.DataObject) -> None:
    body = bytearray(whole_parquet())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    answered(PATHS[1], bytes(body), content_type="application/vnd.apache.parquet")


@given(st.text(max_size=60), st.text(max_size=20), st.sampled_from(["GET", "POST", "PUT"]))
def test_reply__to_any_address__is_an_answer(path: str, query: str, method: str) -> None:
    call = Call(method, f"/{path}", query, body=b"{}")
    assert 200 <= reply(call, Summing()).status < 600
    endpoint_of(call)


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate"]))
def test_reply__to_any_packed_bytes__is_a_refusal(body: bytes, packing: str) -> None:
    assert answered(PATHS[0], body, content_encoding=packing).status == 400
