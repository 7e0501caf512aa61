"""What NVIDIA's tritonclient gets from the gateway: ``python tritonclient_calls.py <arguments>``.

The arguments are host:port, token, endpoint, and three rows as JSON. Runs in the environment of the client and prints
one JSON object of findings.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

Rows = np.ndarray[Any, Any]


def column(name: str, values: Rows, *, binary: bool) -> InferInput:
    datatype = "BYTES" if values.dtype == object else "FP64"
    given = InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def matrix(rows: Rows, *, binary: bool) -> InferInput:
    given = InferInput("input-0", list(rows.shape), {"float64": "FP64", "float32": "FP32"}[rows.dtype.name])
    given.set_data_from_numpy(rows, binary_data=binary)
    return given


def main(address: str, token: str, endpoint: str, asked: str) -> dict[str, Any]:
    client = InferenceServerClient(address)
    headers = {"Authorization": f"Bearer {token}"}

    def infer(inputs: list[InferInput], **how: Any) -> Any:
        return client.infer(endpoint, inputs, headers=dict(headers), **how)  # the client adds to the dict it is given

    def scores(inputs: list[InferInput], **how: Any) -> list[float]:
        return [float(each) for each in infer(inputs, **how).as_numpy("score")]

    def refusal(inputs: list[InferInput], **how: Any) -> str:
        try:
            infer(inputs, **how)
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"
        return "answered"

    model = client.get_model_metadata(endpoint, headers=headers)
    names = [each["name"] for each in model["inputs"]]
    rows = np.array(json.loads(asked))
    assert rows.shape == (3, len(names))

    def columns(way: str, names: list[str] = names) -> list[InferInput]:
        return [column(name, rows[:, [at]], binary=way == "binary") for at, name in enumerate(names)]

    entity = column(model["parameters"]["entity_column"], np.array(["N1", "N2", "N3"], dtype=object), binary=True)
    as_json = [InferRequestedOutput("score", binary_data=False)]
    every = ("score", "decision", "arm", "answered_by", "version", "status", "request_id")
    told = infer(
        [*columns("binary"), entity],
        outputs=[InferRequestedOutput(name, binary_data=name != "score") for name in every],
        request_id="mine-1",
    )
    single = [column(name, rows[0, [at]], binary=True) for at, name in enumerate(names)]
    one = infer(single, parameters={"entity": "N1", "request_id": "triton-0"})
    found = {
        "live": client.is_server_live(headers=headers),
        "ready": client.is_server_ready(headers=headers),
        "model_ready": client.is_model_ready(endpoint, headers=headers),
        "unknown_ready": client.is_model_ready("nobody", headers=headers),
        "server": client.get_server_metadata(headers=headers),
        "model": model,
        "scores": {
            "binary": scores(columns("binary")),
            "json": scores(columns("json"), outputs=as_json),
            "binary in, json out": scores(columns("binary"), outputs=as_json),
            "matrix": scores([matrix(rows, binary=True)]),
            "matrix in json": scores([matrix(rows, binary=False)]),
            "matrix of float32": scores([matrix(rows.astype(np.float32), binary=True)]),
            "packed": scores(columns("binary"), request_compression_algorithm="gzip"),
        },
        "told": {name: [_plain(each) for each in told.as_numpy(name)] for name in every},
        "id": told.get_response()["id"],
        "one": one.get_response()["parameters"],
        "refusals": {
            "unknown model": _of(lambda: client.infer("nobody", columns("binary"), headers=dict(headers))),
            "unknown output": refusal(columns("binary"), outputs=[InferRequestedOutput("probability")]),
            "missing input": refusal(columns("binary", names[:1])),
            "other width": refusal([matrix(rows[:, 1:], binary=True)]),
            "other version": refusal(columns("binary"), model_version="99"),
            "no token": _of(lambda: client.infer(endpoint, columns("binary"))),
        },
    }
    client.close()
    return found


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item()


def _of(call: Any) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "answered"


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
