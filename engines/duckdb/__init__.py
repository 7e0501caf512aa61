"""The embedded offline engine: DuckDB reads, filters and evaluates, numpy searches (docs/feature_engine.md)."""
