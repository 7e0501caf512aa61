"""Background work of the feature store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from audit import clock
from audit.errors import Unavailable
from features import statistics
from features.materialize import Computed, due_slots, write
from jobs.run import Work, handler

ROWS_PER_COMMIT = 20_000
"""Small views are written together, a large one by itself: what a killed worker has to do again stays small."""
AHEAD = 1
"""Views that are computed while others are written; the engine itself uses every core for a large one."""


@handler("features.materialize_due", computes=True)
def materialize_due(work: Work) -> None:
    """Do the due slot of every served view version; the job fails with all reasons where some can not be computed."""
    written, problems = bring_up_to_date(now=clock.now())
    if problems:
        raise Unavailable("; ".join(problems))
    with work.finishing(result={"written": written}):
        pass  # every group has written its own part


def bring_up_to_date(*, now: datetime) -> tuple[dict[str, int], list[str]]:
    """Rows written per version, and why others could not be computed: one does not keep the others from it.

    They are committed in groups, so a worker that takes over goes on where the last one stopped.
    """
    slots = due_slots(now=now)
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
    return written | _written(group), problems


@handler("features.describe_due", computes=True)
def describe_due(work: Work) -> None:
    """Describe what the online store holds of every served view version, once a day."""
    described = statistics.describe_due(now=clock.now())
    with work.finishing(result={"described": [str(each.view_version) for each in described]}):
        pass  # each description has been written by itself


def _written(group: list[Computed]) -> dict[str, int]:
    """Rows per version; one that another worker did meanwhile is not ours to report."""
    runs = write(group) if group else []
    return {str(run.view_version): run.rows for run in runs if run is not None}
