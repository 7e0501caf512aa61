"""A small stand-in for the runners of GitHub and GitLab: reads a CI file, fills it in, and runs its shell steps.

Only what our two files use: composite actions with ``if``, ``env``, ``run`` and ``actions/upload-artifact``; GitLab
jobs with ``script`` and ``artifacts``. What it does not know, it refuses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
COMPARED = re.compile(r"(\S+) (==|!=) '([^']*)'")


@dataclass
class Ended:
    """``code`` of the first step that failed, else 0; ``said`` is what all of them wrote; ``kept`` the artifacts."""

    code: int = 0
    said: str = ""
    ran: int = 0
    kept: Path = field(default_factory=Path)
    summary: str = ""


class Composite:
    """A composite action, used in a job whose checkout is ``workspace``."""

    def __init__(self, file: Path, workspace: Path, scratch: Path) -> None:
        self._action = yaml.safe_load(file.read_text())
        self._workspace, self._scratch = workspace, scratch

    def run(self, env: Mapping[str, str], **inputs: str) -> Ended:
        declared = self._action["inputs"]
        assert set(inputs) <= set(declared), f"the action has no input {set(inputs) - set(declared)}"
        assert all(not each.get("required") for each in declared.values())
        known = {f"inputs.{name}": str(inputs.get(name, each["default"])) for name, each in declared.items()}
        temp = self._scratch / "temp"
        temp.mkdir(parents=True)
        page = self._scratch / "summary.md"
        page.touch()
        known["runner.temp"] = str(temp)
        given = {**env, "RUNNER_TEMP": str(temp), "GITHUB_STEP_SUMMARY": str(page)}
        ended = Ended(kept=self._scratch / "artifacts")
        for step in self._action["runs"]["steps"]:
            if self._is_due(step.get("if", "success()"), known, ended):
                self._step(step, known, given, ended)
        ended.summary = page.read_text()
        return ended

    def _is_due(self, condition: str, known: Mapping[str, str], ended: Ended) -> bool:
        if condition == "always()":
            return True
        if ended.code:
            return False
        return any(self._holds(part.strip(), known) for part in condition.split("||"))

    @staticmethod
    def _holds(condition: str, known: Mapping[str, str]) -> bool:
        if condition == "success()":
            return True
        compared = COMPARED.fullmatch(condition)
        assert compared is not None, f"the stand-in does not understand: {condition}"
        return (known[compared[1]] == compared[3]) == (compared[2] == "==")

    def _step(self, step: Mapping[str, Any], known: Mapping[str, str], env: Mapping[str, str], ended: Ended) -> None:
        if "uses" in step:
            assert step["uses"].startswith("actions/upload-artifact@"), step["uses"]
            shutil.copytree(_filled(step["with"]["path"], known), ended.kept)
            return
        assert step["shell"] == "bash"
        assert not EXPRESSION.search(step["run"]), "what somebody types belongs into env, or it is run as code"
        own = {name: _filled(str(value), known) for name, value in step.get("env", {}).items()}
        _shell(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            self._workspace,
            {**env, **own},
            ended,
        )


def _filled(text: str, known: Mapping[str, str]) -> str:
    return EXPRESSION.sub(lambda found: known[found[1]], text)


def gitlab(file: Path, workspace: Path, scratch: Path, **variables: str) -> Ended:
    """The one job of an included file, in a checkout at ``workspace``."""
    (job,) = yaml.safe_load(file.read_text()).values()
    assert set(job) <= {"image", "stage", "script", "artifacts"}
    ended = Ended(kept=scratch / "artifacts")
    script = "\n".join(job["script"])
    _shell(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], workspace, variables, ended)
    assert job["artifacts"]["when"] == "always"
    for path in job["artifacts"]["paths"]:
        if (workspace / path).exists():
            shutil.copytree(workspace / path, ended.kept / path)
    return ended


def _shell(command: list[str], at: Path, env: Mapping[str, str], ended: Ended) -> None:
    done = subprocess.run(command, cwd=at, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True)
    ended.said += done.stdout + done.stderr
    ended.code = ended.code or done.returncode
    ended.ran += 1
