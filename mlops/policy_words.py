"""What one policy asks otherwise than another, in words for who has to agree. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gates.policy import AnyCheck, PolicyDocument
from gates.policy.difference import WHOLE, Change, in_words
from mlops import gate_words

SETTINGS = {
    "blocking": "if it does not pass",
    "at_least": "at least",
    "at_most": "at most",
    "use": "what of the interval counts",
    "confidence": "confidence",
    "not_worse_by": "may be worse by",
    "not_worse_than_overall_by": "may be worse than overall by",
    "minimum_rows": "rows needed",
    "minimum_group": "rows of a group needed",
    "minimum_positives": "real cases needed",
    "evidence_wait_hours": "hours to wait for evidence",
    "threshold": "score that counts as a yes",
    "template": "made from",
    "maximum_age_days": "may be days old",
    "require": "reports needed",
    "p50_ms": "half of answers within (ms)",
    "p95_ms": "95 % of answers within (ms)",
    "p99_ms": "99 % of answers within (ms)",
    "batch_p95_ms": "95 % of batches within (ms)",
    "ratio_to_champion": "times the champion's median",
    "null_increase": "nulls may grow by",
    "out_of_range": "may lie out of range",
    "unseen": "may be new levels",
}
SIDES = {"point": "the measured value", "lower_bound": "its lower end", "upper_bound": "its upper end"}
WORDS = {"stricter": ("more", "good"), "looser": ("less", "bad"), "neither": ("the same", "")}


@dataclass(frozen=True)
class ChangeInWords:
    """A change as a line of a table; ``word``: whether it asks for more or for less."""

    title: str
    setting: str
    before: str
    after: str
    word: str
    tone: str


def in_lines(changes: Sequence[Change], before: PolicyDocument | None, after: PolicyDocument) -> list[ChangeInWords]:
    """All changes in words, what asks for less first: that is what a second person looks for."""
    then, now = ({check.id: check for check in (each.checks if each else ())} for each in (before, after))
    lines = [_line(change, then, now) for change in sorted(changes, key=lambda each: each.direction != "looser")]
    return lines


def _line(change: Change, then: Mapping[str, AnyCheck], now: Mapping[str, AnyCheck]) -> ChangeInWords:
    title = gate_words.title(change.check) if change.check else "The policy itself"
    word, tone = WORDS[change.direction]
    if change.setting == WHOLE:
        sides = (_whole(change.before, then.get(change.check)), _whole(change.after, now.get(change.check)))
        return ChangeInWords(title, "the whole check", *sides, word, tone)
    setting = SETTINGS.get(change.setting, change.setting.replace("_", " ").replace(".", ": "))
    return ChangeInWords(
        title, setting, _value(change.setting, change.before), _value(change.setting, change.after), word, tone
    )


def _whole(told: Any, check: AnyCheck | None) -> str:
    if told is None or check is None:
        return "not asked"
    return gate_words.in_words(check) + ("" if check.blocking else " Report only.")


def _value(setting: str, value: Any) -> str:
    if setting == "blocking":
        return "stops the version" if value else "is only reported"
    if setting == "use":
        return SIDES.get(str(value), str(value))
    return in_words(value)


def loosened(stored: Sequence[Any]) -> list[str]:
    """What a policy was marked for, as sentences; ``stored`` is ``Policy.loosened``."""
    return [_loosened(each) for each in stored if isinstance(each, Mapping)]


def _loosened(each: Mapping[str, Any]) -> str:
    setting, check = str(each.get("setting", "")), str(each.get("check", ""))
    title = gate_words.title(check) if check else "The policy itself"
    before, after = each.get("before", each.get("from")), each.get("after", each.get("to"))
    if setting == WHOLE:
        return f"{title}: dropped" if after is None else f"{title}: another check"
    name = SETTINGS.get(setting, setting.replace("_", " "))
    return f"{title}: {name} {_value(setting, before)} → {_value(setting, after)}"
