"""A running gateway, and clients of other people in environments of their own (``make test-clients`` makes them).

Without its environment a client's tests are skipped; with CI=true they fail. The gateway has a database of its own, so
in the suite's second run, on PostgreSQL, there would be nothing new.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environments
from benchmarks.gateway_side import ONNX, GatewaySide

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "clients"
ROWS = [[round(0.1 * at - 0.3 * row, 2) for at in range(15)] for row in range(3)]


@dataclass(frozen=True)
class Served:
    """A gateway in front of a model of fifteen inputs, and scikit-learn's own scores of ``ROWS``."""

    address: str
    token: str
    endpoint: str
    scores: list[float]


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    with GatewaySide() as side, side.gateway() as server:
        yield Served(f"127.0.0.1:{server.port}", side.token, ONNX, [side.score(row) for row in ROWS])


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """What a client found, by its name: its script's JSON, asked for once."""
    known: dict[str, Any] = {}

    def found(client: str) -> Any:
        if client not in known:
            python = _python_of(client)
            served: Served = request.getfixturevalue("served")
            known[client] = _said(python, HERE / "inside" / f"{client}_calls.py", served)
        return known[client]

    return found


def _python_of(client: str) -> Path:
    if "GATEHOUSE_DATABASE_URL" in os.environ:
        pytest.skip("They run once, in the suite on SQLite: the gateway they ask has its own database.")
    pins = HERE / "environments" / f"{client}.txt"
    if not environments.is_made(pins, CACHE):
        missing = f"{client} IS NOT INSTALLED, SO IT WAS NOT TRIED: make test-clients"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return environments.made(pins, CACHE) / "python"


def _said(python: Path, script: Path, served: Served) -> Any:
    arguments = [served.address, served.token, served.endpoint, json.dumps(ROWS)]
    done = subprocess.run([python, "-W", "ignore", script, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
