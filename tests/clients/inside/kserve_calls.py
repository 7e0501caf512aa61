"""What KServe's InferenceRESTClient gets from the gateway: ``python kserve_calls.py <host:port> <token> <endpoint>``.

Runs in the client's own environment. The endpoint's model takes x1 and x2. Prints one JSON object of findings.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferInput, InferRequest, RESTConfig
from kserve.inference_client import InferenceRESTClient

ROWS = np.array([[0.25, -1.5], [2.0, 0.125], [-0.75, 3.0]])


def request(endpoint: str, *, binary: bool, outputs_binary: bool = False, names: tuple[str, ...] = ("x1", "x2")) -> Any:
    inputs = []
    for at, name in enumerate(names):
        given = InferInput(name, [len(ROWS), 1], "FP64")
        given.set_data_from_numpy(ROWS[:, [at]], binary_data=binary)
        inputs.append(given)
    parameters = {"binary_data_output": True} if outputs_binary else {}
    return InferRequest(model_name=endpoint, infer_inputs=inputs, request_id="mine-1", parameters=parameters)


async def main(address: str, token: str, endpoint: str) -> dict[str, Any]:
    base, headers = f"http://{address}", {"Authorization": f"Bearer {token}"}
    client = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))

    async def scores(given: Any) -> list[float]:
        answer = await client.infer(base, given, model_name=endpoint, headers=headers)
        return [float(each) for each in answer.outputs[0].as_numpy()]

    async def refusal(given: Any, model: str = endpoint, **how: Any) -> str:
        try:
            await client.infer(base, given, model_name=model, **{"headers": headers, **how})
        except httpx.HTTPStatusError as error:
            return f"{error.response.status_code} {error}"
        return "answered"

    async def model_ready(name: str) -> Any:
        try:
            return await client.is_model_ready(base, name, headers=headers)
        except httpx.HTTPStatusError as error:
            return error.response.status_code

    whole = await client.infer(base, request(endpoint, binary=False), model_name=endpoint, headers=headers)
    found = {
        "live": await client.is_server_live(base, headers=headers),
        "ready": await client.is_server_ready(base, headers=headers),
        "model_ready": await model_ready(endpoint),
        "unknown_ready": await model_ready("nobody"),
        "scores": {
            "json": await scores(request(endpoint, binary=False)),
            "binary": await scores(request(endpoint, binary=True)),
            "binary both ways": await scores(request(endpoint, binary=True, outputs_binary=True)),
        },
        "id": whole.id,
        "model": [whole.model_name, whole.model_version],
        "outputs": [each.name for each in whole.outputs],
        "parameters": sorted(whole.parameters or {}),
        "refusals": {
            "unknown model": await refusal(request("nobody", binary=True), model="nobody"),
            "missing input": await refusal(request(endpoint, binary=True, names=("x1",))),
            "no token": await refusal(request(endpoint, binary=True), headers={}),
        },
    }
    await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
