"""Triton's binary tensors: numbers behind the JSON, both ways."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest

from rollout.protocols import Reply
from tests.rollout.protocols.houses import DELAY, NUMBERS, Summing, post, read

INFER = "/v2/models/delay-warning/infer"


def tensor(name: str, raw: bytes, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    return {
        "name": name,
        "shape": shape or [1],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(raw)},
    }


def send(content: Any, *behind: bytes, house: Summing, path: str = INFER, length: str | None = None) -> Reply:
    head = orjson.dumps(content)
    stated = str(len(head)) if length is None else length
    return post(house, path, head + b"".join(behind), inference_header_content_length=stated)


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def test_tensors__of_several_types__are_read_in_their_order() -> None:
    house = Summing()
    distance, hour, carrier = np.array([1.5, np.nan]).tobytes(), np.array([3, -4]).tobytes(), texts(b"UA", "ü".encode())
    content = {
        "inputs": [
            tensor("distance", distance, shape=[2, 1]),
            tensor("hour", hour, "INT64", [2]),
            {"name": "day", "shape": [2], "datatype": "INT8", "data": [1, 2]},
            tensor("carrier", carrier, "BYTES", [2]),
        ]
    }
    assert send(content, distance, hour, carrier, house=house).status == 200
    columns = house.asked[0].columns
    np.testing.assert_array_equal(columns["distance"], [1.5, np.nan])
    assert list(columns["hour"]) == [3, -4]
    assert (columns["day"], columns["carrier"]) == ([1, 2], ["UA", "ü"])


@pytest.mark.parametrize("dtype", ["?", "u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"])
def test_datatype__of_each_size__is_read(dtype: str) -> None:
    names = dict(zip("?", ["BOOL"], strict=True)) | {
        f"{order}{kind}{size}": f"{word}{size * 8}"
        for kind, word in (("u", "UINT"), ("i", "INT"), ("f", "FP"))
        for size in (1, 2, 4, 8)
        for order in ("", "<")
    }
    house, raw = Summing(), np.array([1, 0, 1], dtype=dtype).tobytes()
    content = {"inputs": [tensor("distance", raw, names[dtype], [3])]}
    assert send(content, raw, house=house).status == 200
    assert list(house.asked[0].columns["distance"]) == [1, 0, 1]


def test_matrix__is_split_into_the_models_inputs() -> None:
    house, rows = Summing(endpoints=(NUMBERS,)), np.arange(6, dtype="<f4").reshape(2, 3)
    content = {"inputs": [tensor("X", rows.tobytes(), "FP32", [2, 3])]}
    assert send(content, rows.tobytes(), house=house, path="/v2/models/numbers/infer").status == 200
    assert {name: list(each) for name, each in house.asked[0].columns.items()} == {
        "a": [0, 3],
        "b": [1, 4],
        "c": [2, 5],
    }


def test_outputs__binary_for_all__lie_behind_the_json() -> None:
    raw = np.array([0.25]).tobytes()
    content = {"inputs": [tensor("distance", raw)], "parameters": {"binary_data_output": True}}
    answer = send(content, raw, house=Summing())
    (name, length), *rest = answer.headers
    assert (name, rest, answer.content_type) == ("Inference-Header-Content-Length", [], "application/octet-stream")
    head, behind = orjson.loads(answer.body[: int(length)]), answer.body[int(length) :]
    assert [each["parameters"] for each in head["outputs"]] == [{"binary_data_size": 8}, {"binary_data_size": 1}]
    assert behind == np.array([0.25]).tobytes() + b"\0"


def test_outputs__each_as_asked__are_bytes_or_json() -> None:
    raw = np.array([1.0, 2.0]).tobytes()
    outputs = [{"name": "arm", "parameters": {"binary_data": True}}, {"name": "score"}, {"name": "version"}]
    answer = send({"inputs": [tensor("distance", raw, shape=[2])], "outputs": outputs}, raw, house=Summing())
    length = int(answer.headers[0][1])
    head = orjson.loads(answer.body[:length])
    assert (head["outputs"][1]["data"], head["outputs"][2]["data"]) == ([1.0, 2.0], [7, 7])
    assert answer.body[length:] == texts(b"champion", b"canary")


EIGHT = np.array([1.0]).tobytes()


@pytest.mark.parametrize(
    ("inputs", "behind", "field"),
    [
        ([tensor("distance", EIGHT)], b"", "inputs[0].data"),
        ([tensor("distance", EIGHT)], EIGHT + b"x", "inputs"),
        ([tensor("distance", EIGHT, shape=[2])], EIGHT, "inputs[0].data"),
        ([{**tensor("distance", EIGHT), "data": [1.0]}], EIGHT, "inputs[0].data"),
        (
            [{**tensor("distance", EIGHT), "parameters": {"binary_data_size": -8}}],
            EIGHT,
            "inputs[0].parameters.binary_data_size",
        ),
        (
            [{**tensor("distance", EIGHT), "parameters": {"binary_data_size": "8"}}],
            EIGHT,
            "inputs[0].parameters.binary_data_size",
        ),
        ([tensor("carrier", b"\x01\0\0\0\xff", "BYTES")], b"\x01\0\0\0\xff", "inputs[0].data"),
        ([tensor("carrier", b"\xff\0\0\0a", "BYTES")], b"\xff\0\0\0a", "inputs[0].data"),
        ([tensor("carrier", b"\x01\0", "BYTES")], b"\x01\0", "inputs[0].data"),
        ([tensor("carrier", texts(b"a", b"b"), "BYTES")], texts(b"a", b"b"), "inputs[0].data"),
    ],
)
def test_bytes__other_than_stated__are_refused_at_their_place(inputs: Any, behind: bytes, field: str) -> None:
    house = Summing(endpoints=(DELAY,))
    answer = send({"inputs": inputs}, behind, house=house)
    assert (answer.status, read(answer)["field"], house.asked) == (400, field, [])


@pytest.mark.parametrize("length", ["-1", "9999999", "ten", "", "1" * 40, "²"])
def test_length_of_the_json__no_number_within_the_body__is_refused(length: str) -> None:
    raw = np.array([1.0]).tobytes()
    answer = send({"inputs": [tensor("distance", raw)]}, raw, house=Summing(), length=length)
    assert (answer.status, read(answer)["field"]) == (400, "inference-header-content-length")
