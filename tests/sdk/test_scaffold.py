"""``gatehouse new model``: a folder that passes from the start, and that the portal takes as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gatehouse import cli
from gatehouse.repository import load
from gatehouse.scaffold import FILES, TASKS, ScaffoldError, make, package_of
from gates.policy import text
from tests.builders import NOON, alice, group
from tests.sdk import portal

SDK = Path(__file__).parents[2] / "sdk"
TEMPLATES = SDK / "src" / "gatehouse" / "scaffold" / "template"


def gatehouse(at: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a person runs it."""
    left_out = ("GATEHOUSE_", "GITHUB_", "DJANGO_", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    command = [sys.executable, "-m", "gatehouse.cli", *words]
    environment["PYTHONPATH"] = str(SDK / "src")
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("task", TASKS)
def test_new_model__checked_as_it_is__passes(tmp_path: Path, task: str) -> None:
    made = gatehouse(tmp_path, "new", "model", "late-arrival", "--task", task)
    assert (made.returncode, made.stderr) == (0, "")

    done = gatehouse(tmp_path, "ci", "late-arrival", "--no-submit", "--jobs", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:5]] == [
        ["lint", "passed"],
        ["unit", "passed"],
        ["integration", "passed"],
        ["coverage", "passed"],
    ]


@pytest.mark.parametrize("task", TASKS)
def test_new_model__policy__is_one_that_the_portal_takes(tmp_path: Path, task: str) -> None:
    make("late-arrival", tmp_path / "x", task=task)

    document = text.load((tmp_path / "x" / "policy.yaml").read_text(), model="late-arrival")

    assert document.required_evidence == ("lint", "unit", "integration", "coverage")


@pytest.mark.django_db
def test_new_model__definitions__can_be_planned_and_applied(tmp_path: Path) -> None:
    make("late-arrival", tmp_path / "x", owner="delay-science")
    group("delay-science")
    order = {"customer": "c1", "amount": 12.5, "ordered_at": NOON, "recorded_at": NOON}
    (tmp_path / "sources").mkdir()
    pq.write_table(pa.Table.from_pylist([order]), tmp_path / "sources" / "late_arrival_orders.parquet")
    told = load(tmp_path / "x" / "features").definitions

    with portal.client(alice()) as client:
        plan = client.plan(told)
        applied = client.apply(told, digest=plan.digest)

    assert {change.kind for change in plan.changes if change.action == "create"} >= {"entity", "source", "view"}
    assert applied.to_do == plan.to_do


def test_new_model__ci_files__run_the_check_and_keep_the_reports(tmp_path: Path) -> None:
    make("late-arrival", at := tmp_path / "x")
    github: dict[str, Any] = yaml.safe_load((at / ".github" / "workflows" / "gatehouse.yml").read_text())
    gitlab: dict[str, Any] = yaml.safe_load((at / ".gitlab-ci.yml").read_text())
    (step,) = (each["run"] for each in github["jobs"]["ci"]["steps"] if "gatehouse ci" in each.get("run", ""))

    assert step == gitlab["gatehouse"]["script"][-1]
    for token, words in (("", "ci . --no-submit"), ("secret", "ci .")):
        shell = f'gatehouse() {{ echo "$*"; }}; {step}'
        done = subprocess.run(["bash", "-ec", shell], env={"GATEHOUSE_TOKEN": token}, capture_output=True, text=True)
        assert done.stdout == f"{words}\n"


@pytest.mark.parametrize("name", ["", "Late", "1st", "a b", "../up", "random", "tests", "class", "x" * 61])
def test_new_model__name_that_portal_or_python_would_not_take__is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError):
        make(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_new_model__strange_owner_or_task__is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="no name of a group"):
        make("fare", tmp_path / "x", owner='"; import os')
    with pytest.raises(ScaffoldError, match="no task"):
        make("fare", tmp_path / "x", task="guessing")


def test_new_model__folder_with_something_in_it__is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (at := tmp_path / "x").mkdir()
    (at / "notes.txt").write_text("mine")

    assert cli.main(["new", "model", "fare", "--path", str(at)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [each.name for each in at.iterdir()] == ["notes.txt"]


def test_package_of__hyphens__become_underscores() -> None:
    assert package_of("late-arrival") == "late_arrival"


def test_templates__each__is_used_and_filled(tmp_path: Path) -> None:
    used = {file.replace("<<task>>", task) for file in FILES.values() for task in TASKS}
    assert {each.name for each in TEMPLATES.iterdir()} == {f"{name}.tmpl" for name in used}
    made = make("fare", tmp_path / "x")
    assert not [file for file in made if "<<" in file.read_text() or "<<" in str(file)]


def test_wheel__holds_the_templates(tmp_path: Path) -> None:
    """Built without isolation, as a clean checkout would be: nothing is fetched."""
    source = tmp_path / "sdk"
    ignored = ("*.egg-info", "build", "__pycache__")
    shutil.copytree(SDK, source, ignore=shutil.ignore_patterns(*ignored))
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / done.stdout.splitlines()[-1]
    packed = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if "scaffold/template" in name}
    assert packed == {each.name for each in TEMPLATES.iterdir()}
