"""How a benchmark says what it found: one line per figure, against its goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value that must not exceed ``at_most``."""

    name: str
    value: float
    unit: str
    at_most: float

    @property
    def is_reached(self) -> bool:
        return self.value <= self.at_most

    def __str__(self) -> str:
        verdict = "ok" if self.is_reached else "short"
        return f"figure: {self.name} {self.value:.3g} {self.unit} (goal <= {self.at_most:g}) {verdict}"


@dataclass(frozen=True)
class Rate:
    """A measured value that must reach ``at_least``."""

    name: str
    value: float
    unit: str
    at_least: float

    @property
    def is_reached(self) -> bool:
        return self.value >= self.at_least

    def __str__(self) -> str:
        verdict = "ok" if self.is_reached else "short"
        return f"figure: {self.name} {self.value:.0f} {self.unit} (goal >= {self.at_least:.0f}) {verdict}"


def report(*figures: Figure | Rate) -> int:
    """Print them all; the exit code of the script."""
    for figure in figures:
        print(figure)
    return 0 if all(figure.is_reached for figure in figures) else 1
