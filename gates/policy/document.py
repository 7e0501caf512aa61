"""The policy document: what a model's versions must prove, validated. Stored as JSON, never edited."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from gates.policy.checks import (
    KIND_CLASSES,
    AnyCheck,
    CiEvidenceCheck,
    CiKind,
    CustomCheck,
    Share,
    Strict,
    WrongSetting,
)
from gates.policy.directions import Rule, cut, neither

MOST_CHECKS = 100
Location = tuple[int | str, ...]


class PolicyError(ValueError):
    """A document that is no policy; ``errors`` maps the path of each wrong value to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{path}: {text}" for path, text in self.errors.items()))


class PolicyDocument(Strict):
    """All that a version must prove. ``template``: where it came from; ``threshold`` turns scores into decisions."""

    directions: ClassVar[Mapping[str, Rule]] = {
        "template": neither,  # its checks are written out in full, and require_tier refuses one of lower stakes
        "threshold": cut,
        "evidence_wait_hours": neither,  # what comes too late for a run counts in the next one, whatever is said here
    }

    template: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z-]{0,40}(@[0-9]{1,6})?)?$")] = ""
    threshold: Share = 0.5
    evidence_wait_hours: int = Field(
        default=72, ge=1, le=8760, description="Evidence that has not come by then never will."
    )
    checks: tuple[AnyCheck, ...] = Field(max_length=MOST_CHECKS)

    @model_validator(mode="after")
    def _distinct_and_blocking(self) -> Self:
        ids = [check.id for check in self.checks]
        for position, each in enumerate(ids):
            if each in ids[:position]:
                raise WrongSetting(f"check ids must be unique; {each} is there twice", "checks", position, "id")
        if not any(check.blocking for check in self.checks):
            raise WrongSetting("at least one check must be blocking: a gate that stops nothing is no gate", "checks")
        return self

    @property
    def blocking(self) -> tuple[AnyCheck, ...]:
        return tuple(check for check in self.checks if check.blocking)

    @property
    def required_evidence(self) -> tuple[CiKind, ...]:
        """Kinds of evidence that a run waits for."""
        kinds = (kind for check in self.checks if isinstance(check, CiEvidenceCheck) for kind in check.require)
        return tuple(dict.fromkeys(kinds))

    @property
    def required_measurements(self) -> tuple[str, ...]:
        """Names of the measurements about the version itself that a run waits for."""
        return tuple(dict.fromkeys(check.measurement for check in self.checks if isinstance(check, CustomCheck)))

    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON: equal documents have equal hashes."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def parse(document: Mapping[str, Any]) -> PolicyDocument:
    """The validated document; raises PolicyError, whose paths name checks by id (``checks.auc-floor.at_least``)."""
    try:
        return PolicyDocument.model_validate(document)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for wrong in wrongs(error, document):
            found.setdefault(path_of(wrong.location, document), []).append(wrong.message)
        raise PolicyError({path: " ".join(texts) for path, texts in found.items()}) from error


# ---------------------------------------------------------------------- what is wrong, and where


@dataclass(frozen=True)
class Wrong:
    """``location``: keys and positions from the document's root. ``is_the_key``: the key itself should not be there."""

    location: Location
    message: str
    is_the_key: bool = False


def wrongs(error: ValidationError, document: Any) -> Iterator[Wrong]:
    """What pydantic found wrong with a document."""
    for problem in error.errors(include_url=False):
        yield _wrong(problem, document)


def _wrong(problem: ErrorDetails, document: Any) -> Wrong:
    location, type_ = _without_kind(problem["loc"], document), problem["type"]
    if type_ == "extra_forbidden":
        return Wrong(location, _no_such(location, document), is_the_key=True)
    if type_ == "union_tag_invalid":
        kinds = ", ".join(f"'{kind}'" for kind in KIND_CLASSES)
        return Wrong((*location, "kind"), f"There is no such kind of check; there are {kinds}.")
    if type_ == "union_tag_not_found":
        return Wrong(location, f"A check needs a kind: {', '.join(KIND_CLASSES)}.")
    if type_ == "missing" or (problem["input"] is None and type_ != "value_error"):
        return Wrong(location, "This has to be given.")
    if type_ in SHAPES:
        return Wrong(location, SHAPES[type_])
    cause = problem.get("ctx", {}).get("error")
    at = cause.at if isinstance(cause, WrongSetting) else ()
    return Wrong((*location, *at), problem["msg"].removeprefix("Value error, ") + ".")


SHAPES: Mapping[str, str] = {
    "tuple_type": "A list is needed.",
    "dict_type": "A mapping is needed.",
    "model_type": "A mapping is needed.",
    "model_attributes_type": "A mapping is needed.",
}


def _no_such(location: Location, document: Any) -> str:
    """``at_leest``: There is no such setting; did you mean at_least?"""
    name = str(location[-1])
    check = _check(document, location)
    known = list(_fields(check) if len(location) == 3 else PolicyDocument.model_fields if len(location) == 1 else ())
    if hint := HINTS.get(name):
        return f"There is no such setting: {hint}."
    close = get_close_matches(name, known, n=1)
    return f"There is no such setting; did you mean {close[0]}?" if close else "There is no such setting."


HINTS: Mapping[str, str] = {
    "rule": "its settings stand in the check itself",
    "gates": "what a policy holds are checks",
    "version": "the portal numbers policies itself",
    "evidence": "what a check needs stands in the check (minimum_rows, confidence, maximum_age_days)",
    "on_undecided": "inconclusive never passes",
    "min_rows": "minimum_rows is meant",
    "warn": "a check is blocking or not",
}
"""For words that other gates have (research/monitoring.md 5.1 and 5.3)."""


def _fields(check: Any) -> tuple[str, ...]:
    kind = check.get("kind") if isinstance(check, Mapping) else None
    return tuple(KIND_CLASSES[kind].model_fields) if isinstance(kind, str) and kind in KIND_CLASSES else ()


def _check(document: Any, location: Location) -> Any:
    """The check that a location lies in, as it was given; None outside of checks."""
    if len(location) < 2 or location[0] != "checks" or not isinstance(location[1], int):
        return None
    checks = document.get("checks") if isinstance(document, Mapping) else None
    return checks[location[1]] if isinstance(checks, list | tuple) and location[1] < len(checks) else None


def _without_kind(location: Location, document: Any) -> Location:
    """pydantic puts the kind after a check's position; in the document nothing is called so."""
    check = _check(document, location)
    kind = check.get("kind") if isinstance(check, Mapping) else None
    if len(location) > 2 and kind is not None and location[2] == kind:
        return (*location[:2], *location[3:])
    return location


def path_of(location: Location, document: Any) -> str:
    """``("checks", 2, "at_leest")`` as ``checks.auc-floor.at_leest``; the root is ``document``."""
    parts = list(location)
    check = _check(document, location)
    if isinstance(check, Mapping) and isinstance(check.get("id"), str):
        parts[1] = check["id"]
    return ".".join(map(str, parts)) or "document"
