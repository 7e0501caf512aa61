"""What this process remembers of the canaries it looked at, so that a look counts only what is new.

Nothing here is needed: what was not seen, was seen elsewhere or has changed is counted from the log again. A memory is
used only if every row that it has seen is still what the log begins with, in the same order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa
from django.conf import settings

from rollout.analysis import CanaryRows, CanaryState
from rollout.models import Rollout
from rollout.plan import CanaryPlan

REMEMBERED = 16
"""Canaries of which a process keeps the sums; the longest unseen is forgotten first."""
TELLING = ("request_id", "arm", "status", "score")
"""Columns that must be as they were: a row is written once, so these say whether it is the same."""

Key = tuple[str, int, str, str, str]


@dataclass(frozen=True)
class _Memory:
    state: CanaryState
    seen: pa.Table

    def fits(self, table: pa.Table) -> bool:
        n = len(self.seen)
        return len(table) >= n and bool(table.slice(0, n).equals(self.seen))


_memories: OrderedDict[Key, _Memory] = OrderedDict()
_lock = Lock()


def state_of(
    rollout: Rollout, plan: CanaryPlan, table: pa.Table, rows_of: Callable[[pa.Table], CanaryRows]
) -> CanaryState:
    """The state after all rows of ``table`` (of the log, oldest first), of which ``rows_of`` makes what is judged."""
    key = _key(rollout, plan)
    telling = table.select(TELLING)
    with _lock:
        memory = _memories.pop(key, None)
    if memory is None or not memory.fits(telling):
        memory = _Memory(CanaryState(plan), telling.slice(0, 0))
    state = memory.state
    if len(table) > len(state):
        state.see(rows_of(table.slice(len(state))))
    with _lock:
        _memories[key] = _Memory(state, telling)
        while len(_memories) > REMEMBERED:
            _memories.popitem(last=False)
    return state


def forget() -> None:
    """As if this process had been started now."""
    with _lock:
        _memories.clear()


def _key(rollout: Rollout, plan: CanaryPlan) -> Key:
    return (str(settings.DATA_ROOT), rollout.pk, rollout.salt, str(rollout.canary_since), plan.model_dump_json())
