"""Warm-up kits as files: recorded rows of a served form with the scores that it gave them. Pure.

A kit is a Parquet file named by the digest of the form: the model's input columns and ``SCORE``. One without rows says
in its metadata why there are none (``WHY``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engines.in_process import InProcessModel

SCORE = "kit:score"
WHY = b"gatehouse.why"
MOST_ROWS = 128
ONE_BY_ONE = 32
"""Rows that are asked alone, as most requests are; then all at once."""


@dataclass(frozen=True)
class Kit:
    """``columns`` by name, ``scores`` as recorded; ``why`` says why there are no rows."""

    columns: dict[str, list[Any]]
    scores: list[float]
    why: str = ""

    def __len__(self) -> int:
        return len(self.scores)


def place(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.parquet"


def write(path: Path, table: pa.Table, *, why: str = "") -> None:
    """Write a kit; a reader sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table.replace_schema_metadata({WHY: why.encode()} if why else None), unfinished)
    unfinished.replace(path)


def read(path: Path) -> Kit | None:
    """The kit; None when there is no such file. Raises OSError and pyarrow.ArrowInvalid."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        return None
    columns = {name: table[name].to_pylist() for name in table.column_names}
    scores = columns.pop(SCORE, [])
    why = (table.schema.metadata or {}).get(WHY, b"").decode()
    return Kit(columns, scores, why)


def replay(model: InProcessModel, kit: Kit, *, tolerance: float) -> str:
    """Ask the kit's rows, some one by one and then all at once; empty when each score is within ``tolerance`` of the
    recorded one, else what differs. The model is warm afterwards."""
    if not len(kit):
        return ""
    alone = [_alone(model, kit, row) for row in range(min(ONE_BY_ONE, len(kit)))]
    together, errors = model.scores(kit.columns, len(kit))
    for scores, said in ((alone, {}), (together.tolist(), errors)):
        problem = _apart(scores, kit.scores, said, tolerance)
        if problem:
            return problem
    return ""


def _alone(model: InProcessModel, kit: Kit, row: int) -> float:
    columns = {name: values[row : row + 1] for name, values in kit.columns.items()}
    return float(model.scores(columns, 1)[0][0])


def _apart(scores: Sequence[float], recorded: Sequence[float], errors: dict[int, str], tolerance: float) -> str:
    for row, (score, was) in enumerate(zip(scores, recorded, strict=False)):
        if math.isnan(score) or not abs(score - was) <= tolerance:
            said = f" ({errors[row]})" if row in errors else ""
            return f"Row {row} of its warm-up kit scored {was:.9g} at the gates and scores {score:.9g} here{said}."
    return ""
