"""The DuckDB engine against the oracle, on each of its paths: in memory, scanned natively, through Arrow, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from engines.duckdb_engine import DuckDBEngine
from tests.engines import oracle
from tests.engines.oracle import Case

PATHS: dict[str, dict[str, Any]] = {
    "resident": {},
    "scanned": {"resident_bytes": 0, "roots": ["/"]},
    "through Arrow": {"resident_bytes": 0},
    "in pieces": {"resident_bytes": 0, "roots": ["/"], "piece_bytes": 1},
}
often = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=PATHS)
def engine(request: pytest.FixtureRequest) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1, **PATHS[request.param])
    yield engine
    engine.close()


@often
@given(case=oracle.CASES)
def test_point_in_time__any_history__equals_the_oracle(engine: DuckDBEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_point_in_time(engine, tmp_path, case)


@often
@given(case=oracle.CASES)
def test_point_in_time__pruned__equals_the_oracle(engine: DuckDBEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_without_reasons(engine, tmp_path, case)


@often
@given(case=oracle.CASES)
def test_values__merged_increments__equal_the_oracle(engine: DuckDBEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_values(engine, tmp_path, case)


@often
@given(case=oracle.CASES)
def test_values__windows__equal_the_oracle(engine: DuckDBEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_window_values(engine, tmp_path, case)
