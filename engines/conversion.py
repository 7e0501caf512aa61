"""A skops artifact as ONNX, and how far the two forms' answers are apart: measured in a child, believed by nobody else.

The child (``conversion_child``) is forked from the nursery that has scikit-learn, so a conversion costs a fraction of a
second of a processor and not the seconds of an import. What it sends is ONNX of unknown quality like any uploaded file:
whoever scores it checks it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from engines import nursery
from engines.skops_types import Unscorable

MEMORY_LIMIT = 3 * 2**30
TIME_LIMIT = timedelta(seconds=90)
MAX_ONNX_BYTES = 512 * 2**20


class NotConvertible(Exception):
    """The model has no equal in ONNX; the message says why."""


@dataclass(frozen=True)
class Converted:
    """An ONNX model and its parity with the original.

    ``rows`` real rows were asked of both forms, ``errors`` of them were errors in both; ``max_difference`` is the
    largest absolute difference of two scores. ``variations`` are real rows with a value taken away or replaced by one
    never seen, ``probes`` real rows with a number on a threshold of the model's trees or right beside it. Where only
    one form answered, a row counts in ``disagreements`` (of rows, variations or probes). ``worst`` are the real rows
    furthest apart, ``libraries`` the versions that made it.
    """

    content: bytes
    rows: int
    errors: int
    variations: int
    probes: int
    disagreements: int
    max_difference: float
    worst: tuple[Mapping[str, Any], ...]
    libraries: Mapping[str, str]

    def is_within(self, tolerance: float) -> bool:
        """Whether both forms may be called the same model."""
        return self.rows > self.errors and not self.disagreements and self.max_difference <= tolerance


def convert(
    path: Path,
    *,
    columns: Sequence[str],
    rows: pa.Table,
    tolerance: float,
    memory_limit: int = MEMORY_LIMIT,
    time_limit: timedelta = TIME_LIMIT,
) -> Converted:
    """Convert the skops artifact and ask both forms the same real ``rows``.

    Of several ways to convert, the first within ``tolerance`` is taken, else the nearest. Raises NotConvertible, and
    Unscorable when the original can not be scored or the child does not deliver.
    """
    order = {"role": "convert", "columns": list(columns), "memory_limit": memory_limit, "tolerance": tolerance}
    child = nursery.Child(path, shelf=nursery.FRAMES, order=order)
    try:
        table = rows.select(list(columns))
        seconds = time_limit.total_seconds()
        report, content = child.ask({"op": "convert"}, table, answer_bytes=MAX_ONNX_BYTES, seconds=seconds)
    finally:
        child.close()
    if "unscorable" in report:
        raise Unscorable(str(report["unscorable"]))
    if "not_convertible" in report:
        raise NotConvertible(str(report["not_convertible"]))
    return _read(report, bytes(content), asked=len(table))


def _read(report: Mapping[str, Any], content: bytes, *, asked: int) -> Converted:
    try:
        converted = Converted(
            content=content,
            rows=int(report["rows"]),
            errors=int(report["errors"]),
            variations=int(report["variations"]),
            probes=int(report["probes"]),
            disagreements=int(report["disagreements"]),
            max_difference=float(report["max_difference"]),
            worst=tuple(report["worst"]),
            libraries=dict(report["libraries"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unscorable("The child that converts sent no report.") from error
    if converted.rows != asked or not math.isfinite(converted.max_difference) or converted.max_difference < 0:
        raise Unscorable("The child that converts reported on other rows than it was given.")
    return converted
