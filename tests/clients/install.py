"""Make the clients' environments: ``python -m tests.clients.install``. Each once per change of its pins."""

from __future__ import annotations

from benchmarks import environments
from tests.clients.conftest import CACHE, HERE

if __name__ == "__main__":
    for pins in sorted((HERE / "environments").glob("*.txt")):
        environments.made(pins, CACHE)
