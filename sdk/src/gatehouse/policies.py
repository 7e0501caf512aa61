"""What the portal answers about policies: what a model's versions must prove, and what another policy would change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatehouse.showing import Shown, said


@dataclass(frozen=True, repr=False)
class PolicyChange(Shown):
    """A setting that is asked otherwise. ``looser``: a version may pass that did not before."""

    check: str
    setting: str
    before: Any
    after: Any
    direction: str

    def __repr__(self) -> str:
        of = f"{self.check}: " if self.check else ""
        return f"<PolicyChange {of}{self.setting} {said(self.before)} → {said(self.after)}, {self.direction}>"


@dataclass(frozen=True)
class PolicyDecision(Shown):
    """``outcome``: confirmed, declined or withdrawn."""

    outcome: str
    duty: str
    reason: str
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True)
class LoosenedAfter(Shown):
    """The run that did not pass, before a policy asked less."""

    gate_run: int
    version: int
    state: str


@dataclass(frozen=True, repr=False)
class Policy(Shown):
    """``standing``: in force, waiting (for a second person), outdated, replaced, declined or withdrawn."""

    number: int
    model: str
    standing: str
    template: str
    content_hash: str
    note: str
    created_by: str | None
    created_at: datetime
    loosened: tuple[PolicyChange, ...] = ()
    loosened_after: LoosenedAfter | None = None
    decision: PolicyDecision | None = None
    document: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Policy {self.number} of {self.model}: {self.standing}>"


@dataclass(frozen=True, repr=False)
class PolicyDifference(Shown):
    """``words`` has each of the ``changes`` in a sentence. ``against`` None: there was none before."""

    model: str
    number: int | None
    against: int | None
    changes: tuple[PolicyChange, ...]
    words: tuple[str, ...]

    @property
    def looser(self) -> bool:
        """Whether anything less is asked."""
        return any(change.direction == "looser" for change in self.changes)

    def __repr__(self) -> str:
        return f"<PolicyDifference of {self.model}: {len(self.changes)} changes>"

    def __str__(self) -> str:
        return "\n".join(self.words) or "Nothing is asked otherwise."


@dataclass(frozen=True)
class Flip(Shown):
    """A check that comes out, or counts, otherwise."""

    check: str
    was: str
    would: str


@dataclass(frozen=True, repr=False)
class Tried(Shown):
    """One version's last judged run under another policy. ``would_end`` None: it can not be told."""

    gate_run: int
    version: int
    policy: int
    ended: str
    would_end: str | None
    changed: tuple[Flip, ...]
    untold: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Tried v{self.version}: {self}>"

    def __str__(self) -> str:
        flips = [f"{each.check} {each.was or 'not asked'} → {each.would or 'not asked'}" for each in self.changed]
        flips += [f"{check} can not be told" for check in self.untold]
        outcome = self.would_end or "can not be told"
        return f"v{self.version}: {self.ended} → {outcome}" + (f" ({'; '.join(flips)})" if flips else "")


@dataclass(frozen=True, repr=False)
class PolicyDryRun(Shown):
    """What a policy would have made of the last versions, newest first, and what it asks otherwise than the one in
    force."""

    sentence: str
    differing: int
    untold: int
    rows: tuple[Tried, ...]
    difference: PolicyDifference

    def __repr__(self) -> str:
        return f"<PolicyDryRun {self.sentence}>"

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"  {row}" for row in self.rows if row.changed or row.untold)])
