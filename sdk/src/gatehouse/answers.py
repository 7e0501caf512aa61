"""What the portal answers, as dataclasses. Fields that a newer portal adds are ignored."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gatehouse.showing import Shown, table

T = TypeVar("T")


def read(kind: type[T], told: Mapping[str, Any]) -> T:
    """A dataclass from a JSON object: known fields only, times and nested rows in their own types."""
    hints = get_type_hints(kind)
    known = {field.name: _value(hints[field.name], told[field.name]) for field in fields(kind) if field.name in told}  # type: ignore[arg-type]  # a dataclass
    return kind(**known)


def _value(hint: Any, told: Any) -> Any:
    if told is None:
        return None
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if hint is datetime:
        return datetime.fromisoformat(told)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], each) for each in told)
    if is_dataclass(hint) and isinstance(hint, type):
        return read(hint, told)
    return told


@dataclass(frozen=True)
class Owners(Shown):
    """The groups with the three duties."""

    data_science: str
    platform: str
    product: str


@dataclass(frozen=True)
class Pipeline(Shown):
    """How a model is trained; ``windows`` are those a retraining chooses among."""

    name: str
    service: str
    label: str
    parameters: Mapping[str, Any]
    windows: tuple[Mapping[str, Any], ...]
    holdout_days: int
    automatic: bool


@dataclass(frozen=True, repr=False)
class Model(Shown):
    """A registered model; ``champion`` is the number of the version that serves, None before the first.

    ``etag`` names the state that was read (of one model, not in lists): what ``Client.change_model`` takes.
    """

    name: str
    title: str
    task: str
    tier: str
    owners: Owners
    champion: int | None
    automation: bool
    description: str = ""
    pipelines: tuple[Pipeline, ...] = ()
    etag: str = ""

    def __repr__(self) -> str:
        serves = f"v{self.champion} serves" if self.champion is not None else "no champion yet"
        return f"<Model {self.name} ({self.tier}): {serves}>"


@dataclass(frozen=True, repr=False)
class Version(Shown):
    """One immutable version. ``lineage`` is a tree of kind, label, facts, is_verified and parts (empty in lists)."""

    model: str
    number: int
    artifact_digest: str
    artifact_bytes: int
    load_class: str
    service: str | None
    dataset: str | None
    training_run: int | None
    label: str
    metrics: Mapping[str, Any]
    commit: str
    dirty: bool
    code_digest: str
    content_digest: str
    note: str
    registered_by: str | None
    registered_at: datetime
    manifest_digest: str = ""
    parameters: Mapping[str, Any] | None = None
    lineage: Mapping[str, Any] | None = None
    load_class_because: str = ""
    claims: Mapping[str, Any] | None = None
    registered_with: str = ""

    def __repr__(self) -> str:
        return f"<Version {self.model} v{self.number} {self.artifact_digest[:12]} ({self.load_class})>"


@dataclass(frozen=True, repr=False)
class Evidence(Shown):
    """A report as the portal read it; ``verdict`` is passed, failed, inconclusive or error."""

    id: int
    model: str
    kind: str
    verdict: str
    summary: str
    code_digest: str
    commit: str
    submitted_at: datetime
    version: int | None = None
    name: str = ""

    def __repr__(self) -> str:
        about = f"v{self.version}" if self.version else self.code_digest[:12]
        return f"<Evidence {self.name or self.kind} of {about}: {self.verdict} ({self.summary})>"


@dataclass(frozen=True, repr=False)
class Check(Shown):
    """One check of a gate run with its numbers."""

    check_id: str
    kind: str
    blocking: bool
    verdict: str
    message: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    threshold: str

    def __repr__(self) -> str:
        return f"<Check {self.check_id}: {self.verdict}: {self.message}>"


@dataclass(frozen=True)
class Progress(Shown):
    """How far a run is: checks done and in all, those that run now, and the evidence that is waited for."""

    done: int
    all: int
    waiting_for: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class GateRun(Shown):
    id: int
    model: str
    version: int
    number: int
    policy: int
    state: str
    state_reason: str
    champion: int | None
    opened_at: datetime
    deadline: datetime
    missing_evidence: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    progress: Progress | None = None

    def __repr__(self) -> str:
        return f"<GateRun {self.id} of {self.model} v{self.version}: {self.state}: {self.state_reason}>"


@dataclass(frozen=True)
class GateStanding(Shown):
    """``state`` is a gate run's, ``unjudged``, or ``void``: passed, but under a policy that is no longer in force."""

    state: str
    message: str
    may_enter_rollout: bool
    gate_run: int | None
    policy: int | None
    missing_evidence: tuple[str, ...]


@dataclass(frozen=True)
class RolloutStanding(Shown):
    id: int
    endpoint: str
    state: str
    reason: str
    since: datetime | None
    step: int


@dataclass(frozen=True, repr=False)
class Standing(Shown):
    """Where a version is (``stage``) and ``why``."""

    model: str
    version: int
    stage: str
    why: str
    since: datetime | None
    is_champion: bool
    gates_ended: bool
    gates: GateStanding
    rollouts: tuple[RolloutStanding, ...]

    @property
    def passed(self) -> bool:
        """It passed every gate of the policy in force."""
        return self.gates.may_enter_rollout

    def __repr__(self) -> str:
        return f"<Standing {self.model} v{self.version}: {self.stage}: {self.why}>"


@dataclass(frozen=True, repr=False)
class TrainingRun(Shown):
    """``version`` is the number of the version that it made, once it has succeeded."""

    id: int
    model: str
    pipeline: str
    state: str
    state_reason: str
    trigger: str
    window: Mapping[str, Any]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    version: int | None
    requested_at: datetime

    def __repr__(self) -> str:
        made = f", made v{self.version}" if self.version is not None else ""
        return f"<TrainingRun {self.id} of {self.model}/{self.pipeline}: {self.state}{made}>"


@dataclass(frozen=True)
class Measurement(Shown):
    """One metric of one look; ``harm`` and ``no_harm`` are log e-values that prove at ``needed``."""

    metric: str
    verdict: str
    message: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    n: int
    harm: float | None
    no_harm: float | None
    needed: float | None


@dataclass(frozen=True)
class Look(Shown):
    number: int
    stage: str
    step: int
    at: datetime
    conclusion: str
    summary: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, repr=False)
class Rollout(Shown):
    """``latest_look`` is only there when one rollout was asked for, and after its first look."""

    id: int
    model: str
    endpoint: str
    version: int
    incumbent: int | None
    state: str
    state_reason: str
    step: int
    created_at: datetime
    ended_at: datetime | None
    latest_look: Look | None = None

    def __repr__(self) -> str:
        step = f" step {self.step}" if self.state == "canary" else ""
        return f"<Rollout {self.id}: {self.model} v{self.version} on {self.endpoint}: {self.state}{step}>"


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """``arm`` says who should have answered, ``answered_by`` who did; an outcome names ``at`` as its predicted_at."""

    request_id: str
    at: datetime
    score: float | None
    decision: bool | None
    arm: str
    answered_by: str
    version: int | None
    status: str

    def __repr__(self) -> str:
        return f"<Prediction {self.request_id}: {self.score} by {self.answered_by} v{self.version}>"


@dataclass(frozen=True, repr=False)
class Vectors(Shown):
    """Features as they are served at ``at``: a row for each entity asked for, and in it a place for each of ``names``.

    ``ages`` are seconds since the event that gave the value (None: nothing is known); ``statuses`` say why a value is
    None: ``present``, ``null``, ``expired`` (older than the view's TTL) or ``unknown``.
    """

    service: str
    at: datetime
    names: tuple[str, ...]
    rows: list[list[Any]]
    ages: list[list[float | None]]
    statuses: list[list[str]]

    def __repr__(self) -> str:
        return f"<Vectors of {self.service}: {len(self.rows)} entities, {len(self.names)} features>"

    def _repr_html_(self) -> str:
        return table(self.names, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """Each entity's values by name."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, repr=False)
class Push(Shown):
    """``written``: of each view that is served at once, how many of its values were newer than what the store held."""

    source: str
    push_id: str
    rows: int
    arrived_at: datetime
    written: Mapping[str, int]

    def __repr__(self) -> str:
        return f"<Push {self.push_id} to {self.source}: {self.rows} rows>"


@dataclass(frozen=True, repr=False)
class PredictionsKept(Shown):
    """``stored`` predictions are new; ``repeated`` ones were in the log already."""

    endpoint: str
    stored: int
    repeated: int
    arrived_at: datetime

    def __repr__(self) -> str:
        return f"<Predictions of {self.endpoint}: {self.stored} stored, {self.repeated} known before>"


@dataclass(frozen=True, repr=False)
class OutcomesLearned(Shown):
    """``unmatched``: labels of entities about which no prediction had been made in time."""

    endpoint: str
    labels: int
    values: int
    unmatched: int
    arrived_at: datetime

    def __repr__(self) -> str:
        return f"<Outcomes of {self.endpoint}: {self.labels} labels, {self.values} values>"


@dataclass(frozen=True, repr=False)
class BusinessMetric(Shown):
    """``tolerated_harm`` and ``harm_from`` are in ``unit``, per prediction or entity."""

    id: int
    endpoint: str
    name: str
    title: str
    unit: str
    per: str
    better: str
    window_seconds: float
    missing: str
    is_heavy_tailed: bool
    harm_from: float
    tolerated_harm: float
    guards: bool
    created_at: datetime
    retired_at: datetime | None

    def __repr__(self) -> str:
        ended = ", retired" if self.retired_at else ""
        unit = f" {self.unit}" if self.unit else ""
        asked = f"{self.better} is better, up to {self.tolerated_harm:g}{unit} worse is tolerated"
        hours = self.window_seconds / 3600
        return f"<BusinessMetric {self.endpoint}/{self.name}: per {self.per} after {hours:g} h, {asked}{ended}>"


@dataclass(frozen=True)
class TrafficPlan(Shown):
    """What a traffic backend was told; ``problem`` says why it is not in force (empty: it is)."""

    fence: int
    difference: tuple[str, ...]
    warnings: tuple[str, ...]
    planned_at: datetime
    applied_at: datetime | None
    problem: str


@dataclass(frozen=True, repr=False)
class EndpointTraffic(Shown):
    """Who splits an endpoint's traffic. ``follows``: whether it does what the route says (None: nobody knows).

    ``weights``: share of entities by version. ``unjudged``: what looks can not judge there, and why.
    """

    endpoint: str
    backend: str
    document: Mapping[str, Any]
    fence: int
    weights: Mapping[str, float]
    follows: bool | None
    unjudged: Mapping[str, str]
    plan: TrafficPlan | None

    def __repr__(self) -> str:
        shares = ", ".join(f"{version} {share:.4g}" for version, share in self.weights.items()) or "nobody"
        return f"<Traffic of {self.endpoint} by {self.backend}: {shares}>"
