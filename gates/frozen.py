"""What one gate run is measured on, fixed before its first check: rows, labels, scores. Pure; nothing here looks it up.

Whatever could not be had is ``Missing`` and says why; ``had`` turns that into an ``Unmeasurable`` for the checks that
need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa

from gates.policy import PolicyDocument
from stats.interval import FloatArray

T = TypeVar("T")
Json = dict[str, Any]


class Unmeasurable(Exception):
    """Something that a check needs could not be had; the message says what and why. Its verdict is ``error``."""


@dataclass(frozen=True)
class Missing:
    """Why an ingredient is missing."""

    why: str


@dataclass(frozen=True)
class Scores:
    """One score per row of the holdout, NaN where the version failed; ``errors`` has what it said, by row."""

    p: FloatArray
    errors: Mapping[int, str]


@dataclass(frozen=True)
class Frozen:
    """The inputs of a run. ``began`` is the moment that ages count from; ``table`` the holdout: the features that the
    candidate takes, the columns of the requests, the label.

    ``champion_name`` is empty when there is none; ``champion_is_unfair``: it was trained on rows of the holdout.
    ``features`` are the columns of the feature service, ``inputs`` those that the model takes, in order.
    """

    document: PolicyDocument
    task: str
    seed: int
    began: datetime
    table: pa.Table | Missing
    y: FloatArray | Missing
    label: str
    features: tuple[str, ...]
    inputs: tuple[str, ...]
    candidate: Scores | Missing
    champion: Scores | Missing
    champion_name: str
    champion_is_unfair: bool

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the holdout. Raises Unmeasurable."""
        table = had(self.table)
        if name not in table.column_names:
            columns = ", ".join(table.column_names[:12])
            raise Unmeasurable(f"The holdout has no column {name!r}; it starts with {columns}.")
        return table.column(name)

    def all_scored(self) -> tuple[FloatArray, FloatArray]:
        """Labels and the candidate's scores of all rows: a row it can not score is a defect, not a gap."""
        y, candidate = had(self.y), had(self.candidate)
        if candidate.errors:
            row, said = min(candidate.errors.items())
            raise Unmeasurable(f"It could not score {len(candidate.errors):,} of {len(y):,} rows (row {row}: {said}).")
        return y, candidate.p


def had(ingredient: T | Missing) -> T:
    """The ingredient, or Unmeasurable with why it is missing."""
    if isinstance(ingredient, Missing):
        raise Unmeasurable(ingredient.why)
    return ingredient


Measure = Callable[[Any, Frozen], Json]
"""(check, frozen) → what is judged, as finite JSON. Raises Unmeasurable."""
