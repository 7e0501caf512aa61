"""The embedded offline engine, under the name it is imported by."""

from engines.duckdb.engine import DuckDBEngine

__all__ = ["DuckDBEngine"]
