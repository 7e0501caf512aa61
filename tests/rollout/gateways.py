"""Ports of the gateway's core as plain objects: models that answer by a rule, a log that is a list, one line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from rollout.gateway.asked import Asked, Values
from rollout.gateway.core import FeaturesAway, Gateway
from rollout.gateway.table import Column, TableFallback, TableLine, TableVersion
from rollout.spool import SpoolFull
from tests.builders import NOON

CHAMPION, CANDIDATE, EARLIER = 1, 2, 3
SALT = "a-salt"


def version(pk: int, inputs: Sequence[str] = ("x1",), **more: Any) -> TableVersion:
    return TableVersion(
        pk=pk,
        number=pk,
        model="delay",
        load_class="onnx",
        digest=f"digest-{pk}",
        path="",
        inputs=tuple(Column(name) for name in inputs),
        logged={name: name for name in inputs},
        asked={name: name for name in inputs},
        **more,
    )


def line(**changes: Any) -> TableLine:
    values: dict[str, Any] = {
        "endpoint": "delay-warning",
        "entity_column": "tailnum",
        "fallback": TableFallback(score=0.2),
        "champion": version(CHAMPION),
        "revision": 1,
    }
    return TableLine(**{**values, **changes})


def canary(share: float = 0.5, **changes: Any) -> TableLine:
    rollout = {"candidate": version(CANDIDATE), "stage": "canary", "step": 1, "salt": SALT, "rollout": 7}
    return line(**{**rollout, "share": share, **changes})


@dataclass
class RuleModel:
    """Answers what its rule says for x1; NaN is a failure."""

    rule: Callable[[float], float]
    seconds: float = 0.0
    model: Any = None
    calls: int = 0
    is_warm: bool = True

    def __post_init__(self) -> None:
        self.model = self

    def scores(self, columns: Mapping[str, Values], rows: int) -> tuple[Any, dict[int, str]]:
        time.sleep(self.seconds)
        found = np.array([self.rule(float(each)) for each in columns["x1"]])
        return found, {row: "It broke." for row in range(rows) if math.isnan(found[row])}


@dataclass
class ListLog:
    """A spool in memory."""

    records: list[bytes] = field(default_factory=list)
    pressure: float = 0.0
    is_full: bool = False
    durable: list[bool] = field(default_factory=list)

    def append(self, record: bytes, *, durable: bool = False, rows: int = 1) -> None:
        if self.is_full:
            raise SpoolFull("The budget is used up.")
        self.records.append(record)
        self.durable.append(durable)

    def rows(self, column: str) -> list[Any]:
        return [value for record in self.records for value in orjson.loads(record)["columns"][column]]


@dataclass
class KeyedStore:
    """An online store with one feature, x1, by tailnum."""

    values: Mapping[str, float]
    is_away: bool = False

    def read(
        self, version: TableVersion, columns: Mapping[str, Values], rows: int, *, now: datetime, at: Sequence[datetime]
    ) -> Mapping[str, Values]:
        if self.is_away:
            raise FeaturesAway("No answer.")
        return {"x1": [self.values.get(each) for each in columns["tailnum"]]}


class House:
    """A gateway on one line, with everything that a test may turn."""

    def __init__(self, served: TableLine, *, store: KeyedStore | None = None) -> None:
        self.served: TableLine | None = served
        self.models = {
            CHAMPION: RuleModel(lambda x1: x1),
            CANDIDATE: RuleModel(lambda x1: x1 + 10),
            EARLIER: RuleModel(lambda x1: x1 + 100),
        }
        self.log = ListLog()
        self.opened = 0
        self.gateway = Gateway(self, self, self.log, lambda: NOON, features=store, opened=self._count)

    def _count(self) -> None:
        self.opened += 1

    def line(self, endpoint: str) -> TableLine | None:
        return self.served

    def is_known(self, endpoint: str) -> bool:
        return endpoint == "delay-warning"

    def get(self, version: TableVersion) -> RuleModel | None:
        return self.models.get(version.pk)

    def ask(self, *x1: float, **more: Any) -> Any:
        columns = {"x1": list(x1), **more.pop("columns", {})}
        return self.gateway.answer("delay-warning", Asked(columns, len(x1), **more))
