"""Evidence, gates, and where a version is."""

from __future__ import annotations

import time
from typing import Any

from gatehouse.answers import Evidence, GateRun, Standing, read
from gatehouse.calls.addresses import Calls, below_model
from gatehouse.errors import TimedOut

LONGEST_WAIT = 30.0
"""Seconds that the portal keeps one question open."""


class GateCalls(Calls):
    def submit_evidence(self, model: str, kind: str, report: Any, *, code_digest: str, commit: str = "") -> Evidence:
        """A report about exactly the code ``code_digest``: JUnit XML as text (``unit``, ``integration``), ruff's JSON
        (``lint``), or an object with metric and value (``measurement``). The portal reads the verdict from it itself.
        """
        body = {"kind": kind, "code_digest": code_digest, "commit": commit, "report": report}
        return read(Evidence, self._wire.post(f"{below_model(model)}evidence/", body))

    def standing(self, model: str, number: int, *, wait: float = 0.0) -> Standing:
        """Where a version is and why; ``wait`` up to 30 seconds for its gates to end."""
        path = f"{below_model(model)}versions/{number}/standing/"
        wait = min(max(wait, 0.0), LONGEST_WAIT)
        return read(Standing, self._wire.get(path, patience=wait, wait=wait or None))

    def wait_for_gates(self, model: str, number: int, *, timeout: float = 900.0) -> Standing:
        """Wait until the gates ended, well or not (``standing.passed``). Raises TimedOut after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while True:
            standing = self.standing(model, number, wait=until - time.monotonic())
            if standing.gates_ended:
                return standing
            if time.monotonic() >= until:
                raise TimedOut(f"After {timeout:g} s: {standing.gates.message}", standing=standing)

    def gate_run(self, model: str, id: int) -> GateRun:
        """Every check with its verdict and numbers."""
        return read(GateRun, self._wire.get(f"{below_model(model)}gate-runs/{id}/"))

    def rerun_gates(self, model: str, number: int, *, reason: str) -> GateRun:
        """Have a version judged once more."""
        body = {"version": number, "reason": reason}
        return read(GateRun, self._wire.post(f"{below_model(model)}gate-runs/", body))
