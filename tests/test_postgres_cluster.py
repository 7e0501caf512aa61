"""The throwaway PostgreSQL that the second run of the suite stands on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "postgres_cluster.py"

# Says where the server is, proves that it answers, then does what the test asked for.
CHILD = """
import os, sys, time
import environ, psycopg
database = environ.Env().db_url("GATEHOUSE_DATABASE_URL")
with psycopg.connect(host=database["HOST"], user=database["USER"], dbname=database["NAME"]) as connection:
    connection.execute("select 1")
print(database["HOST"], flush=True)
"""


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(SCRIPT), *command], stdout=subprocess.PIPE, text=True)


def start_with_server(ending: str) -> tuple[subprocess.Popen[str], Path]:
    """The running script and the folder of its cluster, once the child has connected; skips without a server."""
    process = start("--", sys.executable, "-c", CHILD + ending)
    assert process.stdout is not None
    folder = process.stdout.readline().strip()
    if not folder and finish(process) == 77:
        pytest.skip("no PostgreSQL server on this machine")
    return process, Path(folder)


def finish(process: subprocess.Popen[str]) -> int:
    """Its exit code, with its output closed."""
    process.communicate(timeout=60)
    return process.returncode


def server_pid(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """False for a zombie too: containers without an init leave the dead server listed."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


def test_cluster__command_ends__passes_its_exit_code_and_leaves_nothing() -> None:
    process, folder = start_with_server("sys.exit(5)")

    code = finish(process)

    assert code == 5
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_cluster__signalled__stops_the_server_and_leaves_nothing(number: signal.Signals) -> None:
    process, folder = start_with_server("time.sleep(60)")
    pid = server_pid(folder)

    process.send_signal(number)
    code = finish(process)

    assert code == 128 + number
    assert not is_running(pid)
    assert not folder.exists()


def test_cluster__no_command__explains_its_use() -> None:
    process = start("--")

    assert finish(process) == 2
