"""Which offline engines answer, by the setting."""

from __future__ import annotations

from typing import Any

import pytest

from features import offline


def test_engines__by_default__are_duckdb_alone() -> None:
    assert [each.name for each in offline.engines()] == ["duckdb"]
    assert offline.engine() is offline.engines()[0]


@pytest.mark.usefixtures("spark_or_skip")
def test_engines__both_configured__the_first_answers(settings: Any) -> None:
    settings.ENGINES = ["duckdb", "spark"]
    assert [each.name for each in offline.engines()] == ["duckdb", "spark"]
    assert offline.engine().name == "duckdb"


@pytest.fixture
def spark_or_skip() -> None:
    pytest.importorskip("pyspark", reason="needs PySpark: make test-spark installs it")
