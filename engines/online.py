"""The port of the online store: the newest known record of each entity in each view version, read by key.

Two implementations stand behind it: the portal's own database (``features.database_store``) and Redis
(``engines.redis_store``). What every store must do is small, so that ``features.online`` alone decides what a value
means (TTL, nulls, order of the vector):

* ``read`` answers for any number of view versions and keys in **one round trip**.
* ``write`` never lets a record replace a newer one. Newer is a later event time, then a later known time; of two equal
  in both, the one written last stays. The store itself compares, in one atomic step per record, so that backfills, late
  rows and writers at once may come in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Stored = tuple[int, bytes]
"""Event time in microseconds since 1970 UTC, and the record as ``engines.packing`` has it."""


class OnlineStoreError(Exception):
    """The store can not be reached or did not do what it was asked; the message is for the user."""


@dataclass(frozen=True)
class Records:
    """What is to be written of one view version: aligned lists, times in microseconds since 1970 UTC."""

    view: int
    keys: Sequence[str]
    events: Sequence[int]
    knowns: Sequence[int]
    packed: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.keys)


class OnlineStore(Protocol):
    """Records by (view version, entity key)."""

    name: str

    def read(self, wanted: Mapping[int, Sequence[str]]) -> Mapping[int, Mapping[str, Stored]]:
        """For each view version, what is there of the keys (each named once). Raises OnlineStoreError."""

    def write(self, records: Sequence[Records]) -> list[int]:
        """Keep each record unless a newer one is there; how many of each view were kept."""

    def contents(self, view: int, *, limit: int | None = None) -> Iterator[tuple[str, int, int, bytes]]:
        """Key, event time, known time and record of every entity of a view version (or ``limit`` of them)."""

    def forget(self, view: int) -> None:
        """Remove everything of a view version."""
