"""What the served form of a version does with rows: as the trained one, the same twice, with holes, and with values
that nobody ever saw. All of it is measured whatever the check asks for, so that another rule can judge it later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.scoring import Scorer, Unscorable
from gates import preparation
from gates.collect.latency import digest, pinned
from gates.frozen import Frozen, Json, Unmeasurable, had
from gates.models import GateRun
from gates.policy import RobustnessCheck
from registry import conversion
from stats.interval import FloatArray

SPOILT_ROWS = 100
"""Rows of which each column is taken away in turn, and then made strange."""
SINGLE_ROWS = 32
"""Rows that are also asked one by one."""
NEVER_SEEN = "\N{REPLACEMENT CHARACTER} never seen"
FAR = 10.0
"""How many widths of its range a strange number lies beyond it."""


@dataclass(frozen=True)
class Answer:
    """Scores (NaN where it failed), the first thing that it said, and whether its process ended over the question."""

    scores: FloatArray
    said: str
    died: bool = False

    @property
    def answered(self) -> int:
        return int(np.isfinite(self.scores).sum())


def collect(check: RobustnessCheck, run: GateRun, frozen: Frozen) -> Json:
    """Ask the served form, and the registered one where that is another."""
    table = had(frozen.table)
    lacking = [name for name in frozen.inputs if name not in table.column_names]
    if lacking or not len(table):
        lacks = f"columns that it takes: {', '.join(lacking[:5])}" if lacking else "rows"
        raise Unmeasurable(f"The holdout lacks {lacks}.")
    rows = pinned(table.select(list(frozen.inputs)), count=check.rows, seed=frozen.seed)
    served, registered = conversion.served_form(run.version), conversion.registered_form(run.version)
    try:
        base, found = behaviour(rows, lambda: preparation.open_scorer(run.version))
        parity: Json = {"by": "identity", "rows": len(rows), "max_difference": 0.0, "only_one": 0}
        if served.digest != registered.digest:
            with preparation.open_form(run.version, registered) as trained:
                parity = {"by": "scores", **compared(base, trained.predict(rows).scores)}
    except Unscorable as problem:
        raise Unmeasurable(f"It could not be asked: {problem}") from problem
    return {
        "served": {"load_class": served.load_class, "digest": served.digest},
        "registered": {"load_class": registered.load_class, "digest": registered.digest},
        "workload": {"rows": len(rows), "digest": digest(rows), "seed": frozen.seed},
        "parity": parity,
        **found,
    }


def behaviour(rows: pa.Table, open_scorer: Callable[[], Scorer]) -> tuple[FloatArray, Json]:
    """The scores of the rows, and what becomes of them when they are asked again, one by one, spoilt and strange.

    Raises Unscorable when the rows can not be asked as they are, Unmeasurable when none of them is answered.
    """
    with _Copy(open_scorer) as copy:
        base = copy.ask(rows, must=True)
        if not base.answered:
            raise Unmeasurable(f"It answered none of {len(rows):,} rows of the holdout: {base.said}")
        found: Json = {
            "rows": len(rows),
            "answered": base.answered,
            "said": base.said,
            "determinism": _repeated(copy, rows, base.scores),
        }
        sound = np.flatnonzero(np.isfinite(base.scores))[:SPOILT_ROWS]
        some, scores = rows.take(sound), base.scores[sound]
        found["missing"] = _each_column(copy, some, scores, _nulls)
        found["strange"] = _each_column(copy, some, scores, _strange)
    return base.scores, found


def compared(first: FloatArray, second: FloatArray) -> Json:
    """How far two answers to the same rows are apart. ``differing`` rows are not equal to the bit; ``only_one`` were
    answered once only. ``relative`` is the largest difference over the size of the score, or over 1 where that is more.
    """
    both = np.isfinite(first) & np.isfinite(second)
    apart = np.abs(first[both] - second[both])
    only_one = int((np.isfinite(first) != np.isfinite(second)).sum())
    return {
        "rows": len(first),
        "differing": int((apart > 0).sum()) + only_one,
        "only_one": only_one,
        "max_difference": float(apart.max(initial=0.0)),
        "relative": float((apart / np.maximum(1.0, np.abs(first[both]))).max(initial=0.0)),
    }


# ---------------------------------------------------------------------- asking


class _Copy:
    """A copy of the version that is started anew after a question that ended it."""

    def __init__(self, open_scorer: Callable[[], Scorer]) -> None:
        self._open = open_scorer
        self._scorer = open_scorer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scorer.close()

    def ask(self, rows: pa.Table, *, must: bool = False) -> Answer:
        """Its scores of the rows. Raises Unscorable where it ``must`` answer."""
        if not self._scorer.is_alive:
            self._scorer = self._open()
        try:
            scored = self._scorer.predict(rows)
        except Unscorable as problem:
            if must:
                raise
            return Answer(np.full(len(rows), np.nan), str(problem), died=not self._scorer.is_alive)
        return Answer(scored.scores, next(iter(scored.errors.values()), ""))


def _repeated(copy: _Copy, rows: pa.Table, base: FloatArray) -> Json:
    """The same rows once more, then from the last to the first, then some of them one by one."""
    backwards = np.arange(len(rows))[::-1]
    again, turned = copy.ask(rows, must=True), copy.ask(rows.take(backwards), must=True)
    singles = [copy.ask(rows.slice(row, 1), must=True).scores for row in range(min(SINGLE_ROWS, len(rows)))]
    return {
        "again": compared(base, again.scores),
        "order": compared(base, turned.scores[backwards]),
        "alone": compared(base[: len(singles)], np.concatenate(singles)),
    }


def _each_column(
    copy: _Copy, rows: pa.Table, base: FloatArray, spoil: Callable[[pa.ChunkedArray], pa.Array | None]
) -> list[Json]:
    """The rows with one column after the other spoilt. A column over which the process ended is the last one asked: it
    may have taken minutes, and decides."""
    found: list[Json] = []
    for place, name in enumerate(rows.column_names):
        values = spoil(rows.column(name))
        if values is None:
            continue
        answer = copy.ask(rows.set_column(place, name, values))
        change = np.abs(answer.scores - base)
        found.append(
            {
                "column": name,
                "rows": len(rows),
                "answered": answer.answered,
                "largest_change": float(np.nanmax(change)) if answer.answered else None,
                "said": answer.said,
                "died": answer.died,
            }
        )
        if answer.died:
            break
    return found


def _nulls(column: pa.ChunkedArray) -> pa.Array:
    return pa.nulls(len(column), column.type)


def _strange(column: pa.ChunkedArray) -> pa.Array | None:
    """A text that no row has, numbers far beyond both ends of the range; None for what has neither."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array([NEVER_SEEN] * len(column), kind)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    ends = pc.min_max(column.cast(pa.float64()))
    if not ends["min"].is_valid:
        return None
    low, high = ends["min"].as_py(), ends["max"].as_py()
    far = FAR * max(high - low, 1.0)
    beyond = np.where(np.arange(len(column)) % 2 == 0, high + far, low - far)
    return pa.array(np.rint(beyond) if pa.types.is_integer(kind) else beyond)
