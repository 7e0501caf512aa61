"""How soon and in how much memory a crafted upload is stopped: each bomb through the inspection that uploads take.

Measured from the call to the finding, with the start of the child process; memory is the largest resident set of any
process of it. The caller is a process of its own that has imported nothing else. For comparison an honest forest of
300 trees, whose figure is not judged.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier

from benchmarks.bombs import BOMBS
from benchmarks.figures import Figure, report

REPEATS = 3
_CALLER = """
import json, resource, sys, time
from pathlib import Path
from engines.inspection import inspect
began = time.perf_counter()
finding = inspect(Path(sys.argv[1]), allowed_hosts=())
seconds = time.perf_counter() - began
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([seconds, memory, finding.load_class, finding.reason]))
"""


def measure(path: Path) -> tuple[float, float, str, str]:
    """Seconds (the least of some), MB, load class and reason."""
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", _CALLER, str(path)], capture_output=True, check=True).stdout)
        for _ in range(REPEATS)
    ]
    return min(run[0] for run in runs), max(run[1] for run in runs), runs[0][2], runs[0][3]


def honest() -> bytes:
    """A model as people upload it: 300 trees, some 10 MB."""
    rows = np.random.default_rng(0).normal(size=(2000, 8))
    labels = rows[:, 0] + np.random.default_rng(1).normal(size=2000) > 0
    content: bytes = skops.io.dumps(RandomForestClassifier(300, random_state=0).fit(rows, labels))
    return content


def main() -> int:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "artifact")
        for name, make in {**BOMBS, "honest": honest}.items():
            path.write_bytes(make())
            seconds, memory, load_class, reason = measure(path)
            print(f"{name}: {path.stat().st_size:,} bytes, {seconds:.2f} s, {memory:.0f} MB, {load_class}: {reason}")
            if name != "honest":
                if load_class != "quarantined":
                    print(f"{name} was not stopped.")
                    return 1
                label = name.replace(" ", "_").replace(":", "").replace(",", "")
                figures += [
                    Figure(f"{label}_seconds", seconds, "s", 1.0),
                    Figure(f"{label}_memory", memory, "MB", 200.0),
                ]
    return report(*figures)


if __name__ == "__main__":
    sys.exit(main())
