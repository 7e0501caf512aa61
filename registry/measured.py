"""Metrics as a registrant states them: a number, or a number with its interval, its rows and its dataset. Pure.

``{"auc": 0.71, "validation": {"brier": {"value": 0.12, "low": 0.11, "high": 0.13, "n": 5000, "dataset": "<digest>"}}}``

Groups may be nested. What is said is kept as it is said (``estimate`` is another word for ``value``); what contradicts
itself is refused, for a record that can not be true is worse than none. A number without an interval or without the
dataset it was measured on can be checked by nobody: it is shown as unverified.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEEPEST = 6
_VALUES = ("value", "estimate")
_LEVELS = ("confidence", "level")


class MeasureError(ValueError):
    """Metrics that can not be true. ``errors`` has the text by the metric's name, with dots between its groups."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.errors.items()))


@dataclass(frozen=True)
class Measure:
    """One number with what is said of how it was measured. ``dataset`` is a digest or a name; empty: not said."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    dataset: str = ""

    @property
    def is_verifiable(self) -> bool:
        """Whether somebody could measure it again and say if it is the same."""
        return self.low is not None and self.high is not None and bool(self.dataset)

    @property
    def missing(self) -> str:
        """What nobody said of it."""
        gaps = [("no interval", self.low is None or self.high is None), ("no dataset", not self.dataset)]
        return ", ".join(text for text, is_missing in gaps if is_missing)

    def __str__(self) -> str:
        rows = f", {self.n:,} rows" if self.n is not None else ""
        return f"{shown(self.value)}{shown_interval(self.low, self.high)}{rows}"


def shown(value: float) -> str:
    """A number for a person: a count with all its digits, else four that are significant."""
    is_count = float(value).is_integer() and abs(value) < 1e15
    return f"{int(value):,}" if is_count else f"{value:.4g}"


def shown_interval(low: float | None, high: float | None) -> str:
    """An interval behind a number; empty where an end is not known."""
    return f" [{shown(low)}, {shown(high)}]" if low is not None and high is not None else ""


def check(metrics: Mapping[str, Any]) -> None:
    """Raise MeasureError for what contradicts itself."""
    wrong = {name: text for name, said in _leaves(metrics) if (text := _problem(said))}
    if wrong:
        raise MeasureError(wrong)


def measures(metrics: Mapping[str, Any]) -> list[Measure]:
    """Every number in the metrics, by name. Texts, lists and nulls are left out: they measure nothing."""
    return [_measure(name, said) for name, said in _leaves(metrics) if _is_measure(said)]


def on_dataset(metrics: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The metrics with ``dataset`` written to each stated measure that names none."""
    return {name: _with_dataset(said, dataset) for name, said in metrics.items()}


def _with_dataset(said: Any, dataset: str) -> Any:
    if not isinstance(said, Mapping):
        return said
    if _value(said) is not None:
        return {"dataset": dataset, **said}
    return {name: _with_dataset(each, dataset) for name, each in said.items()}


def _leaves(metrics: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, said in metrics.items():
        whole = f"{path}.{name}" if path else str(name)
        if isinstance(said, Mapping) and not any(each in said for each in _VALUES) and depth < DEEPEST:
            yield from _leaves(said, whole, depth + 1)
        else:
            yield whole, said


def _is_measure(said: Any) -> bool:
    return _is_number(said) or (isinstance(said, Mapping) and _value(said) is not None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(said: Mapping[str, Any]) -> float | None:
    return next((float(said[name]) for name in _VALUES if _is_number(said.get(name))), None)


def _measure(name: str, said: Any) -> Measure:
    if not isinstance(said, Mapping):
        return Measure(name, float(said))
    number = {each: float(said[each]) if _is_number(said.get(each)) else None for each in ("low", "high")}
    rows, dataset = said.get("n"), said.get("dataset")
    return Measure(
        name,
        value=_value(said) or 0.0,
        n=rows if type(rows) is int else None,
        dataset=dataset if isinstance(dataset, str) else "",
        **number,
    )


def _problem(said: Any) -> str:
    """Why this can not be true; empty when it can."""
    if not isinstance(said, Mapping):
        return "" if not _is_number(said) or math.isfinite(said) else "The number is not finite."
    named = [name for name in (*_VALUES, "low", "high", *_LEVELS) if said.get(name) is not None]
    strange = [name for name in named if not _is_number(said[name]) or not math.isfinite(said[name])]
    if strange:
        return f"{strange[0]} must be a finite number."
    value, low, high = _value(said), said.get("low"), said.get("high")
    if value is None:
        return "" if not named else "An interval needs the value that it is about."
    if len({float(said[name]) for name in _VALUES if said.get(name) is not None}) > 1:
        return "value and estimate are two words for one number; they differ."
    if low is not None and high is not None and low > high:
        return f"The interval begins at {low} and ends before, at {high}."
    if (low is not None and value < low) or (high is not None and value > high):
        return f"The value {value} lies outside its interval [{low}, {high}]."
    if any(not 0 < said[name] < 1 for name in _LEVELS if said.get(name) is not None):
        return "The confidence is a share between 0 and 1, such as 0.95."
    return _problem_of_source(said)


def _problem_of_source(said: Mapping[str, Any]) -> str:
    rows, dataset = said.get("n"), said.get("dataset")
    if rows is not None and (type(rows) is not int or rows < 1):
        return "n is the number of rows, a whole number from 1."
    if dataset is not None and not (isinstance(dataset, str) and 0 < len(dataset) <= 200):
        return "dataset is a digest or a name."
    return ""
