"""Real clients of the Open Inference Protocol against a real gateway: NVIDIA's, KServe's, MLServer's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gateway_side import COLUMNS, ENTITY
from tests.clients.conftest import Served

pytestmark = pytest.mark.slow

Findings = Callable[[str], Any]
CLIENTS = ("tritonclient", "kserve", "mlserver")
DOUBLES, FLOATS = 1e-6, 1e-5
"""How far a score may be from scikit-learn's: the ONNX form's parity, and what is left of inputs in float32."""


@pytest.mark.parametrize("client", CLIENTS)
def test_client__asks_in_each_of_its_ways__gets_scikit_learns_scores(
    client: str, findings: Findings, served: Served
) -> None:
    for way, scores in findings(client)["scores"].items():
        assert scores == pytest.approx(served.scores, abs=FLOATS if "float32" in way else DOUBLES), way


@pytest.mark.parametrize("client", CLIENTS)
def test_client__names_its_request__gets_the_name_back(client: str, findings: Findings) -> None:
    assert findings(client)["id"] == "mine-1"


@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_health__asked_by_a_client__is_live_and_ready_and_knows_its_models(client: str, findings: Findings) -> None:
    found = findings(client)
    assert (found["live"], found["ready"], found["model_ready"], found["unknown_ready"]) == (True, True, True, False)


@pytest.mark.parametrize("client", ["tritonclient", "mlserver"])
def test_metadata__read_by_a_client__names_inputs_in_order_and_the_champion(client: str, findings: Findings) -> None:
    found = findings(client)
    assert found["server"]["extensions"] == ["binary_tensor_data"]
    names = [each if isinstance(each, str) else each["name"] for each in found["model"]["inputs"]]
    assert (names, found["model"]["versions"]) == (list(COLUMNS), ["1"])


def test_tritonclient__asks_for_every_output__is_told_arm_version_and_request_ids(
    findings: Findings, served: Served
) -> None:
    told = findings("tritonclient")["told"]
    assert told["decision"] == [score >= 0.5 for score in served.scores]
    assert (told["arm"], told["answered_by"]) == (["champion"] * 3, ["champion"] * 3)
    assert (told["version"], told["status"]) == ([1, 1, 1], ["ok"] * 3)
    assert len(set(told["request_id"])) == 3


def test_tritonclient__says_entity_and_request_id_in_parameters__is_told_the_id(findings: Findings) -> None:
    assert findings("tritonclient")["one"]["request_id"] == "triton-0"
    assert findings("tritonclient")["model"]["parameters"]["entity_column"] == ENTITY


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("unknown model", "403 "),  # who has no duty there is not told whether there is one
        ("unknown output", "400 outputs[0].name: "),
        ("missing input", "400 number1: "),
        ("other width", "400 inputs[0].shape: It has 14 columns; the model takes 15: number0, "),
        ("other version", "400 version: Version 99 of in-onnx does not serve; version 1 serves."),
        ("no token", "401 "),
    ],
)
def test_tritonclient__is_refused__reads_status_and_message(case: str, said: str, findings: Findings) -> None:
    assert findings("tritonclient")["refusals"][case].startswith(said)


@pytest.mark.parametrize(
    ("case", "said"), [("unknown model", "403 "), ("missing input", "400 number1: "), ("no token", "401 ")]
)
def test_kserve__is_refused__reads_status_and_message(case: str, said: str, findings: Findings) -> None:
    assert findings("kserve")["refusals"][case].startswith(said)


def test_mlserver__reads_outputs_version_and_refusal__as_its_own_types(findings: Findings) -> None:
    found = findings("mlserver")
    assert found["version"] == "1"
    assert found["refusal"] == [400, "inputs: It must be a list of 1 to 2000 tensors."]
