"""A house that answers without a model: the score of a row is the sum of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from rollout.gateway.asked import Answered, Asked, Described, Input, UnknownEndpoint
from rollout.protocols import Call, Reply, reply

DELAY = Described(
    endpoint="delay-warning",
    version=7,
    inputs=(Input("distance", "double"), Input("hour", "long"), Input("carrier", "string")),
    ready=True,
    platform="onnx",
    keys=("flight",),
    entity_column="customer",
)
NUMBERS = replace(DELAY, endpoint="numbers", inputs=(Input("a"), Input("b"), Input("c")))
SINGLE = replace(DELAY, endpoint="single", inputs=(Input("x"),))


@dataclass
class Summing:
    """Serves ``endpoints``; keeps what it was asked."""

    endpoints: Sequence[Described] = (DELAY,)
    version: str = "0.1.0"
    ready: bool = True
    asked: list[Asked] = field(default_factory=list)

    def names(self) -> Sequence[str]:
        return [each.endpoint for each in self.endpoints]

    def is_ready(self) -> bool:
        return self.ready

    def describe(self, endpoint: str) -> Described:
        for each in self.endpoints:
            if each.endpoint == endpoint:
                return each
        raise UnknownEndpoint(f"There is no endpoint {endpoint!r}.")

    def answer(self, endpoint: str, asked: Asked) -> Answered:
        self.asked.append(asked)
        n = asked.rows
        columns = [list(values) for values in asked.columns.values()]
        scores = np.array([sum(_number(column[row]) for column in columns) for row in range(n)], dtype=np.float64)
        ids = asked.request_id if isinstance(asked.request_id, list) else [f"new-{row}" for row in range(n)]
        arms = ["canary" if row % 2 else "champion" for row in range(n)]
        return Answered(scores, [bool(each >= 0.5) for each in scores], arms, arms, [7] * n, ["ok"] * n, ids)


def _number(value: Any) -> float:
    return 0.0 if value is None or isinstance(value, str) else float(value)


def post(house: Summing, path: str, content: Any, **headers: str) -> Reply:
    """POST JSON (or bytes as they are); header names with _ for -."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return reply(
        Call("POST", path, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body), house
    )


def get(house: Summing, path: str) -> Reply:
    return reply(Call("GET", path), house)


def read(answer: Reply) -> Any:
    return orjson.loads(answer.body)
