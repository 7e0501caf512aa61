"""The port of traffic backends: what splits live requests between a champion and its candidate.

Three stand behind it: our own gateway (``rollout.traffic``), nginx (``engines.traffic.nginx``) and, as manifests that
somebody else applies, KServe (``engines.traffic.kserve``). What is asked of each (and proven by one contract suite,
``tests/engines/traffic/contract.py``):

* ``plan`` is pure and says in words what would change; it is stored before it is applied.
* ``apply`` is idempotent. Its ``fence`` is the route's revision: a backend that has seen a newer one refuses.
* ``abort`` takes the candidate off within ``Caps.seconds``, whatever ``apply`` is doing at that moment.
* Entities stay: raising a share keeps everybody whom the candidate answers already.

Errors::

    TrafficError
    ├── UnknownVersion     nobody said where this version answers
    ├── Unsupported        this backend can not do that (a share too small, a mirror, applying a manifest)
    ├── OlderFence         it was told of a newer route already
    └── Refused            the backend did not take it; what it did before goes on, unless the message says otherwise
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class TrafficError(Exception):
    """Base of what traffic backends refuse; the text is for the user."""


class UnknownVersion(TrafficError):
    pass


class Unsupported(TrafficError):
    pass


class OlderFence(TrafficError):
    pass


class Refused(TrafficError):
    pass


@dataclass(frozen=True)
class Caps:
    """What a backend can do.

    ``smallest_share``: shares are multiples of it. ``seconds``: after so long a change is in force everywhere.
    ``aborts_alone``: the candidate can be taken off while the portal's database is away. ``unjudged``: what a look can
    not judge from what ``read`` gives, each with the reason, for people.
    """

    sticky: bool
    mirror: bool
    smallest_share: float
    seconds: float
    aborts_alone: bool
    unjudged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Who answers: ``champion`` everybody but the ``share`` of entities (0 to 1) that the ``candidate`` answers.

    Versions are named as people write them in addresses, ``delay-v4``. ``salt`` names the rollout and picks its
    entities, ``step`` is its canary step. ``stopped``: the kill switch is pulled, no version answers, and callers are
    told the ``fallback`` score (None: there is none). ``mirror_to``: a version that gets a copy of each request.
    """

    champion: str | None
    candidate: str | None = None
    share: float = 0.0
    salt: str = ""
    step: int = 0
    stopped: bool = False
    fallback: float | None = None
    mirror_to: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"a share lies between 0 and 1, not {self.share}")
        if self.candidate is None and self.share > 0.0:
            raise ValueError("a share needs a candidate")
        if self.share > 0.0 and not self.salt:
            raise ValueError("a share needs a salt: it picks who belongs to it")

    @property
    def weights(self) -> dict[str, float]:
        """Share of entities by version; empty while nobody answers."""
        if self.stopped or self.champion is None:
            return {}
        weights = {self.champion: 1.0 - self.share}
        if self.candidate is not None and self.share > 0.0:
            weights[self.candidate] = self.share
        return weights

    @property
    def versions(self) -> tuple[str, ...]:
        """Those that must be there for it, the mirror's included."""
        named = [*self.weights, *([self.mirror_to] if self.mirror_to else [])]
        return tuple(dict.fromkeys(named))

    def without_candidate(self) -> Split:
        """The same with everybody at the champion: what an abort leaves."""
        return Split(champion=self.champion, stopped=self.stopped, fallback=self.fallback)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Split:
        return cls(**stored)


@dataclass(frozen=True)
class Plan:
    """What is to be done. ``difference`` is for people, a line for each change; ``text`` for the backend (its
    configuration or manifest), complete. ``warnings``: what is to be known before."""

    endpoint: str
    backend: str
    want: Split
    difference: tuple[str, ...]
    text: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """What became of it. ``changed`` is False when all was so already."""

    fence: int
    split: Split
    changed: bool
    message: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Observed:
    """What is really routed, and which fence it was told last (None: it was told nothing yet)."""

    split: Split | None
    fence: int | None
    aborted: bool = False


@dataclass(frozen=True)
class Read:
    """Requests that were served: ``rows`` in the form of the prediction intake, ``place`` to go on from the next time.

    ``unreadable`` counts lines that are no rows.
    """

    rows: Sequence[Mapping[str, Any]]
    place: str
    unreadable: int = 0


class TrafficBackend(Protocol):
    """What each backend does (module docstring)."""

    @property
    def name(self) -> str: ...

    def capabilities(self) -> Caps: ...

    def plan(self, endpoint: str, want: Split, was: Split | None) -> Plan:
        """What ``want`` takes, given that ``was`` is routed now. Pure. Raises UnknownVersion, Unsupported."""

    def apply(self, plan: Plan, fence: int) -> Receipt:
        """Make it so; when this returns, it is. Raises OlderFence, Refused."""

    def observed(self, endpoint: str) -> Observed:
        """What is routed now. Raises Refused when the backend does not answer."""

    def read(self, endpoint: str, since: str) -> Read:
        """The requests served since a ``place`` ("": from the beginning), each exactly once; some at a time."""

    def abort(self, endpoint: str, fence: int) -> Receipt:
        """Take the candidate off at once. Nothing planned before this fence is applied any more, nor a candidate at it.

        Raises OlderFence when a newer route is in force, Refused.
        """


def in_words(was: Split | None, want: Split) -> tuple[str, ...]:
    """What changes from ``was`` to ``want``, a line each; one line says so when nothing does."""
    before, after = ({} if was is None else was.weights), want.weights
    lines = []
    if want.stopped != (was is not None and was.stopped):
        lines.append("Kill switch pulled: no version answers." if want.stopped else "Kill switch released.")
    for version in dict.fromkeys([*before, *after]):
        old, new = before.get(version, 0.0), after.get(version, 0.0)
        if old != new:
            lines.append(f"{version}: {old:.4g} → {new:.4g} of the entities.")
    old_salt = "" if was is None else was.salt
    if want.salt and want.salt != old_salt:
        lines.append(f"Entities are picked anew (salt {want.salt}).")
    if was is not None and was.step != want.step:
        lines.append(f"Step {was.step} → {want.step}.")
    return tuple(lines) or ("Nothing changes.",)
