"""Whether all configured engines give a new meaning the same values, over a sample of its sources' newest rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from engines.conformance import Conformance, compare, narrowed, reordered, sample_of
from engines.duckdb_engine import DuckDBEngine
from engines.expressions import ExpressionError
from engines.offline import OfflineEngine, OfflineError, ViewSpec
from features.meaning import slot


def compare_engines(engines: Sequence[OfflineEngine], view: ViewSpec, *, newest: datetime) -> dict[str, Any] | None:
    """What comparing them found, as JSON keeps it: verdict, summary, cells, differing, examples; None for one engine.

    ``newest`` is the newest instant that the sources say something about. An engine that can not compute the view at
    all fails it, with its reason as the summary.
    """
    if len(engines) < 2:
        return None
    names = [f"{each.name} {each.version}" for each in engines]
    try:
        with _apart(engines) as (first, *others), tempfile.TemporaryDirectory() as folder:
            found = [_compared(first, each, view, Path(folder), newest) for each in others]
    except (OfflineError, ExpressionError) as error:
        told = {"verdict": "failed", "summary": str(error), "cells": 0, "differing": 0, "examples": []}
        return {"engines": names, **told}
    worst = max(found, key=lambda each: each.differing)
    return {
        "engines": names,
        "verdict": worst.verdict,
        "summary": worst.sentence(),
        "cells": worst.cells,
        "differing": worst.differing,
        "examples": [_example(each) for each in worst.examples],
    }


def _compared(one: OfflineEngine, other: OfflineEngine, view: ViewSpec, folder: Path, newest: datetime) -> Conformance:
    as_of = slot(newest, view.cadence) if view.aggregations else newest
    small = narrowed(view, one, folder, as_of=newest)
    sample = sample_of(small, one.values(small, as_of=as_of), as_of=as_of)
    return compare(small, [one, other], sample, as_of=as_of, second=reordered(small, folder))


@contextmanager
def _apart(engines: Sequence[OfflineEngine]) -> Iterator[list[OfflineEngine]]:
    """The engines, an embedded one for this alone: the copies of sources that it reads are not kept in memory."""
    if type(engines[0]) is not DuckDBEngine:
        yield list(engines)
        return
    with closing(DuckDBEngine(roots=engines[0].roots)) as own:
        yield [own, *engines[1:]]


def _example(difference: Any) -> dict[str, Any]:
    return {
        "question": difference.question,
        "at": {name: str(value) for name, value in difference.at.items()},
        "column": difference.column,
        "answers": list(difference.answers),
    }
