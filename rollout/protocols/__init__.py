"""The protocols that clients speak with the gateway: bytes in, bytes out. Pure; the WSGI entry calls ``reply``.

    reply(Call("POST", "/v2/models/delay-warning/infer", body=…), house) -> Reply

``addresses`` finds what a call asks for; ``v2`` is the Open Inference Protocol with Triton's ``binary_tensors``;
``invocations`` is what MLflow's scoring server speaks. Who answers is behind ``calls.House``.
"""

from rollout.protocols.addresses import endpoint_of, reply
from rollout.protocols.calls import Call, House, Reply

__all__ = ["Call", "House", "Reply", "endpoint_of", "reply"]
