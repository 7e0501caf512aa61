"""What serving as ONNX gains and what it costs: ``make bench BENCH=served_forms``.

A boosted model like the demo's (thirty columns, two of them text, nulls everywhere) is converted and asked in both
forms, in real scorer processes: the median time of a single row, the time of 5,000 rows, the conversion itself with its
parity report. Medians of ``REPEATS``, the forms in turn, so that a busy moment of the machine meets both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.figures import Figure, report
from engines import conversion, scoring
from engines.scoring import Scorer

REPEATS = 7
ROWS = 5_000
SINGLE_ROWS = 200
NUMBERS = tuple(f"number{i}" for i in range(28))
TEXTS = ("carrier", "origin")
COLUMNS = (*NUMBERS, *TEXTS)
TOLERANCE = 1e-5


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        artifact, onnx = Path(folder, "model.skops"), Path(folder, "model.onnx")
        skops.io.dump(_model(), artifact)
        table = pa.Table.from_pandas(_rows(ROWS, seed=2), preserve_index=False)
        try:
            return _compare(artifact, onnx, table)
        finally:
            scoring.shut_down()


def _compare(artifact: Path, onnx: Path, table: pa.Table) -> int:
    first = _seconds(lambda: conversion.convert(artifact, columns=COLUMNS, rows=table, tolerance=TOLERANCE))
    made = conversion.convert(artifact, columns=COLUMNS, rows=table, tolerance=TOLERANCE)
    onnx.write_bytes(made.content)
    again = [
        _seconds(lambda: conversion.convert(artifact, columns=COLUMNS, rows=table, tolerance=TOLERANCE))
        for _ in range(REPEATS)
    ]
    with (
        Scorer(artifact, load_class="skops", columns=COLUMNS) as skops_form,
        Scorer(onnx, load_class="onnx", columns=COLUMNS) as onnx_form,
    ):
        forms = {"skops": skops_form, "onnx": onnx_form}
        single = {name: [_single(form, table) for _ in range(REPEATS)] for name, form in forms.items()}
        batch: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(REPEATS):
            for name, form in forms.items():
                batch[name].append(_seconds(lambda form=form: form.predict(table)) * 1000)  # type: ignore[misc]  # bound now
    p50 = {name: float(np.median(times)) for name, times in single.items()}
    whole = {name: float(np.median(times)) for name, times in batch.items()}
    print(f"one row, median: skops {p50['skops']:.2f} ms, onnx {p50['onnx']:.2f} ms")
    print(f"{ROWS:,} rows, median: skops {whole['skops']:.0f} ms, onnx {whole['onnx']:.0f} ms")
    print(
        f"conversion with its parity report: first {first:.1f} s (imports scikit-learn), then {np.median(again):.2f} s"
    )
    print(f"parity: at most {made.max_difference:.2g} apart on {made.rows:,} rows, {made.variations} variations")
    return report(
        Figure("onnx_single_row_p50", p50["onnx"], "ms", 2.0),
        Figure("onnx_to_skops_single_row", p50["onnx"] / p50["skops"], "ratio", 0.5),
        Figure("onnx_to_skops_5k_rows", whole["onnx"] / whole["skops"], "ratio", 1.0),
        Figure("conversion", float(np.median(again)), "s", 3.0),
        Figure("onnx_max_difference", made.max_difference, "score", TOLERANCE),
    )


def _single(form: Scorer, table: pa.Table) -> float:
    """The median milliseconds of a row asked alone."""
    times = form.time_rows(table.slice(0, SINGLE_ROWS), budget=timedelta(seconds=10))
    return float(np.median(times))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rows(count: int, *, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.normal(size=count) for name in NUMBERS})
    frame = frame.mask(rng.random(frame.shape) < 0.1)
    frame["carrier"] = rng.choice([f"carrier{i}" for i in range(16)], count).astype(object)
    frame["origin"] = rng.choice(["EWR", "JFK", "LGA"], count).astype(object)
    return frame


def _model() -> Pipeline:
    frame = _rows(20_000, seed=1)
    signal = frame[list(NUMBERS[:6])].fillna(0).sum(axis=1) + (frame["origin"] == "EWR")
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    coded = ColumnTransformer([("numbers", "passthrough", list(NUMBERS)), ("texts", unknown, list(TEXTS))])
    trees = HistGradientBoostingClassifier(max_iter=200, learning_rate=0.06, min_samples_leaf=50, random_state=0)
    return make_pipeline(coded, trees).fit(frame, signal > 1)


if __name__ == "__main__":
    sys.exit(main())
