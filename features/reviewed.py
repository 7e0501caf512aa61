"""The review that was stored with a version (``features.actions.review``), read back for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from features.look_alikes import LookAlike

SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class ReviewedFeature:
    """What the change does to one feature: of how many sampled cells how many differ, with examples."""

    name: str
    cells: int
    differing: int
    examples: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0


@dataclass(frozen=True)
class Review:
    """``before`` is the version compared with ('' for none), ``problem`` why values could not be compared ('' if they
    were, or there was nothing to compare with). ``engines`` says what comparing two engines found, '' with one."""

    at: str
    before: str
    problem: str
    keys: int
    instants: int
    features: tuple[ReviewedFeature, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    look_alikes: tuple[LookAlike, ...]
    engines: str

    @property
    def cells(self) -> int:
        return sum(each.cells for each in self.features)

    @property
    def differing(self) -> int:
        return sum(each.differing for each in self.features)

    @property
    def share(self) -> float | None:
        """Share of the sampled cells that the change alters; None where none was compared."""
        return self.differing / self.cells if self.cells else None

    @property
    def headline(self) -> str:
        """What the change does to values, in one sentence."""
        if self.problem:
            return f"Values could not be compared: {self.problem}"
        if not self.before:
            return "It is the first version: there is nothing to compare its values with."
        share = self.share
        if share is None:
            return "No cell could be compared: the sources had no rows, or the versions share no feature."
        asked = f"{self.cells} cells: {self.keys} keys at {self.instants} instants"
        if not self.differing:
            return f"It alters none of the sampled cells of {self.before} ({asked})."
        return f"It alters {_percent(share)} of the sampled cells of {self.before} ({asked})."


def review_of(version: Any) -> Review | None:
    """The review kept with a ``FeatureViewVersion``; None where none was made."""
    found: Mapping[str, Any] = version.review
    if not found:
        return None
    values: Mapping[str, Any] = found.get("values") or {}
    conformance: Mapping[str, Any] = found.get("conformance") or {}
    return Review(
        at=str(found.get("at", ""))[:16].replace("T", " "),
        before=found.get("before") or "",
        problem=values.get("error", ""),
        keys=values.get("keys", 0),
        instants=len(values.get("instants", ())),
        features=tuple(_feature(name, each) for name, each in values.get("features", {}).items()),
        added=tuple(values.get("added", ())),
        removed=tuple(values.get("removed", ())),
        look_alikes=tuple(look_alikes(found)),
        engines=conformance.get("summary", ""),
    )


def look_alikes(review: Mapping[str, Any]) -> Iterable[LookAlike]:
    """The look-alikes of a stored review."""
    known = LookAlike.__dataclass_fields__
    for each in review.get("look_alikes") or ():
        yield LookAlike(**{name: value for name, value in each.items() if name in known})


def said_of(alike: LookAlike) -> str:
    """A look-alike in one line."""
    measured = f", {_percent(alike.share)} of {alike.cells} cells agree" if alike.share is not None else ""
    return f"{alike.view}.{alike.other} of {alike.owner}: {alike.why}{measured}"


def _feature(name: str, told: Mapping[str, Any]) -> ReviewedFeature:
    examples = tuple(_example(each) for each in told.get("examples", ())[:SHOWN_EXAMPLES])
    return ReviewedFeature(name, told.get("cells", 0), told.get("differing", 0), examples)


def _example(told: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{name} {value}" for name, value in told.items() if name not in ("at", "before", "after"))
    at = str(told.get("at", ""))[:16].replace("T", " ")
    return f"{keys} at {at}: {_cell(told.get('before'))} → {_cell(told.get('after'))}"


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _percent(share: float) -> str:
    return "less than 0.1 %" if 0 < share < 0.001 else f"{100 * share:.3g} %"
