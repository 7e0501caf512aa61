"""A tiny training entry point, run by the tests in the real sandbox; ``behaviour`` makes it misbehave."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import skops.io
from sklearn.linear_model import LogisticRegression


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--dataset", "--params", "--out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    params = json.loads(given.params.read_text())
    behaviour = params.get("behaviour", "")
    if behaviour == "refuse":
        print("all labels are the same", file=sys.stderr)
        return 2
    if behaviour == "sleep":
        time.sleep(params.get("seconds", 60))
    if behaviour == "hoard":
        bytearray(64 * 2**30)
    rows = pd.read_parquet(given.dataset)
    model = LogisticRegression(random_state=params["seed"]).fit(rows[params["features"]], rows[params["label"]])
    write(given.out, model, params, rows)
    return 0


def write(out: Path, model: LogisticRegression, params: dict[str, Any], rows: pd.DataFrame) -> None:
    skops.io.dump(model, out / "model.skops")
    features = params["features"][::-1] if params.get("behaviour") == "other order" else params["features"]
    reports = {
        "signature": {"inputs": [{"name": name, "type": "double"} for name in features]},
        "metrics": {"rows": len(rows), "accuracy": accuracy(model, params, rows)},
        "importance": {name: 1 / len(features) for name in features},
        "environment": {"variables": dict(os.environ), "data_root": os.listdir(params.get("look_at", "."))},
    }
    for name, content in reports.items():
        (out / f"{name}.json").write_text(json.dumps(content))
    print(f"trained on {len(rows)} rows")


def accuracy(model: LogisticRegression, params: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """With the interval that it would have if it were a share of independent rows."""
    share, n = float(model.score(rows[params["features"]], rows[params["label"]])), len(rows)
    error = 1.96 * (share * (1 - share) / n) ** 0.5
    return {"value": share, "low": max(0.0, share - error), "high": min(1.0, share + error), "n": n}


if __name__ == "__main__":
    sys.exit(main())
