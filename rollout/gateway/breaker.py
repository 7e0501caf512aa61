"""A breaker per version: consecutive failures open it, and it is asked no more. Independent of any statistics. Pure.

An open breaker lets one request through each ``RETRY_AFTER`` seconds; one success closes it. That is for champions,
which nobody can take back by themselves; a candidate with an open breaker is rolled back (``rollout.tasks``).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

CONSECUTIVE = 5
RETRY_AFTER = 10.0


@dataclass
class Breaker:
    """Counts requests, not rows: one bad batch is one failure. Times are seconds of a clock that only grows.

    ``rollout`` is the key of the rollout whose candidate it watches, None for a champion: another rollout of the same
    version begins with a closed one.
    """

    rollout: int | None = None
    failures: int = 0
    opened_at: float | None = None
    tried_at: float = 0.0
    problem: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    def lets_through(self, now: float) -> bool:
        """Whether the version may be asked: always while closed, one trial now and then while open."""
        if self.opened_at is None:
            return True
        with self._lock:
            if now - max(self.tried_at, self.opened_at) < RETRY_AFTER:
                return False
            self.tried_at = now
            return True

    def succeeded(self) -> None:
        """The version answered at least one row."""
        if self.failures or self.opened_at is not None:
            with self._lock:
                self.failures, self.opened_at, self.problem = 0, None, ""

    def failed(self, problem: str, now: float) -> bool:
        """The version answered no row; whether that opened the breaker."""
        with self._lock:
            self.failures += 1
            self.problem = problem
            if self.opened_at is None and self.failures >= CONSECUTIVE:
                self.opened_at = now
                return True
            return False

    def as_dict(self) -> dict[str, Any]:
        """For the heartbeat."""
        return {"failures": self.failures, "problem": self.problem, "rollout": self.rollout}
