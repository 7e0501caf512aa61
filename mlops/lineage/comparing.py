"""What differs between two mappings, two lock files, two sets of metrics. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.measured import shown, shown_interval

PACKAGE = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)", re.MULTILINE)
DEEPEST = 6


@dataclass(frozen=True)
class Change:
    """One value on both sides; None where a side does not have it."""

    name: str
    before: str | None
    after: str | None

    @property
    def is_same(self) -> bool:
        return self.before == self.after

    @property
    def kind(self) -> str:
        """added, removed, changed or same."""
        if self.is_same:
            return "same"
        return "added" if self.before is None else "removed" if self.after is None else "changed"


@dataclass(frozen=True)
class Measured:
    """A metric with its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __str__(self) -> str:
        return f"{shown(self.value)}{shown_interval(self.low, self.high)}"


@dataclass(frozen=True)
class MetricChange:
    """A metric on both sides. The rows behind them may differ, so intervals that lie apart are a hint, not a test:
    the gates compare two versions on the same rows."""

    name: str
    before: Measured | None
    after: Measured | None

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.after is None else self.after.value - self.before.value

    @property
    def lie_apart(self) -> bool | None:
        """Whether the intervals do not touch; None where a side has none."""
        if self.before is None or self.after is None:
            return None
        ends = (self.before.low, self.before.high, self.after.low, self.after.high)
        if any(end is None for end in ends):
            return None
        low, high, other_low, other_high = (float(end) for end in ends if end is not None)
        return high < other_low or other_high < low


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every name of either side, by name; nested objects by dotted names."""
    left, right = dict(_flat(before)), dict(_flat(after))
    return tuple(Change(name, left.get(name), right.get(name)) for name in sorted({*left, *right}))


def packages(lock: str) -> dict[str, str]:
    """Package to version, of a lock file or ``pip freeze``; names as PyPI compares them."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PACKAGE.findall(lock)}


def metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[MetricChange, ...]:
    """Every number of either side, in the order of the first that has it."""
    left, right = dict(_measured(before)), dict(_measured(after))
    return tuple(MetricChange(name, left.get(name), right.get(name)) for name in {**left, **right})


def _flat(values: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        whole = f"{path}.{name}" if path else str(name)
        if isinstance(value, Mapping) and value and depth < DEEPEST:
            yield from _flat(value, whole, depth + 1)
        else:
            yield whole, str(value)


def _measured(values: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Measured]]:
    for name, value in values.items():
        whole = f"{path}.{name}" if path else str(name)
        if isinstance(value, Mapping):
            found = _estimate(value)
            if found is not None:
                yield whole, found
            elif depth < DEEPEST:
                yield from _measured(value, whole, depth + 1)
        elif (number := _number(value)) is not None:
            yield whole, Measured(number)


def _estimate(value: Mapping[str, Any]) -> Measured | None:
    """``{estimate, low, high, n}``, as ``stats.metrics`` writes it; ``value`` is accepted for the estimate."""
    number = _number(value.get("estimate", value.get("value")))
    if number is None:
        return None
    n = _number(value.get("n"))
    return Measured(number, _number(value.get("low")), _number(value.get("high")), None if n is None else int(n))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
