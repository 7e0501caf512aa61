"""Spark for the tests marked ``spark``: one session for all of them, since it takes seconds to start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engines.spark_engine import SparkEngine

# For a handful of rows, compiling a plan to Java takes longer than running it.
TINY = {"spark.sql.codegen.wholeStage": "false", "spark.sql.shuffle.partitions": "1", "spark.default.parallelism": "1"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say why a Spark test can not run here."""
    if item.get_closest_marker("spark") is None:
        return
    if find_spec("pyspark") is None:
        pytest.skip("needs PySpark: make test-spark installs it and runs this")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("needs Java 17")
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("one Spark at a time: make test-spark")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkEngine]:
    """The Spark engine."""
    from engines.spark_engine import SparkEngine

    engine = SparkEngine(settings=TINY)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def spark_without_asof_join(spark: SparkEngine) -> SparkEngine:
    """The same on a Spark that has no ASOF JOIN."""
    from engines.spark_engine import SparkEngine

    return SparkEngine(settings=TINY, asof_join=False)
