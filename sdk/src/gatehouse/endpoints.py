"""What the portal answers about decision points: who serves them, and what their product owners decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatehouse.showing import Shown

MINUTE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class DecisionOutcome(Shown):
    """``outcome``: carried_out, withdrawn (by ``decided_by``) or refused (``note`` says why)."""

    outcome: str
    note: str
    decided_by: str | None
    at: datetime


@dataclass(frozen=True, repr=False)
class Decision(Shown):
    """What a product owner decided: serve, stop (the kill switch), resume, pause or continue; at once, or for later."""

    id: int
    endpoint: str
    kind: str
    model: str
    fallback: str | None
    note: str
    decided_by: str
    decided_at: datetime
    takes_effect_at: datetime | None
    is_waiting: bool
    outcome: DecisionOutcome | None = None

    def __repr__(self) -> str:
        return f"<Decision {self}>"

    def __str__(self) -> str:
        to = f" to {self.fallback}" if self.fallback else ""
        when = f" for {self.takes_effect_at:{MINUTE}}" if self.takes_effect_at else ""
        became = f", {self.outcome.outcome.replace('_', ' ')}" if self.outcome else ""
        waits = ", waits" if self.is_waiting else ""
        said = f"by {self.decided_by} at {self.decided_at:{MINUTE}}: {self.note}"
        return f"{self.id} {self.kind}{to}{when}{became}{waits}, {said}"


@dataclass(frozen=True, repr=False)
class Fallback(Shown):
    """What may answer everybody while the kill switch is pulled: a fixed ``score``, or an earlier ``version``."""

    endpoint: str
    name: str
    score: float | None
    version: int | None
    note: str
    created_at: datetime
    retired_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Fallback {self}>"

    def __str__(self) -> str:
        answers = f"v{self.version}" if self.version is not None else f"{self.score:g}"
        return f"{self.name}: {answers}{', retired' if self.retired_at else ''}, {self.note}"


@dataclass(frozen=True, repr=False)
class Freeze(Shown):
    """A time in which no candidate starts, gets more traffic or is promoted."""

    id: int
    endpoint: str
    starts_at: datetime
    ends_at: datetime
    note: str
    decided_by: str
    decided_at: datetime
    lifted_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Freeze {self}>"

    def __str__(self) -> str:
        lifted = f", lifted at {self.lifted_at:{MINUTE}}" if self.lifted_at else ""
        return f"{self.id} from {self.starts_at:{MINUTE}} to {self.ends_at:{MINUTE}} UTC{lifted}, {self.note}"


@dataclass(frozen=True)
class Queued(Shown):
    """A rollout that is under way at an endpoint, or has yet to begin."""

    id: int
    version: int
    state: str
    state_reason: str
    step: int
    created_at: datetime


@dataclass(frozen=True, repr=False)
class Endpoint(Shown):
    """A decision point. What stands below ``description`` is there when one was asked for, not in lists.

    ``fallback`` is the name of what answers while it is not ``enabled``; None: ``fallback_score``. ``waits_for`` says
    what candidates have to wait for, in words.
    """

    name: str
    title: str
    model: str
    enabled: bool
    rollouts_paused: bool
    champion: int | None
    candidate: int | None
    stage: str
    share: float
    revision: int
    fallback: str | None
    fallback_score: float | None
    threshold: float
    entity_column: str
    description: str = ""
    durable: bool = False
    waits_for: str = ""
    queue: tuple[Queued, ...] = ()
    decisions: tuple[Decision, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    plan: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.line}>"

    @property
    def line(self) -> str:
        """Who serves, in one line."""
        if not self.enabled:
            served = f"stopped, {self.fallback or self.fallback_score} answers"
        else:
            served = f"v{self.champion} serves" if self.champion is not None else "nothing serves yet"
        beside = f", v{self.candidate} in {self.stage} ({self.share:.0%})" if self.candidate is not None else ""
        return f"{self.name}: {self.model} {served}{beside}{', rollouts paused' if self.rollouts_paused else ''}"

    def __str__(self) -> str:
        """As ``gatehouse endpoint show`` prints it."""
        lines = [self.line]
        lines += [f"    candidates wait for {self.waits_for}"] if self.waits_for else []
        lines += [f"    v{each.version} {each.state}: {each.state_reason}" for each in self.queue]
        for title, rows in (("decision", self.decisions), ("fallback", self.fallbacks), ("freeze", self.freezes)):
            lines += [f"    {title} {row}" for row in rows]
        return "\n".join(lines)
