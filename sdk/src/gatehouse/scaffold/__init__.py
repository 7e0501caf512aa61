"""A folder of model code to start from: features, training entry point, tests, CI, policy. It passes as it is.

The files lie in ``template/`` with the ending ``.tmpl``; ``<<model>>``, ``<<package>>`` and the like are filled in.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

TASKS = ("binary_classification", "regression")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")
GROUP = re.compile(r"\w[\w .@+-]{0,149}")
TAKEN = frozenset({"features", "tests", "gatehouse", "numpy", "pandas", "pyarrow", "sklearn", "skops", "pytest"})

FILES: Mapping[str, str] = {
    "README.md": "README.md",
    "gatehouse.toml": "gatehouse.toml",
    "pyproject.toml": "pyproject.toml",
    "requirements.txt": "requirements.txt",
    "policy.yaml": "policy_<<task>>.yaml",
    ".gitignore": "gitignore",
    ".gitlab-ci.yml": "gitlab.yml",
    ".github/workflows/gatehouse.yml": "github.yml",
    "features/definitions.py": "definitions.py",
    "<<package>>/__init__.py": "init.py",
    "<<package>>/learner.py": "learner_<<task>>.py",
    "<<package>>/train.py": "train.py",
    "tests/conftest.py": "conftest.py",
    "tests/test_definitions.py": "test_definitions.py",
    "tests/test_learner.py": "test_learner.py",
    "tests/test_train.py": "test_train.py",
}
"""Path in the new folder to the template's name."""

LABELS = {"binary_classification": "(basket + noise > 0).astype(int)", "regression": "basket + 0.2 * noise"}
GOOD = {
    "binary_classification": 'measured["auc"]["low"] > 0.6',
    "regression": 'measured["mae"]["high"] < float(rows["label"].std())',
}


class ScaffoldError(ValueError):
    """No such folder can be made; says why, and what could be."""


def make(name: str, folder: Path, *, task: str = TASKS[0], owner: str = "data-science") -> tuple[Path, ...]:
    """Write the folder of the model ``name``; the files made. ``owner`` is the group that owns its features.

    Raises ScaffoldError for a name that the portal or Python would not take, and where something is in the way.
    """
    package = package_of(name)
    if task not in TASKS:
        raise ScaffoldError(f"There is no task {task!r}; there are {', '.join(TASKS)}.")
    if not GROUP.fullmatch(owner):
        raise ScaffoldError(f"{owner!r} is no name of a group: letters, digits, spaces and '_', '-', '.', '@', '+'.")
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise ScaffoldError(f"{str(folder)!r} is there already and not empty: nothing was written.")
    words = {
        "model": name,
        "package": package,
        "task": task,
        "owner": owner,
        "label": LABELS[task],
        "good": GOOD[task],
    }
    texts = {
        folder / _filled(path, words): _filled(_template(_filled(file, words)), words) for path, file in FILES.items()
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(texts)


def package_of(name: str) -> str:
    """The Python package of a model. Raises ScaffoldError."""
    if not NAME.fullmatch(name):
        raise ScaffoldError(f"{name!r} is no name of a model: lower-case letters, digits, '-' and '_', a letter first.")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or package in TAKEN:
        raise ScaffoldError(f"A package {package!r} would hide another of Python's: choose another name.")
    return package


def _template(name: str) -> str:
    return (resources.files(__name__) / "template" / f"{name}.tmpl").read_text(encoding="utf-8")


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"<<{word}>>", value)
    return text
