"""Whether the shadow has seen every kind of traffic that the champion gets: rows by the levels of a column."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rollout.analysis.rows import BoolArray

COUNTS_FROM = 0.01
"""The share of the traffic from which a level must be covered."""
MOST_LEVELS = 20
"""A column of numbers with more values than this is covered by quarters of its range, not value by value."""
NAMED = 3
"""How many levels that lack rows are named in one sentence."""


@dataclass(frozen=True)
class Level:
    """A level of a column: its share of the champion's traffic, and how many rows both versions answered in it."""

    column: str
    level: str
    share: float
    rows: int
    wanted: int

    @property
    def is_covered(self) -> bool:
        return self.rows >= self.wanted

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Coverage:
    """``levels`` of every column asked for; ``missing`` says in one sentence what is, empty when nothing is."""

    levels: tuple[Level, ...]
    missing: str


def coverage(traffic: pa.Table, shadow: pa.Table, both: BoolArray, *, wanted: Mapping[str, int]) -> Coverage:
    """Rows per level of the columns ``wanted`` (column -> rows).

    ``traffic`` is what the champion answered, before the shadow too: a kind of request that has not come up since must
    be missed. ``shadow`` are the shadow's rows, of which ``both`` versions answered some. A column that the log does
    not have, or of which no level makes 1 %, proves nothing, so it is missing.
    """
    levels: list[Level] = []
    problems: list[str] = []
    for column, rows in wanted.items():
        found = _levels(traffic, shadow, both, column, rows)
        if isinstance(found, str):
            problems.append(found)
        levels += [] if isinstance(found, str) else found
    thin = sorted((each for each in levels if not each.is_covered), key=lambda each: -each.share)
    if thin:
        named = ", ".join(f"{each.column} {each.level} ({each.rows} of {each.wanted})" for each in thin[:NAMED])
        more = f" and {len(thin) - NAMED} more" if len(thin) > NAMED else ""
        problems.append(f"Too few shadow rows where the traffic goes: {named}{more}.")
    return Coverage(tuple(levels), " ".join(problems))


def _levels(traffic: pa.Table, shadow: pa.Table, both: BoolArray, column: str, wanted: int) -> list[Level] | str:
    """The levels of one column that make 1 % or more, or why there are none."""
    if column not in traffic.column_names or column not in shadow.column_names:
        return f"The log has no column {column}: whether the shadow covers it can not be shown."
    # before the column was logged there was nothing to be seen in it, so nulls of then are no level
    there, seen = traffic[column].drop_null(), shadow[column].filter(pa.array(both))
    if not len(there):
        return f"{column} is empty in the log: whether the shadow covers it can not be shown."
    names, inside, answered = _named(there, seen)
    shares = np.bincount(inside, minlength=len(names)) / len(inside)
    counts = np.bincount(answered, minlength=len(names))
    found = [
        Level(column, name, float(shares[place]), int(counts[place]), wanted)
        for place, name in enumerate(names)
        if shares[place] >= COUNTS_FROM
    ]
    if not found:
        return f"No level of {column} makes {COUNTS_FROM:.0%} of the traffic: cover another column."
    return sorted(found, key=lambda each: -each.share)


def _named(there: pa.ChunkedArray, seen: pa.ChunkedArray) -> tuple[Sequence[str], Any, Any]:
    """The names of the levels, and the level of each row of the traffic and (where it has one) of the shadow."""
    kind = there.type
    if (pa.types.is_floating(kind) or pa.types.is_integer(kind)) and pc.count_distinct(there).as_py() > MOST_LEVELS:
        values = there.cast(pa.float64()).to_numpy()
        finite = values[np.isfinite(values)]
        edges = np.unique(np.quantile(finite, (0.25, 0.5, 0.75))) if len(finite) else np.empty(0)
        mine = seen.drop_null().cast(pa.float64()).to_numpy()
        return _ranges(edges), np.searchsorted(edges, values, side="left"), np.searchsorted(edges, mine, side="left")
    # the same level may be int8 in one file and int64 in another: compared as text
    known, found = there.cast(pa.string()), seen.cast(pa.string())
    names = pc.unique(known)
    inside = pc.index_in(known, value_set=names).to_numpy()
    answered = pc.index_in(found, value_set=names).drop_null().to_numpy()
    return [f"= {name}" for name in names.to_pylist()], inside, answered.astype(np.int64)


def _ranges(edges: Any) -> list[str]:
    if not len(edges):
        return ["any"]
    between = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    return [f"≤ {edges[0]:.4g}", *between, f"> {edges[-1]:.4g}"]
