"""Background work of the feature store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from audit import clock
from audit.errors import Unavailable
from features.materialize import Computed, due_slots, write
from jobs.run import Work, handler

ROWS_PER_COMMIT = 20_000
"""Small views are written together, a large one by itself: what a killed worker has to do again stays small."""
AHEAD = 2
"""Views that are computed while others are written; the engine does not hold Python's lock meanwhile."""


@handler("features.materialize_due", computes=True)
def materialize_due(work: Work) -> None:
    """Do the due slot of every served view version.

    They are committed in groups, so a worker that takes over goes on where the last one stopped. One that can not be
    computed does not keep the others from it; the job then fails with all reasons and is tried again.
    """
    slots = due_slots(now=clock.now())
    written: dict[str, int] = {}
    problems: list[str] = []
    group: list[Computed] = []
    with ThreadPoolExecutor(max_workers=AHEAD) as ahead:
        for slot, computing in [(slot, ahead.submit(slot.compute)) for slot in slots]:
            try:
                group.append(computing.result())
            except Unavailable as problem:
                problems.append(f"{slot.version}: {problem}")
            if sum(len(each.records) for each in group) >= ROWS_PER_COMMIT:
                written |= _written(group)
                group = []
    written |= _written(group)
    if problems:
        raise Unavailable("; ".join(problems))
    with work.finishing(result={"written": written}):
        pass  # every group has written its own part


def _written(group: list[Computed]) -> dict[str, int]:
    """Rows per version; one that another worker did meanwhile is not ours to report."""
    runs = write(group) if group else []
    return {str(run.view_version): run.rows for run in runs if run is not None}
