"""Warm scorers, one per served form, shared by everything in this process that scores: starting one takes its time."""

from __future__ import annotations

import threading
from collections import OrderedDict

from engines.scoring import Scorer
from registry.conversion import open_scorer, served_form
from registry.models import ModelVersion
from rollout.routing import input_columns

CAPACITY = 8
"""Forms kept warm: champion and candidate of four endpoints."""

_Key = tuple[str, tuple[str, ...]]
_warm: OrderedDict[_Key, Scorer] = OrderedDict()
_lock = threading.Lock()


def scorer(version: ModelVersion) -> Scorer:
    """The version's warm scorer, started when needed; the one unused for longest makes room.

    Raises ``engines.scoring.Unscorable`` when the artifact can not be loaded.
    """
    inputs = input_columns(version)
    key = (served_form(version).digest, inputs)
    with _lock:
        found = _warm.pop(key, None)
        if found is None or not found.is_alive:
            found = open_scorer(version, columns=inputs)
        _warm[key] = found
        leaving = [_warm.popitem(last=False)[1] for _ in range(len(_warm) - CAPACITY)]
    for each in leaving:
        each.close()
    return found


def close_all() -> None:
    """End every warm scorer of this process."""
    with _lock:
        leaving = list(_warm.values())
        _warm.clear()
    for each in leaving:
        each.close()
