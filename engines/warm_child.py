"""A child that has imported what most training code imports, and waits to be told what to be.

``python -P -m engines.warm_child`` runs inside the sandbox like any child of ``engines.sandbox``. It reads one line of
JSON from its input, ``{"module": …, "arguments": […]}``, and becomes that module; without a line it ends. Importing
scikit-learn and skops takes three seconds of a processor, which a machine that waits can spend before they are missed.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys

LIBRARIES = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.pipeline", "skops.io")


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    line = sys.stdin.readline()
    if line:
        order = json.loads(line)
        sys.argv = [order["module"], *order["arguments"]]
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
