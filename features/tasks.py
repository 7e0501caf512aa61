"""Background work of the feature store."""

from __future__ import annotations

from audit import clock
from audit.errors import Unavailable
from features.materialize import materialize, served_versions
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
    for version in served_versions():
        try:
            done = materialize(version, now=now)
        except Unavailable as problem:
            problems.append(f"{version}: {problem}")
            continue
        if done is not None:
            written[str(version)] = done.rows
    if problems:
        raise Unavailable("; ".join(problems))
    with work.finishing(result={"written": written}):
        pass  # every version has written its own part
