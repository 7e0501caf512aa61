"""Real children in the real sandbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engines import sandbox
from engines.sandbox import Finished

LIMIT = timedelta(seconds=20)


def python(code: str, folder: Path, **changes: Any) -> Finished:
    values: dict[str, Any] = {
        "cwd": folder,
        "time_limit": LIMIT,
        "memory_limit": 2**31,
        "env": sandbox.environment(threads=1),
        **changes,
    }
    return sandbox.run([sys.executable, "-P", "-c", code], **values)


def isolates(folder: Path) -> bool:
    return "no namespaces" not in python("", folder).output_tail


@pytest.fixture
def isolated(tmp_path: Path) -> None:
    if not isolates(tmp_path):
        pytest.skip("no namespaces on this system")


def gone(marker: str) -> bool:
    return not subprocess.run(["pgrep", "-f", marker], capture_output=True, check=False).stdout


def eventually(claim: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        if claim():
            return True
        time.sleep(0.05)
    return False


def test_run__child_that_works__gives_its_output_code_and_duration(tmp_path: Path) -> None:
    finished = python("import os, sys; print(os.getcwd()); print('oh', file=sys.stderr); sys.exit(3)", tmp_path)
    assert finished.returncode == 3
    assert f"{tmp_path}\n" in finished.output_tail
    assert "oh\n" in finished.output_tail
    assert 0 < finished.seconds < 20
    assert not finished.succeeded


def test_run__environment__is_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_DATABASE_URL", "postgres://secret@host/db")
    finished = python("import os; print(sorted(os.environ))", tmp_path, env={"PATH": "/bin", "LC_ALL": "C.UTF-8"})
    assert finished.output_tail.endswith("['LC_ALL', 'PATH']\n")


def test_run__time_limit__ends_child_and_grandchildren(tmp_path: Path) -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    sleeper = f"import time; time.sleep(60)  # {marker}"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleeper!r}]); time.sleep(60)"
    finished = python(code, tmp_path, time_limit=timedelta(seconds=1))
    assert finished.timed_out
    assert finished.seconds < 10
    assert eventually(lambda: gone(marker))


@pytest.mark.usefixtures("isolated")
def test_run__grandchild_in_a_session_of_its_own__ends_with_the_child(tmp_path: Path) -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    sleeper = f"import time; time.sleep(60)  # {marker}"
    python(
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)",
        tmp_path,
    )
    assert eventually(lambda: gone(marker))


def test_run__memory_limit__stops_the_child(tmp_path: Path) -> None:
    finished = python("bytearray(2**32)", tmp_path)
    assert finished.returncode == 1
    assert "MemoryError" in finished.output_tail


def test_run__crash__is_told_by_the_code(tmp_path: Path) -> None:
    finished = python("import ctypes; ctypes.string_at(0)", tmp_path)
    assert finished.returncode in (-signal.SIGSEGV, 128 + signal.SIGSEGV)


def test_run__much_output__keeps_its_end(tmp_path: Path) -> None:
    finished = python("print('x' * 300_000); print('the end')", tmp_path)
    assert len(finished.output_tail) <= sandbox.TAIL_BYTES
    assert finished.output_tail.endswith("the end\n")


def test_run__output_closed_early__waits_for_the_end(tmp_path: Path) -> None:
    finished = python("import os, time; os.close(1); os.close(2); time.sleep(.5); os._exit(4)", tmp_path)
    assert (finished.returncode, finished.timed_out) == (4, False)


@pytest.mark.usefixtures("isolated")
def test_run__network__is_not_there(tmp_path: Path) -> None:
    finished = python("import socket; socket.create_connection(('127.0.0.1', 80), 5)", tmp_path)
    assert "unreachable" in finished.output_tail


@pytest.mark.usefixtures("isolated")
def test_run__our_processes__are_not_seen(tmp_path: Path) -> None:
    finished = python("import os; print([name for name in os.listdir('/proc') if name.isdigit()])", tmp_path)
    assert finished.output_tail == "['1']\n"


@pytest.mark.usefixtures("isolated")
def test_run__hidden_folder__is_empty_and_can_not_be_uncovered(tmp_path: Path) -> None:
    work, secret = tmp_path / "work", tmp_path / "secret"
    for folder in (work, secret):
        folder.mkdir()
    (secret / "key").write_text("k")
    code = f"""
import ctypes, os
print(os.listdir({str(secret)!r}), ctypes.CDLL(None).umount({os.fsencode(secret)!r}), os.listdir({str(secret)!r}))
"""
    assert python(code, work, hidden=[secret]).output_tail == "[] -1 []\n"
    assert (secret / "key").read_text() == "k"


def test_run__working_in_a_hidden_folder__is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hidden"):
        python("", tmp_path / "work", hidden=[tmp_path])


def test_run__own_folder__can_be_written(tmp_path: Path) -> None:
    python("open('result', 'w').write('ok')", tmp_path)
    assert (tmp_path / "result").read_text() == "ok"


def test_run__killed_parent__takes_the_child_along(tmp_path: Path) -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    code = f"""
import sys, datetime, pathlib
from engines import sandbox
sandbox.run([sys.executable, "-c", "import time; time.sleep(60)  # {marker}"], cwd=pathlib.Path({str(tmp_path)!r}),
            time_limit=datetime.timedelta(minutes=2), memory_limit=2**31, env=sandbox.environment(threads=1))
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=sandbox.ROOT) as parent:
        inside = f"^{sys.executable} -c import time; time.sleep.60.  # {marker}$"
        assert eventually(lambda: not gone(inside))
        parent.kill()
    assert eventually(lambda: gone(inside))
