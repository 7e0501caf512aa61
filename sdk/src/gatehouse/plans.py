"""What applying definitions would do, as the portal answers it, and how it is told in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SIGNS = {"create": "+", "new version": "~", "change": "~", "publish": "^", "wait": "?", "unchanged": " "}
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class FieldChange:
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Use:
    """A model version, live or in a rollout (``role``), that takes ``service``; ``owner`` is the group to talk to."""

    service: str
    model: str
    role: str
    owner: str


@dataclass(frozen=True, repr=False)
class Change:
    """What happens to one object; ``label`` is its name afterwards. ``review`` has values, look_alikes, conformance."""

    kind: str
    name: str
    action: str
    label: str
    publishes: bool
    fields: tuple[FieldChange, ...]
    diff: str
    notes: tuple[str, ...]
    pinned_by: tuple[str, ...]
    used_by: tuple[Use, ...]
    review: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Change {self.kind} {self.label}: {self.action}>"


@dataclass(frozen=True, repr=False)
class Plan:
    """``to_do`` counts the changes that applying makes; ``digest`` is what ``Client.apply`` takes."""

    digest: str
    publish: bool
    to_do: int
    changes: tuple[Change, ...]

    def __repr__(self) -> str:
        return f"<Plan {self.digest[:12]}: {self.to_do} to do>"

    def __str__(self) -> str:
        """As ``gatehouse plan`` prints it."""
        shown = [change for change in self.changes if change.action != "unchanged" or change.notes]
        lines = [line for change in shown for line in _told(change)]
        return "\n".join([*lines, *([""] if lines else []), self.summary])

    @property
    def summary(self) -> str:
        """One line: how many objects of each action."""
        counted = {action: sum(1 for each in self.changes if each.action == action) for action in SIGNS}
        said = ", ".join(f"{count} {_PLURAL[action]}" for action, count in counted.items() if count)
        return f"Plan: {said}." if self.to_do else f"Nothing to do: {said}."


_PLURAL = {
    "create": "to create",
    "new version": "to get a new version",
    "change": "to change in words",
    "publish": "to publish",
    "wait": "waiting",
    "unchanged": "unchanged",
}


def _told(change: Change) -> Iterator[str]:
    published = ", published" if change.publishes else ", a draft" if change.kind == "view" and _is_new(change) else ""
    what = f"{change.action} {change.label}" if change.label != change.name else change.action
    yield f"  {SIGNS[change.action]} {change.kind} {change.name}: {what}{published}"
    for each in change.fields:
        yield (
            f"      {each.field}: {each.before} -> {each.after}" if each.before else f"      {each.field}: {each.after}"
        )
    for line in change.diff.splitlines():
        yield f"        {line}"
    yield from _values(change.review)
    yield from _concerned(change)
    for alike in change.review.get("look_alikes") or ():
        agreeing = f", {_percent(alike['share'])} of {alike['cells']} cells agree" if alike["share"] is not None else ""
        yield (
            f"      ! {alike['feature']} looks like {alike['view']}.{alike['other']} of {alike['owner']} "
            f"({alike['why']}{agreeing})"
        )
    conformance = change.review.get("conformance")
    if conformance:
        yield f"      engines: {conformance['summary']}"
    for note in change.notes:
        yield f"      {note}"


def _is_new(change: Change) -> bool:
    return change.action in ("create", "new version")


def _values(review: Mapping[str, Any]) -> Iterator[str]:
    """What the change does to values; of a first version there is nothing to say."""
    values = review.get("values")
    if not values:
        return
    if "error" in values:
        yield f"      values: could not be compared: {values['error']}"
        return
    if values["share"] is None:
        yield "      values: could not be compared: the sources have no rows yet"
        return
    asked = f"{values['cells']} sampled cells ({values['keys']} keys, {len(values['instants'])} instants)"
    yield f"      values: {_percent(values['share'])} of {asked} change against {review['before']}"
    for name, each in values["features"].items():
        if each["differing"]:
            yield f"        {name}: {_percent(each['share'])}, such as {_example(each['examples'])}"


def _example(examples: list[Mapping[str, Any]]) -> str:
    one = examples[0]
    keys = ", ".join(f"{name} {value}" for name, value in one.items() if name not in ("at", "before", "after"))
    return f"{keys} at {str(one['at'])[:16]}: {one['before']} -> {one['after']}"


def _concerned(change: Change) -> Iterator[str]:
    if change.pinned_by:
        yield f"      {change.review.get('before', 'the version in force')} is pinned by {', '.join(change.pinned_by)}"
    for use in change.used_by:
        yield f"      used by {use.model} ({use.role}, through {use.service}) of {use.owner}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
