"""What KServe's InferenceRESTClient gets from the gateway: ``python kserve_calls.py <arguments>``.

The arguments are host:port, token, endpoint, and three rows as JSON. Runs in the environment of the client and prints
one JSON object of findings.
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

Rows = np.ndarray[Any, Any]


def request(model: str, names: list[str], rows: Rows, *, binary: bool, outputs_binary: bool = False) -> InferRequest:
    inputs = []
    for at, name in enumerate(names):
        given = InferInput(name, [len(rows), 1], "FP64")
        given.set_data_from_numpy(rows[:, [at]], binary_data=binary)
        inputs.append(given)
    parameters = {"binary_data_output": True} if outputs_binary else {}
    return InferRequest(model_name=model, infer_inputs=inputs, request_id="mine-1", parameters=parameters)


async def main(address: str, token: str, endpoint: str, asked: str) -> dict[str, Any]:
    base, headers = f"http://{address}", {"Authorization": f"Bearer {token}"}
    metadata = httpx.get(f"{base}/v2/models/{endpoint}", headers=headers).json()  # the client has no call for it
    names, rows = [each["name"] for each in metadata["inputs"]], np.array(json.loads(asked))
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

    whole = await client.infer(base, request(endpoint, names, rows, binary=False), model_name=endpoint, headers=headers)
    found = {
        "live": await client.is_server_live(base, headers=headers),
        "ready": await client.is_server_ready(base, headers=headers),
        "model_ready": await model_ready(endpoint),
        "unknown_ready": await model_ready("nobody"),
        "scores": {
            "json": await scores(request(endpoint, names, rows, binary=False)),
            "binary": await scores(request(endpoint, names, rows, binary=True)),
            "binary both ways": await scores(request(endpoint, names, rows, binary=True, outputs_binary=True)),
        },
        "id": whole.id,
        "model": [whole.model_name, whole.model_version],
        "outputs": [each.name for each in whole.outputs],
        "parameters": sorted(whole.parameters or {}),
        "refusals": {
            "unknown model": await refusal(request("nobody", names, rows, binary=True), model="nobody"),
            "missing input": await refusal(request(endpoint, names[:1], rows, binary=True)),
            "no token": await refusal(request(endpoint, names, rows, binary=True), headers={}),
        },
    }
    await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
