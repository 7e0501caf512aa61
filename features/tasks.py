"""Background work of the feature store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from audit import clock
from audit.errors import Unavailable
from features.materialize import due, served_versions
from jobs.run import Work, handler


@handler("features.materialize_due", computes=True)
def materialize_due(work: Work) -> None:
    """Do the due slot of every served view version.

    Each version commits by itself, so a worker that takes over goes on where the last one stopped. One that can not be
    computed does not keep the others from it; the job then fails with all reasons and is tried again.
    """
    now = clock.now()
    written: dict[str, int] = {}
    problems: list[str] = []
    slots = [slot for version in served_versions() if (slot := due(version, now=now))]
    with ThreadPoolExecutor(max_workers=1) as ahead:  # the engine computes the next view while this one is written
        for slot, values in [(slot, ahead.submit(slot.compute)) for slot in slots]:
            try:
                done = slot.write(values.result())
            except Unavailable as problem:
                problems.append(f"{slot.version}: {problem}")
                continue
            if done is not None:
                written[str(slot.version)] = done.rows
    if problems:
        raise Unavailable("; ".join(problems))
    with work.finishing(result={"written": written}):
        pass  # every version has written its own part
