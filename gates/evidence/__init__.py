"""Read the reports that a pipeline submits, and judge them ourselves: the sender's own opinion counts for nothing.

* ``unit``, ``integration``: JUnit XML, as pytest, Jest, Maven and most others write it;
* ``lint``: ruff's JSON, or text of a line per finding as flake8 and ruff print it;
* ``coverage``: coverage.py's JSON, or Cobertura XML;
* ``measurement``: ``{"metric", "value", "n", "low", "high", "confidence"}``: something only the pipeline can measure.

Reports come from outside: their size is capped, and XML with a document type (external or nested entities) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gates.evidence.coverage import read_coverage
from gates.evidence.junit import read_junit
from gates.evidence.lint import read_lint
from gates.evidence.measurement import read_measurement
from gates.evidence.report import MAXIMUM_BYTES, Report, UnreadableEvidence

__all__ = ["MAXIMUM_BYTES", "Report", "UnreadableEvidence", "read"]

_READERS: Mapping[str, Callable[[Any], Report]] = {
    "unit": read_junit,
    "integration": read_junit,
    "lint": read_lint,
    "coverage": read_coverage,
    "measurement": read_measurement,
}


def read(kind: str, payload: Any) -> Report:
    """Judge one report of ``kind``. Raises UnreadableEvidence."""
    return _READERS[kind](payload)
