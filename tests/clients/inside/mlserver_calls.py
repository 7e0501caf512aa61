"""What MLServer's types and codecs make of the gateway: ``python mlserver_calls.py <arguments>``.

The arguments are host:port, token, endpoint, and three rows as JSON. Runs in the environment of the client and prints
one JSON object of findings.
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


def main(address: str, token: str, endpoint: str, asked: str) -> dict[str, Any]:
    client = httpx.Client(base_url=f"http://{address}", headers={"Authorization": f"Bearer {token}"})

    def infer(request: InferenceRequest) -> InferenceResponse:
        answer = client.post(f"/v2/models/{endpoint}/infer", json=request.model_dump(exclude_none=True))
        answer.raise_for_status()
        return InferenceResponse.model_validate_json(answer.content)

    def scores(request: InferenceRequest) -> list[float]:
        output = next(each for each in infer(request).outputs if each.name == "score")
        return [float(each) for each in NumpyCodec.decode_output(output).ravel()]

    server = MetadataServerResponse.model_validate_json(client.get("/v2").content)
    model = MetadataModelResponse.model_validate_json(client.get(f"/v2/models/{endpoint}").content)
    names, rows = [each.name for each in model.inputs or []], np.array(json.loads(asked))
    columns = InferenceRequest(
        id="mine-1",
        inputs=[NumpyCodec.encode_input(name, rows[:, at]) for at, name in enumerate(names)],
        outputs=[RequestOutput(name="score"), RequestOutput(name="arm")],
        parameters=Parameters(entity="N1"),
    )
    refused = client.post(f"/v2/models/{endpoint}/infer", json={"inputs": []})
    return {
        "server": server.model_dump(exclude_none=True),
        "model": {"name": model.name, "versions": model.versions, "inputs": names},
        "scores": {
            "columns": scores(columns),
            "matrix": scores(NumpyRequestCodec.encode_request(rows)),
            "pandas": scores(PandasCodec.encode_request(pd.DataFrame(rows, columns=names))),
        },
        "id": infer(columns).id,
        "version": infer(columns).model_version,
        "refusal": [refused.status_code, InferenceErrorResponse.model_validate_json(refused.content).error],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
