"""Which code was checked: the digest of its files, and the commit that has exactly those."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatehouse.code import code_digest

GIT_SECONDS = 30
NOT_COUNTED = (":(exclude,glob)**/.*", ":(exclude,glob)**/.*/**", ":(exclude,glob)**/__pycache__/**")
"""Hidden files and caches are no part of the digest, so they do not make it differ from the commit."""
SET_BY_CI = ("GITHUB_SHA", "CI_COMMIT_SHA")
MOST_NAMED = 5


@dataclass(frozen=True)
class Revision:
    """``commit`` is empty where there is none that has exactly this code; ``remarks`` say why, and what to mind."""

    code_digest: str
    commit: str
    remarks: tuple[str, ...] = ()


def revision_of(folder: Path, *, commit: str = "", env: Mapping[str, str] = os.environ) -> Revision:
    """The folder as it is now. ``commit`` is believed when it is given; else git is asked, or the CI's own variable."""
    digest = code_digest(folder)
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        told = next((env[name] for name in SET_BY_CI if env.get(name)), "")
        return Revision(digest, commit or told)
    remarks = _ignored(folder)
    if commit:
        return Revision(digest, commit, remarks)
    if changed := _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".", *NOT_COUNTED):
        files = [line[3:] for line in changed.splitlines()]
        why = f"Not committed: {_some(files)}. The reports are about this code, and name no commit."
        return Revision(digest, "", (why, *remarks))
    return Revision(digest, head, remarks)


def _ignored(folder: Path) -> tuple[str, ...]:
    asked = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "--", ".", *NOT_COUNTED)
    files = [
        name
        for name in _git(folder, *asked).splitlines()
        if not name.endswith((".pyc", "__pycache__/")) and not Path(name).name.startswith(".")
    ]
    if not files:
        return ()
    what = f"git ignores {_some(files)}, but the code digest does not"
    return (f"{what}: another checkout has another digest. Keep it outside, or hidden.",)


def _some(files: list[str]) -> str:
    more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return f"{', '.join(files[:MOST_NAMED])}{more}"


def _git(folder: Path, *words: str) -> str:
    """What git says, or nothing where it is missing, slow or sees no repository."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""
