"""Feast's own virtual environment: made once from the hashed ``requirements.txt``, kept outside the repository.

It lies below ``GATEHOUSE_BENCH_CACHE`` (default: a folder in the system's temporary folder), under a name that says its
content, so a change of the pins makes a new one. After a change of ``requirements.in`` pin again with::

    uv pip compile benchmarks/feast_peer/requirements.in --python-version 3.11 --generate-hashes --no-annotate \
        --no-header --no-emit-index-url --output-file benchmarks/feast_peer/requirements.txt
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INTERPRETER = "python3.11"
_READY = "complete"


def cache() -> Path:
    """Where environments, generated data and answers of earlier runs are kept between runs."""
    folder = os.environ.get("GATEHOUSE_BENCH_CACHE") or str(Path(tempfile.gettempdir()) / "gatehouse-bench")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder).resolve()


def binaries() -> Path:
    """The ``bin`` folder of Feast's environment, installed if need be (minutes, network)."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache() / f"feast-{pins}"
    with (cache() / f"feast-{pins}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks may start at once
        if not (folder / _READY).exists():
            _install(folder)
    return folder / "bin"


def _install(folder: Path) -> None:
    print(f"Installing Feast into {folder} (once; a few minutes)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    interpreter = shutil.which(INTERPRETER) or sys.executable
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS)], check=True)
    (folder / _READY).touch()
