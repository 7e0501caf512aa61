"""Rollouts: how they go, and to decide about them."""

from __future__ import annotations

from gatehouse.answers import Rollout, read
from gatehouse.calls.addresses import Calls, below_model
from gatehouse.showing import Rows


class RolloutCalls(Calls):
    def rollouts(self, model: str, *, state: str | None = None) -> list[Rollout]:
        """Newest first."""
        return Rows(read(Rollout, row) for row in self._wire.pages(f"{below_model(model)}rollouts/", state=state))

    def rollout(self, id: int) -> Rollout:
        """With its newest measurements."""
        return read(Rollout, self._wire.get(f"rollouts/{id}/"))

    def pause_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/pause/", {"reason": reason}))

    def resume_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/resume/", {"reason": reason}))

    def abort_rollout(self, id: int, *, reason: str) -> Rollout:
        return read(Rollout, self._wire.post(f"rollouts/{id}/abort/", {"reason": reason}))
