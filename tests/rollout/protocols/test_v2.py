"""The Open Inference Protocol over JSON: health, metadata, infer, refusals."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from rollout.gateway.asked import Answered, Asked, BadRequest, NotAllowed, NotReady
from rollout.protocols.calls import MAX_BYTES, MAX_ROWS
from tests.rollout.protocols.houses import DELAY, NUMBERS, SINGLE, Summing, get, post, read

INFER = "/v2/models/delay-warning/infer"


def tensor(name: str, data: Any, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data}


def asked(*inputs: dict[str, Any], house: Summing | None = None, path: str = INFER, **rest: Any) -> Asked:
    house = house or Summing()
    answer = post(house, path, {"inputs": list(inputs), **rest})
    assert answer.status == 200, answer.body
    return house.asked[-1]


def refused(*inputs: Any, path: str = INFER, **rest: Any) -> tuple[int, str]:
    """Status and field of a refusal; the core was not asked."""
    house = Summing(endpoints=(DELAY, NUMBERS, SINGLE))
    answer = post(house, path, {"inputs": list(inputs), **rest})
    assert not house.asked
    content = read(answer)
    assert isinstance(content["error"], str)
    return answer.status, content.get("field", "")


# ---------------------------------------------------------------------- health and metadata


def test_health__ready__says_so_with_its_status() -> None:
    assert (get(Summing(), "/v2/health/live").status, read(get(Summing(), "/v2/health/live"))) == (200, {"live": True})
    assert get(Summing(), "/v2/health/ready").status == 200
    assert get(Summing(), "/v2/models/delay-warning/ready").status == 200


def test_health__nothing_is_warm__is_503_and_still_alive() -> None:
    house = Summing(endpoints=(replace(DELAY, ready=False),), ready=False)
    assert get(house, "/v2/health/live").status == 200
    assert get(house, "/v2/health/ready").status == 503
    assert read(get(house, "/v2/models/delay-warning/ready")) == {"name": "delay-warning", "ready": False}


def test_server_metadata__names_the_binary_extension() -> None:
    assert read(get(Summing(), "/v2")) == {
        "name": "gatehouse",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data"],
    }


def test_model_metadata__has_inputs_in_order_and_the_champions_number() -> None:
    found = read(get(Summing(), "/v2/models/delay-warning"))
    assert (found["name"], found["versions"], found["platform"]) == ("delay-warning", ["7"], "onnx")
    assert [(each["name"], each["datatype"]) for each in found["inputs"]] == [
        ("distance", "FP64"),
        ("hour", "INT64"),
        ("carrier", "BYTES"),
    ]
    assert found["parameters"] == {"keys": "flight", "entity_column": "customer"}


def test_model__of_another_name__is_404_with_a_message() -> None:
    answer = get(Summing(), "/v2/models/other")
    assert (answer.status, read(answer)) == (404, {"error": "There is no endpoint 'other'."})


@pytest.mark.parametrize("path", ["/v2/models/delay-warning/versions/7", "/v2/models/delay-warning/versions/7/ready"])
def test_version__the_champions__is_served(path: str) -> None:
    assert get(Summing(), path).status == 200


def test_infer__of_a_version_that_does_not_serve__is_refused_and_says_which_does() -> None:
    house = Summing()
    answer = post(house, "/v2/models/delay-warning/versions/6/infer", {"inputs": [tensor("distance", [1.0])]})
    assert answer.status == 400
    assert "Version 6 of delay-warning does not serve; version 7 serves" in read(answer)["error"]
    assert not house.asked


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models/a/b/c", "/v2/models/delay-warning/explain", "/v2modelsx"])
def test_address__unknown__is_404(path: str) -> None:
    assert get(Summing(), path).status == 404


def test_address__other_method__is_405() -> None:
    assert get(Summing(), INFER).status == 405
    assert post(Summing(), "/v2/health/live", {}).status == 405


def test_name__not_a_slug__is_404_and_no_error_of_ours() -> None:
    assert get(Summing(), "/v2/models/\udcff").status == 404


# ---------------------------------------------------------------------- infer


def test_infer__one_row__answers_score_and_decision_and_tells_the_arm() -> None:
    content = {"id": "my-1", "inputs": [tensor("distance", [0.25]), tensor("hour", [3], "INT64")]}
    assert read(post(Summing(), INFER, content)) == {
        "model_name": "delay-warning",
        "model_version": "7",
        "id": "my-1",
        "parameters": {"arm": "champion", "answered_by": "champion", "status": "ok", "request_id": "new-0"},
        "outputs": [
            {"name": "score", "shape": [1], "datatype": "FP64", "data": [3.25]},
            {"name": "decision", "shape": [1], "datatype": "BOOL", "data": [True]},
        ],
    }


def test_infer__rows_of_both_arms__says_mixed_and_shows_each_when_asked() -> None:
    content: dict[str, Any] = {
        "inputs": [tensor("distance", [1.0, 2.0])],
        "outputs": [{"name": "arm"}, {"name": "version"}],
    }
    found = read(post(Summing(), INFER, content))
    assert found["parameters"]["arm"] == "mixed"
    assert [each["data"] for each in found["outputs"]] == [["champion", "canary"], [7, 7]]


def test_infer__nobody_could_answer__is_null() -> None:
    class Silent(Summing):
        def answer(self, endpoint: str, asked: Asked) -> Answered:
            import numpy as np

            return Answered(np.array([math.nan]), [None], ["champion"], ["fallback"], [None], ["error"], ["r"])

    found = read(post(Silent(), INFER, {"inputs": [tensor("distance", [1.0])]}))
    assert [each["data"] for each in found["outputs"]] == [[None], [None]]
    assert (found["model_version"], found["parameters"]["status"]) == ("", "error")


@pytest.mark.parametrize(
    ("data", "shape"), [([1.0, 2.0], [2]), ([1.0, 2.0], [2, 1]), ([[1.0], [2.0]], [2, 1])], ids=["n", "n1", "nested"]
)
def test_column__flat_or_nested__is_the_same(data: Any, shape: Any) -> None:
    assert asked(tensor("distance", data, shape=shape)).columns == {"distance": [1.0, 2.0]}


@pytest.mark.parametrize("data", [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
def test_matrix__of_all_inputs__is_named_in_the_models_order(data: Any) -> None:
    found = asked(
        tensor("input-0", data, shape=[2, 3]), house=Summing(endpoints=(NUMBERS,)), path="/v2/models/numbers/infer"
    )
    assert found.columns == {"a": [1.0, 4.0], "b": [2.0, 5.0], "c": [3.0, 6.0]}


def test_matrix__beside_a_column__may_name_the_entity() -> None:
    house = Summing(endpoints=(NUMBERS,))
    found = asked(
        tensor("X", [1.0, 2.0, 3.0], shape=[1, 3]),
        tensor("customer", ["bob"], "BYTES"),
        house=house,
        path="/v2/models/numbers/infer",
    )
    assert found.columns["customer"] == ["bob"]


def test_matrix__of_another_width__is_refused_with_the_inputs() -> None:
    status, field = refused(tensor("X", [1.0, 2.0], shape=[1, 2]), path="/v2/models/numbers/infer")
    assert (status, field) == (400, "inputs[0].shape")


def test_single_input_model__a_tensor_of_any_name__is_that_input() -> None:
    path, house = "/v2/models/single/infer", Summing(endpoints=(SINGLE,))
    assert asked(tensor("float_input", [1.0], shape=[1, 1]), house=house, path=path).columns == {"x": [1.0]}
    assert asked(tensor("flight", [1], "INT64"), house=house, path=path).columns == {"flight": [1]}


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False, None]),
        ("UINT8", [0, 255, None]),
        ("INT8", [-128, 127, None]),
        ("INT64", [-(2**63), 2**63 - 1, None]),
        ("UINT64", [0, 2**64 - 1, None]),
        ("FP16", [0.5, -2.0, None]),
        ("FP32", [0.5, 1.0, None]),
        ("FP64", [0.1, -1.0, None]),
        ("BYTES", ["a", "", None]),
    ],
)
def test_datatype__its_values_and_null__are_taken(datatype: str, data: list[Any]) -> None:
    assert asked(tensor("distance", data, datatype)).columns["distance"] == data


def test_fp32__is_rounded_as_the_binary_form_would_be() -> None:
    assert asked(tensor("distance", [0.1], "FP32")).columns["distance"] == [0.10000000149011612]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", 2),
        ("BOOL", "true"),
        ("UINT8", 256),
        ("UINT8", -1),
        ("INT8", 1.0),
        ("INT64", 2**63),
        ("INT64", True),
        ("FP16", 1e6),
        ("FP32", 1e300),
        ("FP64", "1"),
        ("FP64", True),
        ("BYTES", 1),
        ("FP64", [[1.0]]),
        ("FP64", {"a": 1}),
    ],
)
def test_datatype__another_value__is_refused(datatype: str, value: Any) -> None:
    assert refused(tensor("distance", [value, value], datatype, shape=[2])) == (400, "inputs[0].data")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": 1}, "inputs[0].name"),
        ({"name": ""}, "inputs[0].name"),
        ({"datatype": "FLOAT"}, "inputs[0].datatype"),
        ({"datatype": None}, "inputs[0].datatype"),
        ({"shape": None}, "inputs[0].shape"),
        ({"shape": [1, 1, 1]}, "inputs[0].shape"),
        ({"shape": [-1]}, "inputs[0].shape"),
        ({"shape": [0], "data": []}, "inputs[0].shape"),
        ({"shape": [True]}, "inputs[0].shape"),
        ({"shape": [2]}, "inputs[0].data"),
        ({"data": None}, "inputs[0].data"),
        ({"data": "1"}, "inputs[0].data"),
        ({"data": [[1.0, 2.0]]}, "inputs[0].data"),
    ],
)
def test_tensor__malformed__is_refused_at_its_place(change: dict[str, Any], field: str) -> None:
    assert refused({**tensor("distance", [1.0]), **change}) == (400, field)


def test_tensors__of_different_length__are_refused() -> None:
    assert refused(tensor("distance", [1.0]), tensor("hour", [1, 2], "INT64")) == (400, "inputs[1].shape")


def test_tensors__of_one_name__are_refused() -> None:
    assert refused(tensor("distance", [1.0]), tensor("distance", [1.0])) == (400, "inputs[1].name")


@pytest.mark.parametrize(
    ("rest", "field"),
    [
        ({"id": 1}, "id"),
        ({"parameters": []}, "parameters"),
        ({"outputs": [{"name": "probability"}]}, "outputs[0].name"),
        ({"outputs": ["score"]}, "outputs[0].name"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "outputs[1].name"),
        ({"outputs": [{"name": "score", "parameters": {"classification": 1}}]}, "outputs[0].parameters.classification"),
        ({"parameters": {"request_id": ["a", "b"]}}, "parameters.request_id"),
        ({"parameters": {"request_id": 1.5}}, "request_id"),
        ({"parameters": {"request_id": ""}}, "request_id"),
        ({"parameters": {"request_id": "a\nb"}}, "request_id"),
        ({"parameters": {"entity": {}}}, "entity"),
        ({"parameters": {"entity": "x" * 201}}, "entity"),
        ({"parameters": {"at": "2026-03-01T12:00:00"}}, "at"),
        ({"parameters": {"at": "yesterday"}}, "at"),
        ({"parameters": {"at": "0001-01-01T00:00:00+23:00"}}, "at"),
    ],
)
def test_request__malformed__is_refused_at_its_place(rest: dict[str, Any], field: str) -> None:
    assert refused(tensor("distance", [1.0]), **rest) == (400, field)


def test_inputs__missing_or_empty__are_refused() -> None:
    malformed: list[dict[str, Any]] = [{}, {"inputs": []}, {"inputs": {}}, {"inputs": [1]}]
    for content in malformed:
        assert post(Summing(), INFER, content).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000])
def test_body__no_object__is_refused(body: bytes) -> None:
    assert post(Summing(), INFER, body).status == 400


def test_nan__as_pythons_json_writes_it__is_a_missing_value() -> None:
    house, body = Summing(), json.dumps({"inputs": [tensor("distance", [math.nan, 1.0])]}).encode()
    assert post(house, INFER, body).status == 200
    assert house.asked[0].columns == {"distance": [None, 1.0]}


@pytest.mark.parametrize(
    "said", ["Infinity", "NaN, -Infinity", '"\\ud800", NaN', "1" * 5000 + ", NaN", "[" * 5000 + "NaN", "NaN, }"]
)
def test_nan__beside_what_is_no_json__does_not_help(said: str) -> None:
    assert post(Summing(), INFER, f'{{"inputs": [{said}]}}'.encode()).status == 400


# ---------------------------------------------------------------------- ids, entities, times


def test_parameters__of_one_row__name_request_entity_and_time() -> None:
    found = asked(
        tensor("distance", [1.0]), parameters={"request_id": "r-1", "entity": 42, "at": "2026-03-01T13:00:00+01:00"}
    )
    assert (found.request_id, found.entity) == (["r-1"], ["42"])
    assert found.at == [datetime(2026, 3, 1, 12, tzinfo=UTC)]


def test_parameters__lists__are_one_per_row() -> None:
    found = asked(
        tensor("distance", [1.0, 2.0]), parameters={"request_id": ["a", "b"], "entity": [None, "bob"], "at": None}
    )
    assert (found.request_id, found.entity, found.at) == (["a", "b"], [None, "bob"], None)


def test_request_id__one_for_several_rows__names_each_row() -> None:
    assert asked(tensor("distance", [1.0, 2.0]), parameters={"request_id": "r"}).request_id == ["r:0", "r:1"]


def test_request_id__twice_the_same__is_refused() -> None:
    assert refused(tensor("distance", [1.0, 2.0]), parameters={"request_id": ["a", "a"]}) == (400, "request_id")


def test_request_id__as_a_tensor__leaves_the_columns() -> None:
    found = asked(tensor("distance", [1.0]), tensor("request_id", ["r-1"], "BYTES"))
    assert (found.request_id, list(found.columns)) == (["r-1"], ["distance"])


def test_request_id__as_a_tensor_and_a_parameter__is_refused() -> None:
    inputs = tensor("distance", [1.0]), tensor("request_id", ["r-1"], "BYTES")
    assert refused(*inputs, parameters={"request_id": "r-2"}) == (400, "request_id")


def test_id__is_echoed_and_is_no_request_id() -> None:
    assert asked(tensor("distance", [1.0]), id="1").request_id is None


def test_at__as_a_tensor__is_the_time_of_each_row() -> None:
    found = asked(tensor("distance", [1.0, 2.0]), tensor("at", ["2026-03-01T12:00:00Z", None], "BYTES"))
    assert found.at == [datetime(2026, 3, 1, 12, tzinfo=UTC), None]


# ---------------------------------------------------------------------- limits, packing, refusals of the core


def test_rows__more_than_the_limit__are_413() -> None:
    assert refused(tensor("distance", [1.0], shape=[MAX_ROWS + 1])) == (413, "inputs[0].shape")


def test_body__more_than_the_limit__is_413_also_when_packed() -> None:
    large = b" " * (MAX_BYTES + 1)
    assert post(Summing(), INFER, large).status == 413
    assert post(Summing(), INFER, gzip.compress(large), content_encoding="gzip").status == 413


def test_body__packed__is_read() -> None:
    content = gzip.compress(orjson.dumps({"inputs": [tensor("distance", [1.0])]}))
    assert post(Summing(), INFER, content, content_encoding="gzip").status == 200
    assert post(Summing(), INFER, content[:-9], content_encoding="gzip").status == 400
    assert post(Summing(), INFER, b"{}", content_encoding="deflate").status == 400
    assert post(Summing(), INFER, content, content_encoding="br").status == 400


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(NotReady("Not warm yet."), 503), (NotAllowed("No token."), 401), (NotAllowed("Not yours.", known=True), 403)],
)
def test_refusal__of_the_core__has_its_status_and_message(refusal: Exception, status: int) -> None:
    class Refusing(Summing):
        def answer(self, endpoint: str, asked: Asked) -> Answered:
            raise refusal

    answer = post(Refusing(), INFER, {"inputs": [tensor("distance", [1.0])]})
    assert (answer.status, read(answer)) == (status, {"error": str(refusal)})


def test_infer__nothing_is_known_of_the_endpoint_yet__is_503_whatever_was_sent() -> None:
    house = Summing(endpoints=(replace(DELAY, version=None, inputs=(), ready=False),))
    assert post(house, INFER, {"inputs": [tensor("X", [1.0, 2.0], shape=[1, 2])]}).status == 503
    assert post(house, "/invocations", {"instances": [[1.0, 2.0]]}).status == 503


def test_refusal__that_names_its_field_already__does_not_say_it_twice() -> None:
    class Refusing(Summing):
        def answer(self, endpoint: str, asked: Asked) -> Answered:
            raise BadRequest("hour: The model takes it from the request.", "hour")

    answer = post(Refusing(), INFER, {"inputs": [tensor("distance", [1.0])]})
    assert read(answer) == {"error": "hour: The model takes it from the request.", "field": "hour"}
