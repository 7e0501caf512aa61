"""Which way a changed setting goes: does the policy ask for more than before, or for less?

Each kind of check declares a rule per setting (``Check.directions``), so that a loosening can be told and marked. A
rule sees the value before and after, and all settings of the check before and after. ``None``: it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["stricter", "looser", "neither"]
Settings = Mapping[str, Any]
Rule = Callable[[Any, Any, Settings, Settings], Direction]

PROOF = {"at_least": "lower_bound", "at_most": "upper_bound"}
"""The side of the interval that proves a bar; its other side is the benefit of the doubt."""


@dataclass(frozen=True)
class PerEntry:
    """The rules of a setting that is itself a mapping from names to settings."""

    rules: Mapping[str, Rule]


def higher(before: Any, after: Any, *_: Settings) -> Direction:
    """More is stricter; true is more than false."""
    return _by_rank(float("-inf") if before is None else before, float("-inf") if after is None else after)


def lower(before: Any, after: Any, *_: Settings) -> Direction:
    """Less is stricter."""
    return _by_rank(-float("inf") if before is None else -before, -float("inf") if after is None else -after)


def more(before: Any, after: Any, *_: Settings) -> Direction:
    """A list of demands; one that is gone is a loosening, whatever came instead."""
    return "looser" if set(before or ()) - set(after or ()) else _stricter_if(set(after or ()) > set(before or ()))


def fewer(before: Any, after: Any, *_: Settings) -> Direction:
    """A list of what is let be."""
    if before is None or after is None:
        return _stricter_if(after is not None) if before is None else "looser"
    return "looser" if set(after) - set(before) else _stricter_if(set(after) < set(before))


def replaced(before: Any, after: Any, *_: Settings) -> Direction:
    """What is asked about: what was asked before is asked no more."""
    return "looser" if before != after else "neither"


def neither(before: Any, after: Any, *_: Settings) -> Direction:
    """It moves no bar."""
    return "neither"


def ranked(*order: str) -> Rule:
    """Words, the laxest first."""
    return lambda before, after, *_: _by_rank(order.index(before), order.index(after))


def use_of_bar(before: Any, after: Any, then: Settings, now: Settings) -> Direction:
    """Benefit of the doubt, point, proof: by the side of the bar. A bar that changed sides tells by itself."""
    side = _side(now)
    if side != _side(then):
        return "neither"
    order = sorted(("lower_bound", "point", "upper_bound"), reverse=PROOF[side] == "lower_bound")
    return _by_rank(order.index(before), order.index(after))


def confidence_of_bar(before: Any, after: Any, then: Settings, now: Settings) -> Direction:
    """To prove more surely is harder; to be clearly short of a bar more surely is easier to avoid."""
    if then["use"] != now["use"] or now["use"] == "point":
        return "neither"
    return higher(before, after) if now["use"] == PROOF[_side(now)] else lower(before, after)


def minimum_of_groups(before: Any, after: Any, then: Settings, now: Settings) -> Direction:
    """Where small groups are only shown, a higher minimum judges fewer; where they hold it up, it asks for more."""
    only_shown = then["small_groups"] == now["small_groups"] == "shown"
    return lower(before, after) if only_shown else higher(before, after)


def batch_size(before: Any, after: Any, then: Settings, now: Settings) -> Direction:
    """Larger batches take longer, which matters where there is a limit on them; a limit that came or went is told."""
    both = then["batch_p95_ms"] is not None and now["batch_p95_ms"] is not None
    return higher(before, after) if both else "neither"


def cut(before: Any, after: Any, then: Settings, now: Settings) -> Direction:
    """Where scores become decisions: what was asked of other decisions before is asked no more."""
    return replaced(before, after) if then["takes_decisions"] else "neither"


def _side(settings: Settings) -> str:
    return "at_least" if settings["at_least"] is not None else "at_most"


def _by_rank(before: Any, after: Any) -> Direction:
    if before == after:
        return "neither"
    return _stricter_if(after > before) if after > before else "looser"


def _stricter_if(is_stricter: bool) -> Direction:
    return "stricter" if is_stricter else "neither"
