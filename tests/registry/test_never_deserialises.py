"""The processes of the portal read no artifact: what could build objects of one is imported by children alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

READERS = {"skops", "onnx", "onnxruntime", "skl2onnx", "xgboost", "lightgbm", "joblib", "pickle", "cloudpickle", "dill"}
APPS = ("registry", "mlops", "audit", "features", "gates", "rollout", "monitoring", "jobs")
CHILDREN = {"mlops/demo/flights/train.py"}
"""Entry points that run in a child process of their own."""


def _modules() -> list[str]:
    root = Path(settings.BASE_DIR)
    found = (path.relative_to(root).as_posix() for app in APPS for path in (root / app).rglob("*.py"))
    return sorted(path for path in found if "/tests/" not in path and path not in CHILDREN)


def _imported(path: str) -> set[str]:
    tree = ast.parse(Path(settings.BASE_DIR, path).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names}


def test_modules_of_the_apps__import_nothing_that_reads_artifacts() -> None:
    guilty = {path: readers for path in _modules() if (readers := _imported(path) & READERS)}
    assert guilty == {}


@pytest.mark.parametrize("module", ["mlops.urls", "mlops.wsgi"])
def test_web_process__once_started__has_no_reader_of_artifacts(module: str, data_root: Path) -> None:
    heavy = READERS - {"pickle", "cloudpickle"}  # Django's caches and pyarrow import them, for their own data
    code = (
        f"import django, sys; django.setup(); import {module}; "
        f"print(sorted({heavy!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env={"DJANGO_SETTINGS_MODULE": "mlops.settings", "GATEHOUSE_DATA": str(data_root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == "[]"
