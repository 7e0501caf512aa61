"""Who gets the candidate: a salted hash of the entity, so that nobody flips back and forth.

The bucket of an entity never changes within a rollout, and the candidate's entities are those below the share: raising
the share keeps every entity that the candidate already answers. Another rollout has another salt, so that the same
people are not the guinea pigs each time (crc32 fails there: rollout research, 5.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_BITS = 53  # what a float64 in [0, 1) can tell apart; 64 bits would round up to 1.0


def bucket(entity: str, *, salt: str) -> float:
    """Where ``entity`` lies in [0, 1) under ``salt``: uniform, and the same on every machine and for ever."""
    digest = blake2b(f"{salt}:{entity}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / float(2**_BITS)


def buckets(entities: Iterable[str], *, salt: str) -> NDArray[np.float64]:
    """``bucket`` of each entity, in order."""
    return np.fromiter((bucket(entity, salt=salt) for entity in entities), dtype=np.float64)


def is_canary(where: NDArray[np.float64], *, share: float) -> NDArray[np.bool_]:
    """Which buckets the candidate answers at ``share`` (0 nobody, 1 everybody)."""
    return where < share


def salt_for(endpoint: str, *, version: str, gate_run: int) -> str:
    """The salt of a rollout: unrelated to that of any other rollout (16 hexadecimal digits).

    Made of names and of the ``version``'s number of gate runs, not of keys of one database: a life that is lived again
    elsewhere sends the same entities to the candidate.
    """
    return blake2b(f"{endpoint}:{version}:{gate_run}".encode(), digest_size=8).hexdigest()
