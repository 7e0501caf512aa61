"""Where a candidate in shadow and the champion answer differently: how many decisions, in which segments, on which
requests. For the person who reads the look: a description, not a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from rollout.analysis.rows import BoolArray, FloatArray, ShadowRows
from stats.segments import segment_members

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 20
"""Rows of greatest disagreement kept with a look."""
EXAMPLES_OF_SEGMENT = 5
MOST_LEVELS = 25
"""Levels of a text column that the tree may split by; the rest is one level."""
NEWEST = 50_000
"""Rows that a tree is grown on: the newest."""
OTHER = "(another)"


@dataclass(frozen=True)
class Decisions:
    """How often the two lead to the same decision, and of which kind the others are.

    ``candidate_right`` and ``champion_right`` count the differing decisions whose outcome is known (0 or 1).
    """

    n: int
    both_act: int
    neither: int
    only_candidate: int
    only_champion: int
    candidate_right: int
    champion_right: int

    @property
    def same(self) -> int:
        return self.both_act + self.neither

    @property
    def different(self) -> int:
        return self.only_candidate + self.only_champion

    def as_dict(self) -> dict[str, int]:
        names = ("n", "both_act", "neither", "only_candidate", "only_champion", "candidate_right", "champion_right")
        return {name: getattr(self, name) for name in names}


def decisions(rows: ShadowRows, threshold: float) -> Decisions:
    """At or above ``threshold`` the product acts."""
    there = rows.both
    mine, theirs = rows.candidate[there] >= threshold, rows.champion[there] >= threshold
    label, differ = rows.label[there], mine != theirs
    known = differ & np.isin(label, (0.0, 1.0))
    right = int((known & (mine == (label == 1.0))).sum())
    return Decisions(
        n=int(there.sum()),
        both_act=int((mine & theirs).sum()),
        neither=int((~mine & ~theirs).sum()),
        only_candidate=int((mine & ~theirs).sum()),
        only_champion=int((~mine & theirs).sum()),
        candidate_right=right,
        champion_right=int(known.sum()) - right,
    )


@dataclass(frozen=True)
class Named:
    """What a row is found by: its request id and when it was asked."""

    request_id: Sequence[str]
    at: Sequence[datetime]


def differences(
    rows: ShadowRows, features: pd.DataFrame, loss: FloatArray, named: Named, *, threshold: float
) -> dict[str, Any]:
    """``disagreement``: segments where the scores lie furthest apart, with the decisions that differ there and the
    requests that differ most; ``loss``: where the candidate loses most; ``examples``: over all rows.

    ``features`` has what either version was given, a row a request; ``loss`` the candidate's loss minus the champion's
    (NaN without an outcome).
    """
    both = rows.both
    apart = np.where(both, np.abs(rows.candidate - rows.champion), np.nan)
    differ = both & ((rows.candidate >= threshold) != (rows.champion >= threshold))
    columns = grouped(features)
    worst = np.argsort(-np.where(both, apart, -1.0), kind="stable")[: min(EXAMPLES, int(both.sum()))]
    return {
        "disagreement": _segments(columns, apart, both, rows, differ, named),
        "loss": _segments(columns, loss, rows.with_outcome & ~np.isnan(loss), rows, differ, named),
        "examples": [_example(rows, named, int(row)) for row in worst],
    }


def grouped(features: pd.DataFrame) -> pd.DataFrame:
    """The columns that a tree can use: without empty ones and names of single rows, rare levels put together."""
    kept = {}
    for name in features.columns:
        column = features[name]
        if column.isna().all():
            continue
        if column.dtype == object or str(column.dtype) in ("str", "string", "category"):
            counts = column.value_counts()
            if len(counts) > MOST_LEVELS:
                if counts.iloc[:MOST_LEVELS].sum() < 0.5 * len(column):
                    continue  # nearly every row has a level of its own: it names rows, it does not group them
                column = column.where(column.isin(counts.index[:MOST_LEVELS]) | column.isna(), OTHER)
        kept[name] = column
    return features.loc[:, []].assign(**kept)


def _segments(
    features: pd.DataFrame,
    target: FloatArray,
    where: BoolArray,
    rows: ShadowRows,
    differ: BoolArray,
    named: Named,
) -> list[dict[str, Any]]:
    places = np.flatnonzero(where)[-NEWEST:]
    frame = features.iloc[places]
    frame = frame.loc[:, [name for name in frame.columns if not frame[name].isna().all()]]
    found = []
    for each in segment_members(frame, target[places]):
        inside = places[each.rows]
        worst = inside[np.argsort(-target[inside], kind="stable")[:EXAMPLES_OF_SEGMENT]]
        found.append(
            each.segment.as_dict()
            | {
                "differ": int(differ[inside].sum()),
                "examples": [_example(rows, named, int(row)) for row in worst],
            }
        )
    return found


def _example(rows: ShadowRows, named: Named, row: int) -> dict[str, Any]:
    return {
        "request_id": named.request_id[row],
        "at": named.at[row].isoformat(),
        "champion": float(rows.champion[row]),
        "candidate": float(rows.candidate[row]),
        "outcome": None if np.isnan(rows.label[row]) else float(rows.label[row]),
    }
