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
* **Aggregations.** The expression of such a view yields *events*. At ``bound``, which is the floored asked time,
  a feature counts the events that happened in ``(bound - over, bound]`` and were known at ``bound``. No event in the
  longest window: every feature is null. Some there, but none in a shorter window: its count, distinct and sum are 0,
  the others null. Nulls of the aggregated column are ignored, but for ``count`` without a column.
* **Fixed point.** A sum of fractional numbers may depend neither on order nor on engine nor on algorithm, to the last
  bit. So each number ``x`` becomes the integer ``trunc(x) * 10**9 + round(1e9 * (x - trunc(x)))`` (in doubles, halves
  away from zero), the integers are summed exactly, and the sum is the double nearest to that total over 10**9. A mean
  is that double divided by the count. Numbers of 1e18 and more, infinities and NaN are left out of both, like nulls;
  other functions take them as they are (NaN the greatest, as in SQL). A sum beyond 64 bits is a ``ViewError``.
* **TTL.** A value older than ``ttl`` at the *asked* (not floored) time is null: ``t - event_timestamp > ttl``.
* **Reasons.** Asked for, ``<view>__reason`` says why a row got what it got: one of ``REASONS``.
* **Frames.** Every row of the frame comes back, in its order, duplicates included. A null key or time matches nothing.
* **Time** is UTC with microseconds; other units and zones are converted on reading, naive times are taken as UTC.

Errors::

    OfflineError
    ├── SourceError     a data source cannot be read, or lacks its declared columns
    ├── FrameError      the entity frame lacks a join key or the time column, or carries a column we would write
    └── ViewError       a view's expression cannot be evaluated or does not yield its declared columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa

FOUND = "found"  # a row of the view answers; its features may still be null
NULL_KEY = "null key"  # a join key, or the asked time, is null
UNKNOWN_ENTITY = "unknown entity"  # the view has no row of this key, or none that had arrived at ``as_of``
NOT_KNOWN_YET = "not known yet"  # it has, but none that had happened and was known then
EXPIRED = "expired"  # the newest one known then is older than the TTL, or than the longest window
REASONS = (FOUND, NULL_KEY, UNKNOWN_ENTITY, NOT_KNOWN_YET, EXPIRED)

AGGREGATES = ("count", "sum", "mean", "share", "min", "max", "last", "distinct")


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
class Aggregation:
    """One feature over a trailing window of the rows that a view's expression yields.

    * ``count``: events (``column`` None), or those with a value in ``column``; ``distinct``: different values. BIGINT.
    * ``sum``: of numbers. BIGINT of integers, DOUBLE of fractional numbers.
    * ``mean``: of numbers; ``share``: of true among the non-null of a boolean column. DOUBLE.
    * ``min``, ``max``: of anything that orders; the column's type (text by code point, false before true).
    * ``last``: the newest value by (event time, known time), of equally new ones the smallest; the column's type.
    """

    name: str
    function: str
    column: str | None
    over: timedelta

    def __post_init__(self) -> None:
        if self.function not in AGGREGATES:
            raise ValueError(f"{self.name}: {self.function!r} is no aggregation; accepted are {', '.join(AGGREGATES)}")
        if self.column is None and self.function != "count":
            raise ValueError(f"{self.name}: {self.function} needs a column")
        if self.over <= timedelta(0):
            raise ValueError(f"{self.name}: a window must be longer than nothing, not {self.over}")

    def result_type(self, column: pa.DataType | None) -> pa.DataType:
        """What it yields over a column of a stored type (BIGINT, DOUBLE, BOOLEAN, VARCHAR or TIMESTAMP in UTC).

        Raises ValueError where the function does not take such a column.
        """
        if self.function in ("count", "distinct"):
            return pa.int64()
        if self.function == "share":
            return self._accepted(column, pa.types.is_boolean(column), pa.float64())
        if self.function in ("sum", "mean"):
            whole = pa.types.is_integer(column)
            type_ = pa.int64() if whole and self.function == "sum" else pa.float64()
            return self._accepted(column, whole or pa.types.is_floating(column), type_)
        return column

    def _accepted(self, column: pa.DataType | None, is_accepted: bool, type_: pa.DataType) -> pa.DataType:
        if not is_accepted:
            wanted = "a boolean column" if self.function == "share" else "numbers"
            raise ValueError(f"{self.name}: {self.function} takes {wanted}, {self.column} is {column}")
        return type_


@dataclass(frozen=True)
class ViewSpec:
    """One immutable version of a feature view: how to compute its rows, and how they may be read.

    ``expression`` is one SELECT over the ``sources`` by name (``engines.expressions`` says what is accepted) that
    yields ``join_keys``, ``features``, ``event_timestamp`` and ``known_at``. Inside it all times are UTC ``TIMESTAMP``.

    ``lookback`` promises that a row which has happened and is known from ``k`` on (the later of its two times) depends
    only on source rows that arrived in ``(k - lookback, k]`` (zero: only on rows that arrived at ``k``). It lets an
    incremental materialization read only the newest rows. The promise covers *every* source of the view: one that
    joins a slowly changing table can not give it. ``None`` is no promise: each materialization computes the whole view.

    With ``aggregations`` the expression yields events (``join_keys``, the aggregated columns, ``event_timestamp``,
    ``known_at``), ``features`` are the names of the aggregations in their order, ``cadence`` is required and ``ttl`` is
    None: the windows say what has expired.
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
    aggregations: tuple[Aggregation, ...] = ()

    def __post_init__(self) -> None:
        if not self.aggregations:
            return
        if self.features != tuple(each.name for each in self.aggregations):
            raise ValueError(f"{self.name}: the features of a view with aggregations are their names, in their order")
        if self.cadence is None or self.ttl is not None:
            raise ValueError(f"{self.name}: a view with aggregations has a cadence, and no TTL beside its windows")

    @property
    def columns(self) -> tuple[str, ...]:
        """What the expression must yield beside keys and times: the features, or what is aggregated to them."""
        if not self.aggregations:
            return self.features
        return tuple(dict.fromkeys(each.column for each in self.aggregations if each.column is not None))

    @property
    def window(self) -> timedelta | None:
        """The longest window of a view with aggregations."""
        return max((each.over for each in self.aggregations), default=None)

    @property
    def reason_column(self) -> str:
        """The name of the column with the reasons in a joined frame."""
        return f"{self.name}__reason"

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


Progress = Callable[[int, int], None]


class OfflineEngine(Protocol):
    """What the feature store asks of an engine. ``name`` and ``version`` are stored with each training dataset."""

    name: str
    version: str

    def point_in_time(
        self,
        frame: pa.Table,
        views: Sequence[ViewSpec],
        *,
        timestamp: str,
        as_of: datetime,
        reasons: bool = False,
        progress: Progress | None = None,
    ) -> pa.Table:
        """``frame`` with one column ``<view>__<feature>`` per feature, as known at each row's ``timestamp``.

        With ``reasons`` the columns of each view are followed by ``<view>__reason``, one of ``REASONS``. ``progress``
        is called with (done, total) after each piece of work, whatever the engine takes as a piece. The total may grow
        while the join goes on; the last call has ``done == total``. It runs on the calling thread; what it raises ends
        the join.

        Raises ``FrameError``, ``SourceError``, ``ViewError`` or ``expressions.ExpressionError``.
        """

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        """The newest value per key known at ``as_of``: join keys, ``event_timestamp``, ``known_at``, features.

        Rows that have not happened at ``as_of`` are left out, as in the training join. With ``known_after`` (the
        previous materialization) and a view with a ``lookback``, only rows of which both became true (happened, known)
        in ``(known_after, as_of]`` are considered: the increment. It may hold an event older than what the online store
        has (late data), so the store must keep the newer of the two. A view without a lookback always answers in full.

        A view with aggregations answers with one row per key that has an event in its longest window at ``as_of``
        (which is then a multiple of the cadence), ``event_timestamp = known_at = as_of``. With ``known_after``, a key
        that had one then and has none now gets a row of nulls: what the online store holds is to be forgotten.
        """

    def rows(
        self, source: SourceTable, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """The source's rows that had arrived at ``as_of`` and happened in ``[since, until)``, in no promised order."""

    def freshness(self, source: SourceTable, *, as_of: datetime) -> datetime | None:
        """The newest event time that had arrived at ``as_of``; None if nothing had."""

    def profile(self, source: SourceTable, *, as_of: datetime, arrived_after: datetime | None = None) -> SourceProfile:
        """Counts, freshness and ranges of the source rows that arrived in ``(arrived_after, as_of]``."""
