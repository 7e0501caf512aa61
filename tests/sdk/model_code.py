"""Small folders of model code, in a state that a test names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SOUND = {
    "gatehouse.toml": 'model = "late-arrival"\n',
    "pyproject.toml": (
        '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = ["--strict-markers"]\n'
        'markers = ["integration: whole"]\nfilterwarnings = ["error"]\n'
    ),
    "scorer.py": (
        "def score(minutes: float) -> float:\n    if minutes < 0:\n        return 0.0\n    return minutes / 60\n"
    ),
    "tests/test_scorer.py": (
        "import pytest\n\nfrom scorer import score\n\n\n"
        "def test_score__an_hour__is_one() -> None:\n    assert score(60) == 1\n\n\n"
        "@pytest.mark.integration\ndef test_score__half_an_hour__is_a_half() -> None:\n    assert score(30) == 0.5\n"
    ),
}


def folder(at: Path, **changes: str | None) -> Path:
    """The sound folder with other files (a path's dots and slashes as ``__dot__`` and ``__``); None: without it."""
    files: dict[str, str | None] = dict(SOUND)
    files.update({name.replace("__dot__", ".").replace("__", "/"): text for name, text in changes.items()})
    for name, text in files.items():
        if text is not None:
            (at / name).parent.mkdir(parents=True, exist_ok=True)
            (at / name).write_text(text)
    return at


def git(at: Path, *words: str) -> str:
    """Git without anybody's own settings."""
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = {f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **nobody, **names}
    done = subprocess.run(["git", *words], cwd=at, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def committed(at: Path) -> str:
    """The folder as a repository of its own, all of it committed; the commit."""
    git(at, "init", "--quiet")
    git(at, "add", "--all")
    git(at, "commit", "--quiet", "--message", "First.")
    return git(at, "rev-parse", "HEAD")
