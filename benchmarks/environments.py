"""Virtual environments for other people's software, made once from hashed requirements; never the project's own.

``pins`` is a ``.txt`` of hashed requirements beside the ``.in`` it was compiled from. After a change of the ``.in``,
pin again with::

    uv pip compile X.in --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --output-file X.txt
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

INTERPRETER = "python3.11"
_READY = "complete"


def folder(pins: Path, below: Path) -> Path:
    """Where the environment of these pins lies: a change of the pins is another place."""
    return below / f"{pins.stem}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"


def is_made(pins: Path, below: Path) -> bool:
    return (folder(pins, below) / _READY).exists()


def made(pins: Path, below: Path) -> Path:
    """The ``bin`` folder of the environment, installed if need be (minutes, network)."""
    below.mkdir(parents=True, exist_ok=True)
    place = folder(pins, below)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may start at once
        if not is_made(pins, below):
            _install(pins, place)
    return place / "bin"


def _install(pins: Path, place: Path) -> None:
    print(f"Installing {pins.stem} into {place} (once; a minute or more)", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([shutil.which(INTERPRETER) or sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(pins)], check=True)
    (place / _READY).touch()
