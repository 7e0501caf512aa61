"""What MLServer's types and codecs make of the gateway: ``python mlserver_calls.py <host:port> <token> <endpoint>``.

Runs in the client's own environment. The endpoint's model takes x1 and x2. Prints one JSON object of findings.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import numpy as np
import pandas as pd
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    Parameters,
    RequestOutput,
)

ROWS = np.array([[0.25, -1.5], [2.0, 0.125], [-0.75, 3.0]])


def main(address: str, token: str, endpoint: str) -> dict[str, Any]:
    client = httpx.Client(base_url=f"http://{address}", headers={"Authorization": f"Bearer {token}"})

    def infer(request: InferenceRequest) -> InferenceResponse:
        answer = client.post(f"/v2/models/{endpoint}/infer", json=request.model_dump(exclude_none=True))
        answer.raise_for_status()
        return InferenceResponse.model_validate_json(answer.content)

    def scores(request: InferenceRequest) -> list[float]:
        output = next(each for each in infer(request).outputs if each.name == "score")
        return [float(each) for each in NumpyCodec.decode_output(output).ravel()]

    columns = InferenceRequest(
        id="mine-1",
        inputs=[NumpyCodec.encode_input(name, ROWS[:, at]) for at, name in enumerate(("x1", "x2"))],
        outputs=[RequestOutput(name="score"), RequestOutput(name="arm")],
        parameters=Parameters(entity="N1"),
    )
    refused = client.post(f"/v2/models/{endpoint}/infer", json={"inputs": []})
    server = MetadataServerResponse.model_validate_json(client.get("/v2").content)
    model = MetadataModelResponse.model_validate_json(client.get(f"/v2/models/{endpoint}").content)
    return {
        "server": server.model_dump(exclude_none=True),
        "model": {"name": model.name, "versions": model.versions, "inputs": [each.name for each in model.inputs or []]},
        "scores": {
            "columns": scores(columns),
            "matrix": scores(NumpyRequestCodec.encode_request(ROWS)),
            "pandas": scores(PandasCodec.encode_request(pd.DataFrame(ROWS, columns=["x1", "x2"]))),
        },
        "id": infer(columns).id,
        "version": infer(columns).model_version,
        "refusal": [refused.status_code, InferenceErrorResponse.model_validate_json(refused.content).error],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
