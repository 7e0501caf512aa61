"""Where something is large: the segments of rows with the highest mean of a target, found by a shallow tree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import finite

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Segment:
    """Rows described by ``condition``: how many, and the mean of the target among them."""

    condition: str
    n: int
    mean: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Members:
    """A segment with the rows that lie in it, (n,)."""

    segment: Segment
    rows: NDArray[np.bool_]


def worst_segments(
    features: pd.DataFrame, target: ArrayLike, *, depth: int = 3, minimum_rows: int = 50, most: int = 5
) -> tuple[Segment, ...]:
    """Leaves of a regression tree over ``features``, largest mean of ``target`` first.

    Numbers are split by value, text and categories by level (one-hot); missing and infinite numbers go where
    scikit-learn's tree finds them better placed. Empty when there are fewer than twice ``minimum_rows`` rows. A
    description, not a test.
    """
    found = segment_members(features, target, depth=depth, minimum_rows=minimum_rows, most=most)
    return tuple(each.segment for each in found)


def segment_members(
    features: pd.DataFrame, target: ArrayLike, *, depth: int = 3, minimum_rows: int = 50, most: int = 5
) -> tuple[Members, ...]:
    """``worst_segments`` with their rows, for who wants to count something else in them, or to show some."""
    from sklearn.tree import DecisionTreeRegressor

    values = finite(target, "target")
    if len(values) < 2 * minimum_rows or features.empty:
        return ()
    columns = _numeric(features)
    tree = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=minimum_rows, random_state=0)
    tree.fit(columns.to_numpy(), values)
    leaf = tree.apply(columns.to_numpy())
    conditions = _conditions(tree.tree_, list(columns.columns))
    inside = {node: leaf == node for node in np.unique(leaf)}
    found = [
        Members(Segment(conditions[node], int(rows.sum()), float(values[rows].mean())), rows)
        for node, rows in inside.items()
    ]
    return tuple(sorted(found, key=lambda each: each.segment.mean, reverse=True)[:most])


@dataclass(frozen=True)
class Found:
    """A segment that was found on one half of the rows. ``rows``: those of the *other* half that lie in it, (n,)."""

    condition: str
    rows: NDArray[np.bool_]


def honest_segments(
    features: pd.DataFrame, target: ArrayLike, *, seed: int, depth: int = 3, minimum_rows: int = 50, most: int = 5
) -> tuple[Found, ...]:
    """Where the mean of ``target`` is largest: looked for on a random half of the rows, to be measured on the other.

    What is measured where it was found looks worse than it is, because it was chosen for looking bad; on rows that had
    no say in the choice it is unbiased (honest trees, Athey & Imbens 2016). Leaves of a tree as in ``worst_segments``,
    in the order of the half that found them, above its mean only; empty with too few rows.
    """
    from sklearn.tree import DecisionTreeRegressor

    values = finite(target, "target")
    if len(values) < 4 * minimum_rows or features.empty:
        return ()
    finds = np.zeros(len(values), dtype=bool)
    finds[np.random.default_rng(seed).permutation(len(values))[: len(values) // 2]] = True
    columns = _numeric(features)
    tree = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=minimum_rows, random_state=0)
    tree.fit(columns[finds].to_numpy(), values[finds])
    leaf = tree.apply(columns.to_numpy())
    conditions = _conditions(tree.tree_, list(columns.columns))
    means = {node: float(values[finds & (leaf == node)].mean()) for node in np.unique(leaf[finds])}
    worst = sorted((node for node in means if means[node] > values[finds].mean()), key=lambda node: -means[node])
    return tuple(Found(conditions[node], ~finds & (leaf == node)) for node in worst[:most])


def _numeric(features: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    text = [name for name in features.columns if not pd.api.types.is_numeric_dtype(features[name])]
    encoded = pd.get_dummies(features, columns=text, prefix_sep=" = ", dtype=float).astype(np.float64)
    # the tree places missing numbers; at infinite ones it raises
    return encoded.where(np.isfinite(encoded), np.nan)


def _conditions(tree: Any, names: list[str]) -> dict[int, str]:
    """The path to each leaf in words."""
    found: dict[int, str] = {}
    waiting: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    while waiting:
        node, path = waiting.pop()
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left == right:
            found[node] = " and ".join(path) or "all rows"
            continue
        name, limit = names[int(tree.feature[node])], float(tree.threshold[node])
        below, above = _words(name, limit)
        waiting += [(left, (*path, below)), (right, (*path, above))]
    return found


def _words(name: str, limit: float) -> tuple[str, str]:
    if " = " in name:
        column, level = name.split(" = ", 1)
        return f"{column} is not {level}", f"{column} is {level}"
    return f"{name} ≤ {limit:.4g}", f"{name} > {limit:.4g}"
