"""What the portal answers about lineage: graphs, impacts, what served, two versions compared, a prediction replayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from gatehouse.answers import read
from gatehouse.showing import Shown, said, table


@dataclass(frozen=True, repr=False)
class Node(Shown):
    """``key`` names it for ever. ``is_verified`` False: there is only somebody's word for it, or nothing."""

    kind: str
    key: str
    label: str
    url: str
    facts: Mapping[str, str]
    is_verified: bool

    def __repr__(self) -> str:
        return f"<Node {self.key}: {self.label}>"


@dataclass(frozen=True, repr=False)
class Graph:
    """``edges`` are pairs of keys: the second was made of the first, or followed from it."""

    of: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    @classmethod
    def told(cls, of: str, answer: Mapping[str, Any]) -> Graph:
        nodes = tuple(read(Node, node) for node in answer["nodes"])
        return cls(of, nodes, tuple((edge["from"], edge["to"]) for edge in answer["edges"]))

    def __repr__(self) -> str:
        return f"<Graph of {self.of}: {len(self.nodes)} nodes>"

    def __str__(self) -> str:
        """As ``gatehouse trace`` prints it: each thing over what it was made from."""
        return "\n".join(self._lines())

    def node(self, key: str) -> Node | None:
        return next((node for node in self.nodes if node.key == key), None)

    def made_of(self, key: str) -> tuple[str, ...]:
        """Keys of what a thing was made of directly."""
        return tuple(made for made, of in self.edges if of == key)

    def _repr_html_(self) -> str:
        rows = [
            (node.kind, node.label, node.key, node.facts, "" if node.is_verified else "unverified")
            for node in self.nodes
        ]
        return table(("kind", "thing", "key", "facts", ""), rows)

    def _lines(self) -> Iterator[str]:
        by_key = {node.key: node for node in self.nodes}
        ends = {made for made, _ in self.edges}
        roots = [self.of] if self.of in by_key else [key for key in by_key if key not in ends]
        seen: set[str] = set()
        stack = [(key, 0) for key in reversed(roots)]
        while stack:
            key, depth = stack.pop()
            node, indent = by_key.get(key), "  " * depth
            if node is None:
                continue
            doubt = "" if node.is_verified else "  (unverified)"
            if key in seen:
                yield f"{indent}{node.kind} {node.label}  (above)"
                continue
            seen.add(key)
            yield f"{indent}{node.kind} {node.label}{doubt}"
            if node.facts:
                yield f"{indent}    {said(node.facts)}"
            stack += [(made, depth + 1) for made in reversed(self.made_of(key))]


@dataclass(frozen=True)
class Path(Shown):
    """From what was asked about to an endpoint. ``is_certain`` False: columns can not be told apart on the way."""

    steps: tuple[str, ...]
    is_certain: bool


@dataclass(frozen=True, repr=False)
class Affected(Shown):
    """A version that uses it; of a model that is not yours to see there is only whose it is."""

    label: str
    owner: str
    is_visible: bool
    roles: tuple[str, ...]
    model: str
    number: int | None
    service: str
    endpoints: tuple[str, ...]
    paths: tuple[Path, ...]
    more_paths: int

    @property
    def is_certain(self) -> bool:
        return not self.paths or any(path.is_certain for path in self.paths)

    def __repr__(self) -> str:
        return f"<Affected {self.label} ({', '.join(self.roles)}) of {self.owner}>"


@dataclass(frozen=True, repr=False)
class Impact:
    """Who uses what was ``asked`` about, and which groups to ask (``owners``)."""

    asked: str
    features: tuple[str, ...]
    affected: tuple[Affected, ...]
    owners: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Impact of {self.asked}: {len(self.affected)} versions>"

    def __str__(self) -> str:
        """As ``gatehouse impact`` prints it."""
        lines = [f"{self.asked}: {len(self.affected)} versions use it."]
        for each in self.affected:
            endpoints = f" on {', '.join(each.endpoints)}" if each.endpoints else ""
            sure = "" if each.is_certain else "  (perhaps)"
            lines.append(f"  {each.label}  {', '.join(each.roles)}{endpoints}, of {each.owner}{sure}")
            lines += [f"      {' > '.join(path.steps)}" for path in each.paths[:3]]
        if self.owners:
            lines.append(f"Ask: {', '.join(self.owners)}.")
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        rows = []
        for each in self.affected:
            path = " > ".join(each.paths[0].steps) if each.paths else ""
            rows.append((each.label, each.roles, each.endpoints, each.owner, path))
        return table(("version", "roles", "endpoints", "owner", "path"), rows)


@dataclass(frozen=True)
class Told(Shown):
    """An event that an answer rests on."""

    id: int
    name: str
    about: str
    by: str
    is_automatic: bool
    reason: str
    at: datetime


@dataclass(frozen=True)
class ServedVersion(Shown):
    model: str
    number: int
    artifact: str
    manifest: str = ""

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"


@dataclass(frozen=True)
class GatesThen(Shown):
    """The gate run that let a version through, as the log tells of it."""

    gate_run: int
    number: int
    policy: int
    policy_hash: str
    verdicts: Mapping[str, str]


@dataclass(frozen=True)
class CandidateThen(Shown):
    version: ServedVersion
    stage: str
    step: int
    share: float
    since: datetime
    gates: GatesThen | None = None


@dataclass(frozen=True)
class FellBack(Shown):
    """What answered everybody while the kill switch was pulled; ``name`` empty: the endpoint's own score."""

    name: str
    score: float | None
    version: ServedVersion | None
    gates: GatesThen | None

    def __str__(self) -> str:
        what = str(self.version) if self.version else "nothing" if self.score is None else f"the score {self.score:g}"
        return f"{what} ({self.name})" if self.name else what


@dataclass(frozen=True, repr=False)
class Served(Shown):
    """An endpoint at a moment, from the event log alone. ``champion`` None: only the fallback answered."""

    endpoint: str
    title: str
    model: str
    at: datetime
    champion: ServedVersion | None
    since: datetime | None
    let_in: Told | None
    gates: GatesThen | None
    candidate: CandidateThen | None
    is_enabled: bool
    switched: Told | None
    events: tuple[Told, ...] = ()
    fallback: FellBack | None = None

    def __repr__(self) -> str:
        return f"<Served {self.endpoint}: {self.champion or 'the fallback'}>"

    def __str__(self) -> str:
        """As ``gatehouse as-of`` prints it."""
        who = str(self.champion) if self.champion and self.is_enabled else "the fallback"
        since = f" since {self.since:%Y-%m-%d %H:%M}" if self.since else ""
        lines = [f"{self.endpoint}: {who}{since}"]
        if self.champion:
            lines.append(f"    artifact {self.champion.artifact}")
        if self.let_in:
            lines.append(f"    let in by {self.let_in.by}: {self.let_in.reason} (event {self.let_in.id})")
        if self.gates:
            lines.append(f"    gate run {self.gates.gate_run}, policy {self.gates.policy}: {said(self.gates.verdicts)}")
        if self.candidate:
            each = self.candidate
            lines.append(f"    beside it {each.version} in {each.stage}, {each.share:.0%} of entities")
        if self.switched and not self.is_enabled:
            lines.append(f"    switched off by {self.switched.by}: {self.switched.reason}")
        if self.fallback and not self.is_enabled:
            lines.append(f"    answered instead: {self.fallback}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Difference(Shown):
    """``kind`` is added, removed or changed."""

    name: str
    before: str | None
    after: str | None
    kind: str


@dataclass(frozen=True)
class FeatureDifference(Shown):
    kind: str
    feature: str
    before: str
    after: str


@dataclass(frozen=True)
class Line(Shown):
    """``tone`` is added, removed, same or gap."""

    tone: str
    text: str


@dataclass(frozen=True)
class TextDifference(Shown):
    """Two definitions, line by line."""

    name: str
    before: str
    after: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Measured(Shown):
    value: float
    low: float | None
    high: float | None
    n: int | None

    def __str__(self) -> str:
        interval = (
            f" [{_number(self.low)}, {_number(self.high)}]" if self.low is not None and self.high is not None else ""
        )
        return f"{_number(self.value)}{interval}"


@dataclass(frozen=True)
class MetricDifference(Shown):
    """``lie_apart``: the intervals do not touch; None: one is missing."""

    name: str
    before: Measured | None
    after: Measured | None
    difference: float | None
    lie_apart: bool | None


@dataclass(frozen=True)
class CheckDifference(Shown):
    check_id: str
    before: Any
    after: Any


SECTIONS = ("data", "parameters", "code", "environment", "artifact")


@dataclass(frozen=True, repr=False)
class VersionDiff:
    """What ``after`` has otherwise than ``before``; metrics and gate checks side by side."""

    before: str
    after: str
    is_same: bool
    data: tuple[Difference, ...]
    features: tuple[FeatureDifference, ...]
    texts: tuple[TextDifference, ...]
    parameters: tuple[Difference, ...]
    code: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    artifact: tuple[Difference, ...]
    metrics: tuple[MetricDifference, ...]
    gates: tuple[CheckDifference, ...]

    def __repr__(self) -> str:
        return f"<VersionDiff {self.before} → {self.after}>"

    def __str__(self) -> str:
        """As ``gatehouse diff`` prints it."""
        lines = [f"{self.before} -> {self.after}"]
        for section, name, before, after in self._rows():
            lines.append(f"  {section}: {name}: {said(before) or '-'} -> {said(after) or '-'}")
        return "\n".join(lines if len(lines) > 1 else [*lines, "  Nothing differs."])

    def _rows(self) -> Iterator[tuple[str, str, Any, Any]]:
        for section in SECTIONS:
            for each in getattr(self, section):
                yield section, each.name, each.before, each.after
        for feature in self.features:
            yield "features", feature.feature, feature.before, feature.after
        for metric in self.metrics:
            if metric.before != metric.after:
                yield "metrics", metric.name, metric.before, metric.after

    def _repr_html_(self) -> str:
        return table(("", "what", self.before, self.after), list(self._rows()))


@dataclass(frozen=True)
class ReplayedInput(Shown):
    """One input of the model: as it was served, and as it should have been (when ``is_checked``)."""

    feature: str
    origin: str
    served: Any
    recomputed: Any
    difference: float | None
    is_checked: bool
    differs: bool
    is_late: bool = False


@dataclass(frozen=True, repr=False)
class Replay:
    """``cause``: reproduced, feature_skew, artifact_difference or not_reproducible; ``message`` says it with numbers.

    ``served`` is the score that left the gateway, ``replayed`` the one of the logged inputs now, ``recomputed`` the one
    of the recomputed features.
    """

    endpoint: str
    request_id: str
    version: str
    at: datetime | None
    cause: str
    causes: tuple[str, ...]
    message: str
    served: float | None
    replayed: float | None
    recomputed: float | None
    features: tuple[ReplayedInput, ...]
    inputs: tuple[ReplayedInput, ...] = ()
    environment: tuple[Mapping[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<Replay {self.endpoint}/{self.request_id}: {self.cause}>"

    def __str__(self) -> str:
        """As ``gatehouse replay`` prints it."""
        scores = [("served", self.served), ("replayed", self.replayed), ("recomputed", self.recomputed)]
        lines = [f"{self.endpoint}/{self.request_id}: {', '.join(self.causes)}", f"  {self.message}"]
        lines += [f"  {name:<11} {score:.9g}" for name, score in scores if score is not None]
        for each in self.features:
            lines.append(f"  {each.feature} ({each.origin}): served {said(each.served)}, right {said(each.recomputed)}")
        lines += [f"  {each['name']}: {each['then']} then, {each['now']} now" for each in self.environment]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads = ("feature", "from", "served", "recomputed", "differs")
        rows = [(each.feature, each.origin, each.served, each.recomputed, each.differs) for each in self.inputs]
        return f"<p>{escape(self.message)}</p>" + table(heads, rows)


def _number(value: float) -> str:
    """A count with all its digits, else four that are significant."""
    is_count = float(value).is_integer() and abs(value) < 1e15
    return f"{int(value):,}" if is_count else f"{value:.4g}"
