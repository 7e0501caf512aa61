"""What served at a moment, who let it through, on which evidence: answered from the event log alone.

Every event that changes a route tells the whole route (``rollout.actions.routes.route_facts``) and every event of a
rollout tells the bytes and the gates (``rollout.actions.candidates``). So the last such event of an endpoint before the
moment says what served, and no row that can be changed is asked. Moments are in event time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.db.models.fields.json import KT

from audit.models import Event
from registry.models import RegisteredModel

ROUTED = (
    "endpoint.created", "endpoint.decided", "endpoint.decision_carried_out", "rollout.shadow", "rollout.canary",
    "rollout.promoted", "rollout.paused", "rollout.resumed", "rollout.rolled_back", "rollout.aborted",
)  # fmt: skip
"""Names of the events that may change who serves an endpoint."""
CREATED, DECIDED, CARRIED_OUT, DESCRIBED, PROMOTED = (
    "endpoint.created", "endpoint.decided", "endpoint.decision_carried_out", "endpoint.described", "rollout.promoted",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """One event, as far as an answer rests on it."""

    id: int
    name: str
    about: str
    by: str
    is_automatic: bool
    reason: str
    at: datetime


@dataclass(frozen=True)
class Gates:
    """How a version was let through: the gate run with each check's verdict, and the policy it was judged by."""

    gate_run: int
    number: int
    policy: int
    policy_hash: str
    verdicts: Mapping[str, str]

    @property
    def summary(self) -> str:
        passed = sum(verdict == "passed" for verdict in self.verdicts.values())
        return f"{passed} of {len(self.verdicts)} checks passed"


@dataclass(frozen=True)
class Version:
    """A version as the log names it."""

    model: str
    number: int
    artifact: str
    manifest: str

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"


@dataclass(frozen=True)
class Candidate:
    """Who was in a rollout beside the champion: in ``shadow`` (no traffic) or ``canary`` (its share)."""

    version: Version
    stage: str
    step: int
    share: float
    since: datetime
    gates: Gates | None


@dataclass(frozen=True)
class FellBack:
    """What answered everybody while the kill switch was pulled: a fixed ``score``, or an earlier ``version`` that
    ``gates`` had let through. ``name`` empty: the endpoint's own score; without one either, nobody got an answer."""

    name: str
    score: float | None
    version: Version | None
    gates: Gates | None

    def __str__(self) -> str:
        what = str(self.version) if self.version else "nothing" if self.score is None else f"the score {self.score:g}"
        return f"{what} ({self.name})" if self.name else what


@dataclass(frozen=True)
class Served:
    """An endpoint at a moment. ``champion`` None: nothing answered but the fallback. ``is_enabled`` False: the kill
    switch was pulled, everybody got the ``fallback``; ``switched`` tells by whom it was pulled, to that one.

    ``let_in`` is the event since which the champion served here; ``gates`` let it through. ``events`` are all that the
    answer rests on, oldest first.
    """

    endpoint: str
    title: str
    model: str
    at: datetime
    champion: Version | None
    since: datetime | None
    let_in: Told | None
    gates: Gates | None
    candidate: Candidate | None
    is_enabled: bool
    switched: Told | None
    events: tuple[Told, ...] = ()
    fallback: FellBack | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Step:
    """What one event says of a route, as far as it takes to find the events that the answer rests on."""

    id: int
    at: datetime
    name: str
    model: str
    champion: str | None
    candidate: tuple[str | None, str, str]
    is_enabled: bool
    fallback: tuple[str | None, str | None]
    """Name, and the version that it is, if any."""
    let: str | None
    """The version whose gates the event tells of: that of its rollout."""


_RUNNING = (True, (None, None))


@dataclass
class _Endpoint:
    """What the log has said of an endpoint so far, by the ids of its events."""

    name: str
    last: _Step | None = None
    let_in: int | None = None
    switched: int | None = None
    since: datetime | None = None
    candidate_since: datetime | None = None

    def take(self, step: _Step) -> None:
        """One more event; they come in the order of their time."""
        before = self.last
        if before is None or step.champion != before.champion:
            self.let_in, self.since = step.id, step.at
        if before is None or step.candidate != before.candidate:
            self.candidate_since = step.at
        if (step.is_enabled, step.fallback) != ((before.is_enabled, before.fallback) if before else _RUNNING):
            self.switched = step.id
        self.last = step


_Lets = dict[tuple[str, str], int]
"""The newest event of the rollout that a version came through, by endpoint and version; under the endpoint '' its
newest promotion wherever it was."""


@dataclass(frozen=True)
class _Let:
    """The rollout that a version came through: its primary key and what its events say of the gates."""

    rollout: str
    gates: Mapping[str, Any]


@dataclass(frozen=True)
class _Full:
    """An event with all it says."""

    told: Told
    subject: str
    data: Mapping[str, Any]


def as_of(moment: datetime, *, reader: AbstractBaseUser) -> list[Served]:
    """Every endpoint there was at ``moment`` whose model then the reader may see, by name.

    The log is read twice: all that routes ever did in a few narrow columns, then the few events that still matter.
    """
    visible = set(RegisteredModel.objects.visible_to(reader).values_list("name", flat=True))
    endpoints: dict[str, _Endpoint] = {}
    lets: _Lets = {}
    for name, step in _steps(moment):
        endpoints.setdefault(name, _Endpoint(name)).take(step)
        if step.let is not None:
            lets[name, step.let] = step.id
            if step.name == PROMOTED:
                lets["", step.let] = step.id
    shown = [each for _, each in sorted(endpoints.items()) if each.last is not None and each.last.model in visible]
    full = _full(shown, lets)
    chains = _chains(shown, lets, full, moment)
    titles = _titles(moment)
    return [_answer(endpoint, titles.get(endpoint.name, ""), moment, lets, full, chains) for endpoint in shown]


def _steps(moment: datetime) -> Iterator[tuple[str, _Step]]:
    """What every event did to a route, by endpoint, in the order of their time."""
    route = {
        "endpoint": KT("data__route__endpoint"),
        "champion": KT("data__route__champion__id"),
        "candidate": KT("data__route__candidate__id"),
        "stage": KT("data__route__stage"),
        "step": KT("data__route__step"),
        "is_enabled": KT("data__route__enabled"),
        "fallback": KT("data__route__fallback__name"),
        "stand_in": KT("data__route__fallback__version__id"),
        "let": KT("data__id"),
    }
    rows = Event.objects.filter(name__in=ROUTED, at__lte=moment).annotate(**route).order_by("at", "id")
    told = rows.values_list("id", "at", "name", "registered_model", *route).iterator()
    for pk, at, name, model, endpoint, champion, candidate, stage, step, is_enabled, fallback, stand_in, let in told:
        if endpoint is None:
            continue  # it changed no route, or was written before the log told routes
        is_on = str(is_enabled).lower() in ("1", "true")  # SQLite and PostgreSQL write truth differently
        place = (_text(candidate), str(stage), str(step))
        back = (_text(fallback), _text(stand_in))
        yield endpoint, _Step(pk, at, name, model, _text(champion), place, is_on, back, _text(let))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _full(endpoints: Sequence[_Endpoint], lets: _Lets) -> dict[int, _Full]:
    """The events that the answers are taken from, by id."""
    wanted = set()
    for each in endpoints:
        assert each.last is not None  # only endpoints that an event told of are answered
        found = [each.last.id, each.let_in, each.switched]
        found += [_let_id(lets, each.name, version) for version in _versions(each.last)]
        wanted |= {pk for pk in found if pk is not None}
    rows = _told(Event.objects.filter(pk__in=wanted))
    return {told.id: _Full(told, subject, data) for told, subject, _, _, data in rows}


def _versions(step: _Step) -> tuple[str | None, ...]:
    """Champion, candidate, and the version that the kill switch fell back to."""
    return step.champion, step.candidate[0], step.fallback[1]


def _titles(moment: datetime) -> dict[str, str]:
    """What each endpoint was called."""
    rows = Event.objects.filter(name__in=(CREATED, DESCRIBED), at__lte=moment).order_by("at", "id")
    titles = {}
    for label, data in rows.values_list("subject_label", "data"):
        titles[label] = str(data.get("after", data).get("title", ""))
    return titles


def _told(rows: Any) -> Iterator[tuple[Told, str, str, str, Mapping[str, Any]]]:
    """Events in the order of their time, at one time as they were written: each with its subject's id and kind, its
    model and its data."""
    fields = (
        "id", "name", "subject_label", "actor__username", "service", "reason", "at", "subject_id", "subject_type",
        "registered_model", "data",
    )  # fmt: skip
    ordered = rows.order_by("at", "id").values_list(*fields)
    for pk, name, label, actor, service, reason, at, subject, kind, model, data in ordered.iterator():
        # what was decided for later is carried out by Gatehouse, but it is the person who decided
        person = actor or (data.get("decided_by") if name == CARRIED_OUT else None)
        yield Told(pk, name, label, person or service, person is None, reason, at), subject, kind, model, data


def _answer(
    endpoint: _Endpoint,
    title: str,
    moment: datetime,
    lets: _Lets,
    full: Mapping[int, _Full],
    chains: Mapping[tuple[str, str], list[Told]],
) -> Served:
    assert endpoint.last is not None  # only endpoints that an event told of are answered
    route: Mapping[str, Any] = full[endpoint.last.id].data["route"]
    champion, candidate = route.get("champion"), route.get("candidate")
    let_in = full[endpoint.let_in].told if endpoint.let_in is not None else None
    switched = full[endpoint.switched].told if endpoint.switched is not None else None
    rests_on = {told.id: told for key in _subjects(endpoint, lets, full) for told in chains.get(key, ())}
    rests_on |= {each.id: each for each in (let_in, switched) if each is not None}
    return Served(
        endpoint=endpoint.name,
        title=title,
        model=endpoint.last.model,
        at=moment,
        champion=_version(champion) if champion else None,
        since=endpoint.since if champion else None,
        let_in=let_in if champion else None,
        gates=_gates(_let(lets, full, endpoint.name, champion)) if champion else None,
        candidate=_candidate(endpoint, route, lets, full) if candidate else None,
        is_enabled=bool(route["enabled"]),
        switched=switched,
        fallback=None if route["enabled"] else _fell_back(endpoint, route.get("fallback"), lets, full),
        events=tuple(sorted(rests_on.values(), key=lambda told: (told.at, told.id))),
    )


def _candidate(endpoint: _Endpoint, route: Mapping[str, Any], lets: _Lets, full: Mapping[int, _Full]) -> Candidate:
    assert endpoint.candidate_since is not None  # set with the event that brought the candidate
    return Candidate(
        version=_version(route["candidate"]),
        stage=str(route["stage"]),
        step=int(route["step"]),
        share=float(route["share"]),
        since=endpoint.candidate_since,
        gates=_gates(_let(lets, full, endpoint.name, route["candidate"])),
    )


def _fell_back(
    endpoint: _Endpoint, facts: Mapping[str, Any] | None, lets: _Lets, full: Mapping[int, _Full]
) -> FellBack | None:
    """None: written before the log told fallbacks."""
    if facts is None:
        return None
    version = facts["version"]
    gates = _gates(_let(lets, full, endpoint.name, version)) if version else None
    return FellBack(facts["name"], facts["score"], _version(version) if version else None, gates)


def _version(facts: Mapping[str, Any]) -> Version:
    return Version(facts["model"], facts["version"], facts["artifact"], facts.get("manifest", ""))


def _let_id(lets: _Lets, endpoint: str, version: str | None) -> int | None:
    """How a version came to an endpoint: through a rollout there, else (a product decision) through its promotion."""
    return None if version is None else lets.get((endpoint, version), lets.get(("", version)))


def _let(lets: _Lets, full: Mapping[int, _Full], endpoint: str, version: Mapping[str, Any]) -> _Let | None:
    found = _let_id(lets, endpoint, str(version["id"]))
    return None if found is None else _Let(full[found].subject, full[found].data["gates"])


def _gates(let: _Let | None) -> Gates | None:
    return Gates(**{name: let.gates[name] for name in Gates.__dataclass_fields__}) if let else None


def _subjects(endpoint: _Endpoint, lets: _Lets, full: Mapping[int, _Full]) -> list[tuple[str, str]]:
    """What the log is to be asked about for an answer: the versions, their gate runs and their rollouts."""
    assert endpoint.last is not None  # only endpoints that an event told of are answered
    found = []
    route: Mapping[str, Any] = full[endpoint.last.id].data["route"]
    stand_in = (route.get("fallback") or {}).get("version")
    for version in (route.get("champion"), route.get("candidate"), stand_in):
        if version is None:
            continue
        found.append(("registry.modelversion", str(version["id"])))
        let = _let(lets, full, endpoint.name, version)
        if let is not None:
            found.append(("gates.gaterun", str(let.gates["gate_run"])))
            found.append(("rollout.rollout", let.rollout))
    return found


def _chains(
    endpoints: Sequence[_Endpoint], lets: _Lets, full: Mapping[int, _Full], moment: datetime
) -> dict[tuple[str, str], list[Told]]:
    """The events about what serves, by subject, in one query."""
    wanted: dict[str, set[str]] = {}
    for endpoint in endpoints:
        for kind, key in _subjects(endpoint, lets, full):
            wanted.setdefault(kind, set()).add(key)
    if not wanted:
        return {}
    about = Q()
    for kind, keys in wanted.items():
        about |= Q(subject_type=kind, subject_id__in=sorted(keys))
    found: dict[tuple[str, str], list[Told]] = {}
    for told, subject, kind, _, _ in _told(Event.objects.filter(about, at__lte=moment)):
        found.setdefault((kind, subject), []).append(told)
    return found


# ---------------------------------------------------------------------- when a version answered


@dataclass(frozen=True)
class Period:
    """A version answered an endpoint, as champion, as canary with a share, or as the fallback of a kill switch.

    ``until`` None: it does still."""

    endpoint: str
    arm: str
    share: float
    since: datetime
    until: datetime | None


def periods(model: str, number: int, *, until: datetime) -> list[Period]:
    """When a version answered, by endpoint, from the log alone; oldest first."""
    found: list[Period] = []
    running: dict[tuple[str, str], Period] = {}
    there = Event.objects.filter(at__lte=until)
    own = there.filter(name__in=ROUTED, registered_model=model)
    at = set(own.filter(subject_type="rollout.endpoint").values_list("subject_label", flat=True))
    # another model took an endpoint over: that decision is an event of the other model
    taken = Q(name__in=(DECIDED, CARRIED_OUT), subject_label__in=at)
    for told, _, _, _, data in _told(there.filter(Q(name__in=ROUTED, registered_model=model) | taken)):
        if "route" in data:
            for arm, share in _answering(data["route"], model, number).items():
                key = (str(data["route"]["endpoint"]), arm)
                before = running.get(key)
                if before is not None and before.share != share:
                    found.append(replace(running.pop(key), until=told.at))
                if share > 0 and key not in running:
                    running[key] = Period(key[0], arm, share, told.at, None)
    return sorted([*found, *running.values()], key=lambda each: (each.since, each.endpoint))


def _answering(route: Mapping[str, Any], model: str, number: int) -> dict[str, float]:
    """The version's share of the answers by arm; 0 where it did not answer."""

    def is_it(version: Mapping[str, Any] | None) -> bool:
        return version is not None and (version["model"], version["version"]) == (model, number)

    share, is_on = float(route["share"]), bool(route["enabled"])
    fallback: Mapping[str, Any] = route.get("fallback") or {}
    return {
        "champion": 1.0 - share if is_on and is_it(route.get("champion")) else 0.0,
        "canary": share if is_on and is_it(route.get("candidate")) else 0.0,
        "fallback": 1.0 if not is_on and is_it(fallback.get("version")) else 0.0,
    }
