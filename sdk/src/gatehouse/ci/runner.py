"""Run ruff, pytest and coverage in a code folder, each in a process of its own, and leave nothing behind in it.

What they write goes to the reports' folder: ``lint.json``, ``unit.xml``, ``integration.xml``, ``coverage.json``, and a
log of each. Integration tests are those with the marker ``integration``; unit tests are the rest. The tools take their
settings from the folder, as always (``pyproject.toml``, ``pytest.ini``, ``ruff.toml``, ``.coveragerc``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gatehouse.ci.project import Project, ProjectError
from gatehouse.ci.reports import ERROR, Reading, Result, Unreadable, read

REPORTS = {"lint": "lint.json", "unit": "unit.xml", "integration": "integration.xml", "coverage": "coverage.json"}
MARKERS = {"unit": "not integration", "integration": "integration"}
MODULES = {"lint": ("ruff",), "unit": ("pytest",), "integration": ("pytest",), "coverage": ("coverage", "pytest_cov")}
TESTS = "tests/*,*/tests/*,test_*.py,*/test_*.py,conftest.py,*/conftest.py"
"""Files that coverage leaves out: that tests run is no news."""
NOT_PASSED_ON = ("PYTEST_", "COVERAGE_", "COV_CORE_", "GATEHOUSE_TOKEN")
"""Variables of whoever calls us: the settings of another test run, and a secret that no test of a model needs."""
CODE = (".py", ".pyi", ".pyw", ".ipynb")
NOTHING_LINTED = "ruff's settings leave out every Python file here: nothing was linted, so nothing is proven"
TAIL = 12

Told = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """How the tools are run: where, with which interpreter, how long each may take, how many at once."""

    folder: Path
    reports: Path
    python: str = sys.executable
    seconds: float = 1800.0
    at_once: int = 1


def run(project: Project, bench: Bench, *, told: Told = lambda line: None) -> tuple[Result, ...]:
    """Make the project's reports. ``told`` hears of each step as it starts and ends. Raises ProjectError where a tool
    is not installed or the reports would become part of the code that they are about."""
    _require_tools(project, bench)
    _make_place(bench)
    with tempfile.TemporaryDirectory(prefix="gatehouse-ci-") as scratch:
        measured = "coverage" in project.kinds
        steps = {
            kind: partial(_step, kind, bench, Path(scratch), measured=measured)
            for kind in project.kinds
            if kind != "coverage"
        }
        with ThreadPoolExecutor(bench.at_once) as pool:
            running = [pool.submit(_announced, kind, step, told) for kind, step in steps.items()]
            results = [each.result() for each in running]
        if measured:
            results.append(_announced("coverage", partial(_coverage, bench, Path(scratch)), told))
    return tuple(results)


def _announced(kind: str, step: Callable[[], Result], told: Told) -> Result:
    told(f"{kind} …")
    result = step()
    told(f"{kind}: {result.verdict}: {result.summary} ({result.seconds:.1f} s)")
    return result


def _require_tools(project: Project, bench: Bench) -> None:
    wanted = sorted({module for kind in project.kinds for module in MODULES[kind]})
    asked = "import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    done = subprocess.run([bench.python, "-P", "-c", asked, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProjectError(f"{bench.python} is no Python that works: {done.stderr.strip()[-300:]}")
    if missing := done.stdout.split():
        names = ", ".join(name.replace("_", "-") for name in missing)
        raise ProjectError(f"{names}: not installed for {bench.python}. pip install 'gatehouse-sdk[ci]' brings it.")


def _make_place(bench: Bench) -> None:
    """An empty place for the reports; where it lies inside the code folder, it must be hidden."""
    folder, reports = bench.folder.resolve(), bench.reports.resolve()
    if reports.is_relative_to(folder) and not any(part.startswith(".") for part in reports.relative_to(folder).parts):
        raise ProjectError(
            f"Reports in {str(bench.reports)!r} would change the digest of the code that they are about: "
            "name a folder outside, or a hidden one."
        )
    new = not reports.exists()
    reports.mkdir(parents=True, exist_ok=True)
    if new:
        (reports / ".gitignore").write_text("*\n")
    for kind, name in REPORTS.items():
        (reports / name).unlink(missing_ok=True)
        (reports / f"{kind}.log").unlink(missing_ok=True)


# ---------------------------------------------------------------------- steps


def _step(kind: str, bench: Bench, scratch: Path, *, measured: bool) -> Result:
    return _lint(bench) if kind == "lint" else _tests(kind, bench, scratch, measured=measured)


def _lint(bench: Bench) -> Result:
    report = bench.reports / REPORTS["lint"]
    ruff = ["-P", "-m", "ruff", "check", "--no-cache"]
    listed = _carry_out("lint", [*ruff, "--show-files", "."], bench)
    if listed.code != 0:
        return listed.broken("lint", "ruff")
    if not _names_code(listed.log):
        return Result("lint", ERROR, NOTHING_LINTED, listed.seconds, None, listed.log)
    words = [*ruff, "--exit-zero", "--output-format", "json"]
    ended = _carry_out("lint", [*words, "--output-file", str(report.resolve()), "."], bench)
    if ended.code != 0:
        return ended.broken("lint", "ruff")
    _make_relative(report, bench.folder)
    return _result("lint", report, ended)


def _names_code(log: Path) -> bool:
    """Whether ruff listed a file of code, by its whole path on a line of its own (``pyproject.toml`` is none)."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(Path(line).is_absolute() and Path(line).suffix in CODE for line in lines)


def _make_relative(report: Path, folder: Path) -> None:
    """Ruff names files by their whole path; a report is the same on a laptop and in CI."""
    with suppress(ValueError, OSError, AttributeError, KeyError, TypeError):  # what is unreadable is told when read
        findings: list[dict[str, Any]] = json.loads(report.read_text())
        for each in findings:
            each["filename"] = os.path.relpath(each["filename"], folder.resolve())
        report.write_text(json.dumps(findings, indent=1))


def _tests(kind: str, bench: Bench, scratch: Path, *, measured: bool) -> Result:
    report = bench.reports / REPORTS[kind]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", MARKERS[kind], f"--junitxml={report.resolve()}"]
    if measured:
        words += ["--cov=.", "--cov-report=", "--cov-fail-under=0"]
    ended = _carry_out(kind, words, bench, COVERAGE_FILE=str(scratch / f"{kind}.coverage"))
    if ended.code not in (0, 1, 2, 5):  # passed, failed, could not be collected, none collected
        return ended.broken(kind, "pytest")
    result = _result(kind, report, ended)
    if ended.code in (1, 2) and result.verdict == "passed":
        return ended.broken(kind, "no test failed, but pytest")
    return result


def _coverage(bench: Bench, scratch: Path) -> Result:
    report, data = bench.reports / REPORTS["coverage"], scratch / "all.coverage"
    parts = [str(file) for file in sorted(scratch.glob("*.coverage*"))]
    if not parts:
        return Result("coverage", ERROR, "no test ran that could have covered anything", 0.0)
    words = ["-P", "-m", "coverage"]
    both = _carry_out("coverage", [*words, "combine", "--quiet", f"--data-file={data}", *parts], bench)
    if both.code != 0:
        return both.broken("coverage", "coverage combine")
    told = [f"--data-file={data}", f"--omit={TESTS}", "--fail-under=0", "--quiet", "-o", str(report.resolve())]
    ended = _carry_out("coverage", [*words, "json", *told], bench)
    return _result("coverage", report, ended) if ended.code == 0 else ended.broken("coverage", "coverage json")


def _result(kind: str, report: Path, ended: Ended) -> Result:
    try:
        reading: Reading = read(kind, report.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ended.broken(kind, "no report was written, and the tool")
    except (Unreadable, UnicodeDecodeError) as problem:
        return ended.broken(kind, f"{problem}; the tool")
    return Result(kind, reading.verdict, reading.summary, ended.seconds, report, ended.log, reading.details)


# ---------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Ended:
    """``code`` is None when it took too long."""

    code: int | None
    seconds: float
    log: Path

    def broken(self, kind: str, tool: str) -> Result:
        """The result of a tool that did not end as it should: an error, and nothing to submit."""
        how = "took too long and was ended" if self.code is None else f"ended with exit code {self.code}"
        last = tuple(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
        return Result(kind, ERROR, f"could not be checked: {tool} {how}", self.seconds, None, self.log, last)


def _carry_out(kind: str, words: Sequence[str], bench: Bench, **variables: str) -> Ended:
    """Run the interpreter with ``words`` in the folder; what it and its children say goes to the log."""
    log, began = bench.reports / f"{kind}.log", time.monotonic()
    with log.open("ab") as said:
        child = subprocess.Popen(
            [bench.python, *words],
            cwd=bench.folder,
            env=_environment(os.environ, **variables),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what the tests started ends with them
        )
        code: int | None = None
        try:
            code = child.wait(timeout=bench.seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return Ended(code, time.monotonic() - began, log)


def _environment(given: Mapping[str, str], **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if not name.startswith(NOT_PASSED_ON)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}
