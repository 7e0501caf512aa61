"""Evidence, gates, and where a version is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gatehouse.answers import Evidence, GateRun, Standing, read
from gatehouse.calls.addresses import Calls, below_model
from gatehouse.errors import NotFound, TimedOut

LONGEST_WAIT = 30.0
"""Seconds that the portal keeps one question open."""


LOOK_AGAIN = 5.0
"""Seconds between two looks at a run that somebody follows."""
UNJUDGED, RUNNING = "unjudged", "running"


@dataclass(frozen=True)
class GateLook:
    """What was seen while waiting. ``gate_run`` is there once it is measured; ``needs_person`` says who has to act
    before anything can go on, empty where time alone brings the end."""

    standing: Standing
    gate_run: GateRun | None = None
    needs_person: str = ""


class GateCalls(Calls):
    def submit_evidence(
        self,
        model: str,
        kind: str,
        report: Any,
        *,
        code_digest: str = "",
        commit: str = "",
        version: int | None = None,
        name: str = "",
    ) -> Evidence:
        """A report about exactly the code ``code_digest``: JUnit XML (``unit``, ``integration``), ruff's JSON or
        flake8's text (``lint``), coverage.py's JSON or Cobertura XML (``coverage``). The portal reads the verdict from
        it itself. A ``measurement`` is about a ``version`` instead (``post_measurement``).
        """
        body = {"kind": kind, "code_digest": code_digest, "commit": commit, "report": report}
        if version is not None:
            body["version"] = version
        if name:
            body["name"] = name
        return read(Evidence, self._wire.post(f"{below_model(model)}evidence/", body))

    def post_measurement(
        self,
        model: str,
        version: int,
        name: str,
        value: float,
        *,
        n: int | None = None,
        low: float | None = None,
        high: float | None = None,
        confidence: float | None = None,
    ) -> Evidence:
        """A number about one version that only the pipeline can measure, from ``n`` observations, with its interval.
        The policy judges it (a ``custom`` check of that name), so its own verdict is ``inconclusive``.
        """
        numbers = {"value": value, "n": n, "low": low, "high": high, "confidence": confidence}
        report = {"metric": name, **{part: number for part, number in numbers.items() if number is not None}}
        return self.submit_evidence(model, "measurement", report, version=version)

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

    def follow_gates(self, model: str, number: int, *, timeout: float = 900.0) -> Iterator[GateLook]:
        """A look every few seconds until the gates ended, a person has to act first, or the time is over."""
        until = time.monotonic() + timeout
        wait = 0.0
        while True:
            look = self._look(model, number, wait=wait)
            yield look
            left = until - time.monotonic()
            if look.standing.gates_ended or look.needs_person or left <= 0:
                return
            wait = min(LOOK_AGAIN, left)

    def _look(self, model: str, number: int, *, wait: float) -> GateLook:
        standing = self.standing(model, number, wait=wait)
        gates = standing.gates
        if gates.state == UNJUDGED and (needed := self._policy_needed(model)):
            return GateLook(standing, None, needed)
        measured = gates.gate_run is not None and (standing.gates_ended or gates.state == RUNNING)
        return GateLook(standing, self.gate_run(model, gates.gate_run or 0) if measured else None)

    def _policy_needed(self, model: str) -> str:
        """Who has to act before anything of the model is judged; empty where a policy is in force."""
        try:
            self._wire.get(f"{below_model(model)}policies/in-force/")
        except NotFound:
            rows = self._wire.pages(f"{below_model(model)}policies/")
            proposed = next((row["number"] for row in rows if row["standing"] == "waiting"), None)
            if proposed is not None:
                return f"Policy {proposed} of {model} is proposed: a second person has to confirm it."
            return f"{model} has no policy in force: one has to be proposed, and a second person confirms it."
        return ""

    def gate_run(self, model: str, id: int) -> GateRun:
        """Every check with its verdict and numbers."""
        return read(GateRun, self._wire.get(f"{below_model(model)}gate-runs/{id}/"))

    def rerun_gates(self, model: str, number: int, *, reason: str) -> GateRun:
        """Have a version judged once more."""
        body = {"version": number, "reason": reason}
        return read(GateRun, self._wire.post(f"{below_model(model)}gate-runs/", body))
