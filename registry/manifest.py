"""The files of a version by name, digest and size, and the digest over all of them. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PATH = 200
MAX_FILES = 100
"""Beside the model itself."""
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


class PathError(ValueError):
    """A name that no file of a version can have; the message is for the user."""


@dataclass(frozen=True)
class Entry:
    """One file of a version: ``path`` relative, with '/'; ``digest`` the SHA-256 of its bytes, in hexadecimal."""

    path: str
    digest: str
    bytes: int


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 over a line ``path NUL digest NUL size LF`` per file, by path (UTF-8)."""
    lines = sorted(f"{entry.path}\0{entry.digest}\0{entry.bytes}\n" for entry in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_path(path: str) -> str:
    """The path itself. Raises PathError for one that some system, page or archive could read as another place.

    Nothing here is ever opened under this name. It is refused all the same: others will unpack what they download.
    """
    if not 0 < len(path) <= MAX_PATH:
        raise PathError(f"A path has 1 to {MAX_PATH} characters.")
    if any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for each in path):
        raise PathError("A path has no control, formatting or unassigned characters.")
    if unicodedata.normalize("NFKC", path) != path:
        raise PathError("A path is written in characters that have one form only (Unicode NFKC).")
    if set(path) & set("\\:") or path.startswith(("/", "~")):
        raise PathError("A path is relative, with '/' between its folders; no part has a '\\' or a ':'.")
    if _ESCAPE.search(path):
        raise PathError("A path is written plainly, not with % escapes.")
    if any(part in ("", ".", "..") or part != part.strip() or part.endswith(".") for part in path.split("/")):
        raise PathError("A path has no empty part, no part '.' or '..', and none that ends with a dot or a space.")
    return path
