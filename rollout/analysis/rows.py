"""The rows that a look judges: a candidate against the champion, in canary (each request by one of them) and in shadow
(the same request answered by both). Numbers, no Django."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class CanaryRows:
    """Rows of the canary stage in event time, one entry per request in each field.

    ``score`` is what was answered, ``label`` the outcome where its window has closed and it arrived (else NaN),
    ``latency`` in milliseconds where timed (else NaN), ``failed`` whether the arm's version could not answer.

    ``sticky``: whether the request named an entity (None: all did); one that did not has an ``entity`` of its own.
    ``warm``: whether the version that answered was warmed up (None: all were). ``day``: of the request, any numbering.
    """

    entity: Sequence[str]
    canary: BoolArray
    share: FloatArray
    step: NDArray[np.int64]
    failed: BoolArray
    score: FloatArray
    label: FloatArray
    latency: FloatArray
    sticky: BoolArray | None = None
    warm: BoolArray | None = None
    day: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.canary)

    def __getitem__(self, where: slice) -> CanaryRows:
        """The rows from a place to another."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        part: dict[str, Any] = {name: None if column is None else column[where] for name, column in columns.items()}
        return CanaryRows(**part)


@dataclass(frozen=True)
class BusinessValues:
    """A business metric and its values whose window has closed: ``value[i]``, in its unit, belongs to row ``row[i]``,
    which says entity, arm, share and step.

    ``harm_from`` and ``tolerated`` are in that unit too, in the bad direction. ``heavy_tailed``: compared on
    log(1 + value), where both sizes are what they are from the champion's typical value on.
    """

    name: str
    title: str
    row: NDArray[np.int64]
    value: FloatArray
    harm_from: float
    tolerated: float
    more_is_better: bool = True
    heavy_tailed: bool = False
    guards: bool = True
    unit: str = ""
    per: str = "entity"

    def harmful(self, value: FloatArray) -> FloatArray:
        """On the scale that is compared, larger is worse."""
        scaled = np.sign(value) * np.log1p(np.abs(value)) if self.heavy_tailed else value
        return -scaled if self.more_is_better else scaled

    def on_scale(self, size: float, *, champion: float | None) -> float:
        """A size on the scale that is compared, where the champion's mean is ``champion``."""
        if not self.heavy_tailed:
            return size
        mean = 0.0 if champion is None else champion
        typical = math.copysign(math.expm1(abs(mean)), mean)  # in the unit, larger is worse
        return math.copysign(math.log1p(abs(typical + size)), typical + size) - mean


@dataclass(frozen=True)
class ShadowRows:
    """Requests that the champion answered and the candidate scored afterwards, one entry per request in each field.

    NaN where a version failed, was not timed, or no outcome is known yet.
    """

    entity: Sequence[str]
    candidate: FloatArray
    champion: FloatArray
    candidate_failed: BoolArray
    champion_failed: BoolArray
    label: FloatArray
    candidate_latency: FloatArray
    champion_latency: FloatArray

    def entities(self, where: BoolArray) -> list[str]:
        return [self.entity[position] for position in np.flatnonzero(where).tolist()]

    @property
    def both(self) -> BoolArray:
        """Rows that both versions answered."""
        return ~(self.candidate_failed | self.champion_failed)

    @property
    def with_outcome(self) -> BoolArray:
        return self.both & ~np.isnan(self.label)
