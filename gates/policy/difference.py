"""What one policy asks otherwise than another: per check and setting, with the direction it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gates.policy.checks import Check
from gates.policy.directions import Direction, PerEntry, Rule, Settings
from gates.policy.document import PolicyDocument

WHOLE = "check"
"""The setting named when a check as a whole came or went."""


@dataclass(frozen=True)
class Change:
    """One setting (``check``: the id of the check, empty for the document itself) from ``before`` to ``after``.

    ``before`` and ``after`` are plain JSON; of a whole check, its rule in words. ``looser``: a version could pass that
    did not before. What is only reported stops nothing, so changing it goes neither way.
    """

    check: str
    setting: str
    before: Any
    after: Any
    direction: Direction

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.check}: " if self.check else ""
        if self.setting == WHOLE:
            told = f"new ({self.after})" if self.before is None else f"dropped ({self.before})"
        else:
            told = f"{self.setting} {in_words(self.before)} → {in_words(self.after)}"
        return f"{where}{told}" + ("" if self.direction == "neither" else f", {self.direction}")


def compare(before: PolicyDocument | None, after: PolicyDocument) -> tuple[Change, ...]:
    """All changes, in the order of the document after; dropped checks last. Without ``before`` everything is new."""
    if before is None:
        return tuple(_came(check) for check in after.checks)
    then = {check.id: check for check in before.checks}
    now = {check.id: check for check in after.checks}
    changes = list(_settings("", PolicyDocument.directions, _head(before), _head(after), counts=True))
    for check_id, check in now.items():
        changes += [_came(check)] if check_id not in then else _changed(then[check_id], check)
    changes += [_went(check) for check_id, check in then.items() if check_id not in now]
    return tuple(changes)


def loosened(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Those by which less is asked."""
    return tuple(change for change in changes if change.direction == "looser")


def in_words(value: Any) -> str:
    """A setting's value for a person."""
    if value is None:
        return "not asked"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------- parts


def _head(document: PolicyDocument) -> Settings:
    """With whether a check that blocks takes decisions: then the threshold is part of what it asks."""
    takes_decisions = any(check.takes_decisions for check in document.blocking)
    return {**document.model_dump(mode="json", exclude={"checks"}), "takes_decisions": takes_decisions}


def _came(check: Check) -> Change:
    return Change(check.id, WHOLE, None, _told(check), "stricter" if check.blocking else "neither")


def _went(check: Check) -> Change:
    return Change(check.id, WHOLE, _told(check), None, "looser" if check.blocking else "neither")


def _told(check: Check) -> str:
    kind = str(type(check).model_fields["kind"].default).replace("_", " ")
    return f"{kind}: {check.rule()}" + ("" if check.blocking else ", report only")


def _changed(before: Check, after: Check) -> Iterator[Change]:
    if type(before) is not type(after):  # another kind under the same id: what was asked is not asked any more
        yield _went(before)
        yield _came(after)
        return
    # of a check that stops nothing, before or now, only that itself is a step
    counts = before.blocking and after.blocking
    yield from _settings(
        before.id, before.directions, before.model_dump(mode="json"), after.model_dump(mode="json"), counts=counts
    )


def _settings(
    check: str,
    rules: Mapping[str, Rule | PerEntry] | Mapping[str, Rule],
    then: Settings,
    now: Settings,
    *,
    counts: bool,
) -> Iterator[Change]:
    for setting, rule in rules.items():
        was, comes = then[setting], now[setting]
        if was == comes:
            continue
        if isinstance(rule, PerEntry):
            yield from _entries(check, setting, rule.rules, was, comes, counts=counts)
        else:
            direction = rule(was, comes, then, now) if counts or setting == "blocking" else "neither"
            yield Change(check, setting, was, comes, direction)


def _entries(
    check: str, setting: str, rules: Mapping[str, Rule], was: Settings, comes: Settings, *, counts: bool
) -> Iterator[Change]:
    """A mapping from names to settings, such as the rules of columns: each entry's settings by themselves."""
    for name in dict.fromkeys((*comes, *was)):
        then, now = ({part: (of.get(name) or {}).get(part) for part in rules} for of in (was, comes))
        for change in _settings(check, rules, then, now, counts=counts):
            yield Change(check, f"{setting}.{name}.{change.setting}", change.before, change.after, change.direction)
