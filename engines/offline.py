"""The port of the offline engine: what a feature view is to it, and what every engine must answer.

An engine reads *what happened* (Parquet with an event time and an arrival time per row) and answers two questions:
"what was known about these entities at these instants?" (``point_in_time``, for training) and "what is the newest value
of each entity?" (``values``, for materialization to the online store). Both obey the same rules, and that sameness is
the product: a model is trained on exactly the values it will be served.

The rules (binding for every engine; ``tests/engines`` checks them against a plain-Python oracle)

* **Arrival.** A source row whose ``created_timestamp`` is after ``as_of`` does not exist. In production ``as_of`` is
  now; in a replay it is the replayed instant.
* **As known then.** A row of the view may be used at ``t`` only if it had happened (``event_timestamp <= t``) and was
  known (``known_at <= t``). There is no mode without this rule.
* **Newest wins.** Among those, the newest ``event_timestamp``; ties go to the newest ``known_at`` (a correction); rows
  equal in both are ordered by their feature values, so that the answer never depends on storage order.
* **Cadence.** The online store only holds what the last materialization put there. So an asked time is first floored to
  the view's ``cadence`` (whole multiples since 1970-01-01 UTC), as if it were read right after that materialization.
* **TTL.** A value older than ``ttl`` at the *asked* (not floored) time is null: ``t - event_timestamp > ttl``.
* **Frames.** Every row of the frame comes back, in its order, duplicates included. A null key or time matches nothing.
* **Time** is UTC with microseconds; other units and zones are converted on reading, naive times are taken as UTC.

Errors::

    OfflineError
    ├── SourceError     a data source cannot be read, or lacks its declared columns
    ├── FrameError      the entity frame lacks a join key or the time column, or carries a column we would write
    └── ViewError       a view's expression cannot be evaluated or does not yield its declared columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa


class OfflineError(Exception):
    """An offline engine refuses or cannot do what it was asked; the message is for the user."""


class SourceError(OfflineError):
    """A data source cannot be read, or lacks a declared column."""


class FrameError(OfflineError):
    """An entity frame does not fit the views it is to be joined with."""


class ViewError(OfflineError):
    """A view's expression cannot be evaluated, or its output is not what the view declares."""


@dataclass(frozen=True)
class SourceTable:
    """A data source as the engine sees it.

    ``uri`` is a Parquet file, a folder of them (read recursively) or a glob; a path or any ``pyarrow.fs`` URI.
    ``created_timestamp`` names the column with the time the row *arrived*. A source without one is taken to arrive when
    it happens (``event_timestamp``), never earlier: silence about arrival must not open a leak.
    """

    name: str
    uri: str
    event_timestamp: str
    created_timestamp: str | None = None

    @property
    def arrival(self) -> str:
        """The column that says when a row became visible."""
        return self.created_timestamp or self.event_timestamp


@dataclass(frozen=True)
class ViewSpec:
    """One immutable version of a feature view: how to compute its rows, and how they may be read.

    ``expression`` is one SELECT over the ``sources`` by name (``engines.expressions`` says what is accepted) that
    yields ``join_keys``, ``features``, ``event_timestamp`` and ``known_at``. Inside it all times are UTC ``TIMESTAMP``.

    ``lookback`` promises that a row which has happened and is known from ``k`` on (the later of its two times) depends
    only on source rows that arrived in ``(k - lookback, k]`` (zero: only on rows that arrived at ``k``). It lets an
    incremental materialization read only the newest rows. The promise covers *every* source of the view: one that
    joins a slowly changing table can not give it. ``None`` is no promise: each materialization computes the whole view.
    """

    name: str
    version: int
    join_keys: tuple[str, ...]
    features: tuple[str, ...]
    expression: str
    event_timestamp: str
    known_at: str
    ttl: timedelta | None
    cadence: timedelta | None
    sources: tuple[SourceTable, ...]
    lookback: timedelta | None = None

    def column(self, feature: str) -> str:
        """The name of a feature in a training dataset."""
        return f"{self.name}__{feature}"


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a source as visible at an instant. Text, booleans and empty columns have no minimum and maximum."""

    name: str
    type: str
    nulls: int
    distinct: int
    minimum: float | datetime | None
    maximum: float | datetime | None


@dataclass(frozen=True)
class SourceProfile:
    """What of a source had arrived in a window: how much, how fresh, and what the columns hold."""

    rows: int
    newest_event: datetime | None
    newest_arrival: datetime | None
    columns: tuple[ColumnProfile, ...]


class OfflineEngine(Protocol):
    """What the feature store asks of an engine. ``name`` and ``version`` are stored with each training dataset."""

    name: str
    version: str

    def point_in_time(self, frame: pa.Table, views: Sequence[ViewSpec], *, timestamp: str, as_of: datetime) -> pa.Table:
        """``frame`` with one column ``<view>__<feature>`` per feature, as known at each row's ``timestamp``.

        Raises ``FrameError``, ``SourceError``, ``ViewError`` or ``expressions.ExpressionError``.
        """

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        """The newest value per key known at ``as_of``: join keys, ``event_timestamp``, ``known_at``, features.

        Rows that have not happened at ``as_of`` are left out, as in the training join. With ``known_after`` (the
        previous materialization) and a view with a ``lookback``, only rows of which both became true (happened, known)
        in ``(known_after, as_of]`` are considered: the increment. It may hold an event older than what the online store
        has (late data), so the store must keep the newer of the two. A view without a lookback always answers in full.
        """

    def rows(
        self, source: SourceTable, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """The source's rows that had arrived at ``as_of`` and happened in ``[since, until)``, in no promised order."""

    def freshness(self, source: SourceTable, *, as_of: datetime) -> datetime | None:
        """The newest event time that had arrived at ``as_of``; None if nothing had."""

    def profile(self, source: SourceTable, *, as_of: datetime, arrived_after: datetime | None = None) -> SourceProfile:
        """Counts, freshness and ranges of the source rows that arrived in ``(arrived_after, as_of]``."""
