"""The GitHub action and the GitLab include, run by a stand-in against a live portal: codes, reports, evidence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.conf import settings

from gatehouse.code import code_digest
from gates.models import Evidence
from registry.models import ModelVersion
from tests.builders import alice, registered_model
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.sdk import model_code
from tests.sdk.stand_in_runner import Composite, Ended, gitlab

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "sdk" / "ci" / "github" / "action.yml"
INCLUDE = ROOT / "sdk" / "ci" / "gitlab" / "gatehouse.yml"
MODEL = "late-arrival"
RED = "def test_red() -> None:\n    assert False\n"

pytestmark = pytest.mark.django_db(transaction=True)

Run = Callable[..., Ended]


@pytest.fixture(scope="module", autouse=True)
def _static_folder(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The live server starts once, before any test has a folder; whitenoise warns without one."""
    before, settings.STATIC_ROOT = settings.STATIC_ROOT, str(tmp_path_factory.mktemp("static"))
    yield
    settings.STATIC_ROOT = before


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return model_code.folder(tmp_path / "checkout")


@pytest.fixture
def environment(live_server: Any, tmp_path: Path) -> dict[str, str]:
    """What a job has: the portal's address, a token, and our command where pip would have put it."""
    (command := tmp_path / "bin" / "gatehouse").parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatehouse.cli "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "sdk" / "src"),
        "GATEHOUSE_URL": live_server.url,
        "GATEHOUSE_TOKEN": token(alice()),
    }


def on_github(checkout: Path, environment: dict[str, str], **inputs: str) -> Ended:
    given = {**environment, "GITHUB_SHA": "a" * 40}
    return Composite(ACTION, checkout, checkout.parent / "runner").run(given, install="", **inputs)


def on_gitlab(checkout: Path, environment: dict[str, str], **inputs: str) -> Ended:
    given = {f"GATEHOUSE_{name.upper()}": value for name, value in inputs.items()}
    fixed = {"CI_COMMIT_SHA": "a" * 40, "GATEHOUSE_INSTALL": "none"}
    return gitlab(INCLUDE, checkout, checkout.parent / "runner", **environment, **fixed, **given)


both = pytest.mark.parametrize("run", [on_github, on_gitlab])


def kept(ended: Ended) -> set[str]:
    """Names of the reports that the runner kept."""
    return {file.name for file in ended.kept.rglob("*") if file.suffix in (".xml", ".json")}


@pytest.mark.parametrize("file", [ACTION, INCLUDE])
def test_template__is_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 30


@both
def test_template__of_sound_code__submits_evidence_and_keeps_the_reports(
    run: Run, checkout: Path, environment: dict[str, str]
) -> None:
    registered_model()
    commit = model_code.committed(checkout)

    ended = run(checkout, environment)

    assert ended.code == 0, ended.said
    assert dict(Evidence.objects.values_list("kind", "verdict")) == dict.fromkeys(
        ("lint", "unit", "integration", "coverage"), "passed"
    )
    assert set(Evidence.objects.values_list("code_digest", "commit")) == {(code_digest(checkout), commit)}
    assert kept(ended) == {"lint.json", "unit.xml", "integration.xml", "coverage.json"}


@both
def test_template__of_red_code__fails_registers_nothing_and_keeps_the_reports(
    run: Run, checkout: Path, environment: dict[str, str]
) -> None:
    registered_model()
    (checkout / "tests" / "test_scorer.py").write_text(RED)
    (checkout / "gatehouse.toml").write_text('kinds = ["unit"]\n')
    (checkout / ".model.skops").write_bytes(b"weights")

    ended = run(checkout, environment, model=MODEL, artifact=".model.skops")

    assert ended.code == 1, ended.said
    assert dict(Evidence.objects.values_list("kind", "verdict"))["unit"] == "failed"
    assert not ModelVersion.objects.exists()
    assert "unit.xml" in kept(ended)


@both
def test_template__with_an_artifact__registers_it_with_its_code_and_says_who_has_to_act(
    run: Run, checkout: Path, environment: dict[str, str]
) -> None:
    registered_model()
    (checkout / ".model.skops").write_bytes(b"weights")
    (checkout / "gatehouse.toml").write_text('kinds = ["lint"]\n')
    (checkout / ".lineage.json").write_text('{"seed": 3}')

    ended = run(checkout, environment, model=MODEL, artifact=".model.skops", lineage=".lineage.json", timeout="60")

    assert ended.code == 3, ended.said
    assert "a second person confirms it" in ended.said
    version = ModelVersion.objects.get()
    assert (version.code_digest, version.commit, version.seed) == (code_digest(checkout), "a" * 40, 3)
    (gates,) = ended.kept.rglob("gates.xml")
    assert ElementTree.parse(gates).find(".//error") is not None


@both
@pytest.mark.parametrize(("version", "code"), [("1", 0), ("2", 1)])
def test_template__with_a_version__waits_and_ends_by_its_verdict(
    run: Run, version: str, code: int, checkout: Path, environment: dict[str, str]
) -> None:
    world = building.build()
    (checkout / "gatehouse.toml").write_text('kinds = ["lint"]\n')
    environment = {**environment, "GATEHOUSE_TOKEN": token(world.scientist)}

    ended = run(checkout, environment, model="delay-arrival", version=version)

    assert ended.code == code, ended.said
    (gates,) = ended.kept.rglob("gates.xml")
    cases = ElementTree.parse(gates).iter("testcase")
    assert [case.get("name") for case in cases if case.find("failure") is not None] == ["auc-floor", "gates"] * code


def test_action__in_a_subfolder_with_a_strange_name__runs_nothing_that_was_typed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    registered_model()
    strange = "a $(touch hacked) `touch hacked` folder"
    declared = 'model = "late-arrival"\nkinds = ["lint"]\n'
    model_code.folder(tmp_path / "checkout" / strange, gatehouse__dot__toml=declared)

    ended = on_github(tmp_path / "checkout", environment, path=strange)

    assert ended.code == 0, ended.said
    assert not list(tmp_path.rglob("hacked"))
    assert f"## Code of {MODEL}" in ended.summary


def test_templates__install_step__is_there_unless_all_is_installed() -> None:
    assert "python -m pip install $INSTALL" in ACTION.read_text()
    assert "python -m pip install ${GATEHOUSE_INSTALL:-gatehouse-sdk[ci]}" in INCLUDE.read_text()
