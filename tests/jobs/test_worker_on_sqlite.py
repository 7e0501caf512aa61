"""The embedded default: a real worker, a real file, many jobs, and nobody finds the database locked."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

from tests.jobs.cluster import running_worker, wait_for, worker_environment

JOBS = 50
ASK = f"""
import django; django.setup()
from pathlib import Path
from django.conf import settings
from jobs.run import enqueue
for n in range({JOBS}):
    enqueue(("probe.computing", "probe.plain")[n % 2], key=str(n), payload={{"folder": settings.DATA_ROOT}})
"""


def outcome(path: Path) -> tuple[int, int, int]:
    """How many jobs are done, the most attempts that one took, and how many effects there are."""
    with closing(sqlite3.connect(path, timeout=20)) as database:
        done, attempts = database.execute("SELECT sum(state = 'done'), max(attempts) FROM jobs_job").fetchone()
        (effects,) = database.execute("SELECT count(*) FROM audit_event WHERE name = 'probe.worked'").fetchone()
    return done, attempts, effects


@pytest.mark.slow
def test_worker__with_fifty_jobs_on_sqlite__does_each_once_and_never_finds_it_locked(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    url = f"sqlite:///{path}"

    def python(*arguments: str) -> None:
        environment = worker_environment(tmp_path, "tests.jobs.settings", url)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    python("manage.py", "migrate", "--verbosity", "0")
    (tmp_path / "go").touch()
    with running_worker(tmp_path, environment={}, database_url=url) as worker:
        python("-c", ASK)
        wait_for(lambda: outcome(path)[0] == JOBS, "all jobs are done")
        assert outcome(path) == (JOBS, 1, JOBS)
        assert worker.stop() == 0

    log = worker.log.read_text()
    assert "locked" not in log
    assert "Traceback" not in log
