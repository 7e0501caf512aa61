"""What a code folder declares of itself: ``gatehouse.toml``, or ``[tool.gatehouse]`` of its ``pyproject.toml``.

model = "late-arrival"
kinds = ["lint", "unit"]  # default: all four
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("lint", "unit", "integration", "coverage")
FILE = "gatehouse.toml"


class ProjectError(ValueError):
    """The folder can not be checked as it is; says what would be needed."""


@dataclass(frozen=True)
class Project:
    """A folder of model code. ``model`` is empty where nothing names it; ``kinds`` are the reports to make."""

    folder: Path
    model: str = ""
    kinds: tuple[str, ...] = KINDS

    @classmethod
    def read(cls, folder: Path, *, model: str = "", kinds: Sequence[str] = ()) -> Project:
        """What the folder says; ``model`` and ``kinds`` count instead where they are given. Raises ProjectError."""
        if not folder.is_dir():
            raise ProjectError(f"There is no folder {str(folder)!r}.")
        if next(folder.rglob("*.py"), None) is None:
            raise ProjectError(f"There is no Python file in {str(folder)!r}: nothing to check.")
        where, declared = _declared(folder)
        if strange := sorted(set(declared) - {"model", "kinds"}):
            raise ProjectError(f"{where}: there is no setting {', '.join(strange)}; there are model and kinds.")
        said = declared.get("model", "")
        if not isinstance(said, str):
            raise ProjectError(f"{where}: model is the name of a registered model.")
        return cls(folder, model or said, _known(kinds or declared.get("kinds", KINDS), where))


def _declared(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """Where it stands, for messages, and what it says."""
    if (own := folder / FILE).exists():
        return FILE, _toml(own)
    shared = folder / "pyproject.toml"
    where = "[tool.gatehouse] of pyproject.toml"
    declared = _toml(shared).get("tool", {}).get("gatehouse", {}) if shared.exists() else {}
    if not isinstance(declared, Mapping):
        raise ProjectError(f"{where}: a table is needed, with model and kinds.")
    return where, declared


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ProjectError(f"{file.name} is not TOML: {problem}") from problem


def _known(kinds: Any, where: str) -> tuple[str, ...]:
    if not isinstance(kinds, list | tuple) or not kinds or (set(map(str, kinds)) - set(KINDS)):
        raise ProjectError(f"{where}: kinds is a list of some of {', '.join(KINDS)}.")
    if "coverage" in kinds and not {"unit", "integration"} & set(kinds):
        raise ProjectError(f"{where}: coverage is measured while unit or integration tests run; add one of them.")
    return tuple(kind for kind in KINDS if kind in kinds)
