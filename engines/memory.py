"""Limits on the address space of a process that holds a model."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOADING_BYTES = 160 * 2**20
LOADING_FACTOR = 8
"""Loading may take ``LOADING_BYTES`` and this many times the artifact: a parser makes objects of text."""


def allow(extra: int) -> None:
    """Allow ``extra`` bytes of address space beyond what this process has taken; for ever."""
    if sys.platform != "linux":
        return
    limit = _taken() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def tight(artifact_bytes: int) -> Iterator[None]:
    """Little memory while a native parser reads an artifact: what it builds must be of the artifact's own order."""
    if sys.platform != "linux":
        yield
        return
    usual, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _taken() + LOADING_BYTES + LOADING_FACTOR * artifact_bytes
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (usual, most))


def _taken() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
