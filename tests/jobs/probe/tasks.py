"""Work that says that it has started and waits for leave to end: ``folder/started-<attempt>`` and ``folder/go``."""

from __future__ import annotations

import os
from pathlib import Path
from time import sleep

from audit.trail import Service, record
from jobs.run import Work, handler

ME = Service("probe")


@handler("probe.computing", computes=True)
def compute(work: Work) -> None:
    _wait(work)
    with work.finishing(result={"attempt": work.job.attempts}):
        _leave_one_effect(work)


@handler("probe.plain")
def plain(work: Work) -> None:
    _leave_one_effect(work)
    _wait(work)


def _wait(work: Work) -> None:
    folder = Path(work.payload["folder"])
    (folder / f"started-{work.job.attempts}").write_text(str(os.getpid()))
    while not (folder / "go").exists():
        sleep(0.05)


def _leave_one_effect(work: Work) -> None:
    record("probe.worked", work.job, actor=ME, data={"attempt": work.job.attempts})
