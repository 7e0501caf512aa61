"""The report of an incident: what happened, how it was noticed, whom it hit, what was done, and how long it took."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from audit.errors import NotFound
from audit.models import Event
from mlops.dossier.fields import Field, Section, duration, moment, pairs, said, table, told
from mlops.dossier.lived import Times, began_at, timeline, title
from mlops.dossier.log import Log, evidence, first, last
from monitoring.models import Incident, Rethink, Retraining
from registry.models import ModelVersion
from rollout import prediction_log
from rollout.models import Endpoint

LONGEST_CHAIN = 50
FOLLOWED = (
    "endpoint.decided", "endpoint.decision_carried_out", "rollout.paused", "rollout.aborted", "rollout.rolled_back",
    "alias.champion_moved",
)  # fmt: skip
"""What people and rules do about traffic: in the time of an incident it belongs to its story."""


class Occurrence:
    """An incident and what the log knows around it. Raises NotFound when the log did not know it yet."""

    def __init__(self, incident: Incident, log: Log) -> None:
        self.incident, self.log = incident, log
        log.include(incident)
        self.events = log.about(incident)
        if not self.events:
            raise NotFound(f"The log does not know incident {incident.pk} at position {log.position}.")
        self.opened = self.events[0]
        self.times = Times.of(incident, log)

    @property
    def title(self) -> str:
        return title(self.incident, self.log)

    @property
    def state(self) -> str:
        return self.log.state(self.incident, initial="open")

    @property
    def began(self) -> datetime:
        """When it began as far as known: else when it was opened."""
        return began_at(self.opened) or self.opened.at

    @property
    def resolved(self) -> Event | None:
        return last(self.events, "incident.resolved") if self.state == "resolved" else None

    @property
    def over(self) -> datetime:
        """When it was over; at the position of the report, where it was not yet."""
        return self.resolved.at if self.resolved else self.log.at

    @cached_property
    def chain(self) -> list[Event]:
        """What it followed from, the first cause first. It ends where it would go on in another model's history: that
        is its owners' to tell."""
        found: list[Event] = []
        event = self.opened
        while event.cause is not None and len(found) < LONGEST_CHAIN:
            event = event.cause
            if event.registered_model not in ("", self.opened.registered_model):
                break
            found.insert(0, event)
        return found

    @cached_property
    def retrainings(self) -> list[Retraining]:
        rows = Retraining.objects.filter(incident=self.incident).order_by("id")
        return [row for row in rows if self.log.knows(row)]

    @cached_property
    def actions(self) -> list[Event]:
        """What was done about it: its own events, its retrainings, and changes of traffic while it lasted."""
        own = [event for event in self.events if event.pk != self.opened.pk]
        answers = [event for each in self.retrainings for event in self.log.about(each)]
        meanwhile = [event for event in self.log.named(*FOLLOWED) if self.opened.at <= event.at <= self.over]
        rethinks = [event for event in self.log.of_kind(Rethink._meta.label_lower) if self._is_during(event)]
        return [*own, *answers, *meanwhile, *rethinks]

    def _is_during(self, event: Event) -> bool:
        return self.opened.at <= event.at <= self.over


def sections_of(of: Occurrence) -> list[Section]:
    """The whole report but for its proof."""
    return [_what(of), _detection(of), _impact(of), _done(of), _cause(of), _closure(of)]


def _what(of: Occurrence) -> Section:
    incident, proof = of.incident, evidence(of.opened)
    return Section(
        "incident",
        "What happened",
        ("EU AI Act Art. 73: serious incidents", "ISO/IEC 42001 A.8.4: communication of incidents"),
        (
            told("id", "Incident", incident.pk, proof),
            told("title", "What", of.title, proof),
            told("detail", "In words, when it was opened", of.opened.data.get("detail"), proof),
            told("kind", "Kind", incident.get_kind_display(), proof),
            told("severity", "Severity", of.opened.data.get("severity"), proof),
            told("model", "Registered model", of.opened.registered_model or "none alone", proof),
            told("state", "State at this position", of.state, evidence(*of.events)),
        ),
    )


def _detection(of: Occurrence) -> Section:
    proof = evidence(of.opened)
    began = began_at(of.opened)
    return Section(
        "detection",
        "Detection",
        ("EU AI Act Art. 72: post-market monitoring", "NIST AI RMF MANAGE 4.1: post-deployment monitoring"),
        (
            told("began", "Began at the earliest", moment(began), proof),
            told("detected", "Detected", moment(of.opened.at), proof),
            told("detected_by", "Detected by", of.log.author(of.opened), proof),
            told("time_to_detect", "Time to detect", duration(of.times.detected), proof),
            told("evidence", "Evidence when it was opened", _evidence(of), proof),
            told("causes", "What it followed from", _causes(of), evidence(*of.chain)),
        ),
    )


def _evidence(of: Occurrence) -> object:
    shown = of.opened.data.get("evidence") or {}
    return pairs(shown, names=("What", "Value"), none="none")


def _causes(of: Occurrence) -> object:
    return timeline(of.log, of.chain) if of.chain else "nothing that was recorded"


def _impact(of: Occurrence) -> Section:
    proof = evidence(of.opened)
    points = _endpoints(of)
    return Section(
        "impact",
        "Impact",
        ("EU AI Act Art. 73: serious incidents, consequences", "NIST AI RMF MANAGE 4.3: incidents"),
        (
            told("versions", "Versions affected", _versions(of), proof),
            told("endpoints", "Endpoints affected", ", ".join(points) or "none known", proof),
            told("period", "Period", f"{moment(of.began)} to {moment(of.over)}", evidence(of.opened, of.resolved)),
            told("predictions", "Predictions served in the period", _predictions(of, points), proof),
            told("others", "Other models named", _others(of), proof),
            said("harm", "Harm to persons", None),
        ),
    )


def _versions(of: Occurrence) -> str:
    version: ModelVersion | None = of.incident.version
    return str(version) if version else "none alone"


def _endpoints(of: Occurrence) -> list[str]:
    """Decision points of the model that the log knew."""
    begun = of.log.named("endpoint.created", "endpoint.decided", "endpoint.decision_carried_out")
    rows = Endpoint.objects.in_bulk({int(event.subject_id) for event in begun})
    return sorted(row.name for row in rows.values())


def _predictions(of: Occurrence, points: list[str]) -> object:
    """From the prediction log, up to the last full hour: later ones may have been on their way."""
    if of.incident.version_id is None or not points:
        return "not counted: no single version is named"
    until = of.over.replace(minute=0, second=0, microsecond=0)
    rows = [(point, _count(point, of.incident.version_id, of.began, until)) for point in points]
    return table(("Endpoint", f"Predictions until {moment(until)}"), rows, none="none")


def _count(endpoint: str, version: int, since: datetime, until: datetime) -> int:
    if until <= since:
        return 0
    rows = prediction_log.read(endpoint, since=since, until=until, columns=["answered_by", "version_id"])
    return int(pc.sum(pc.fill_null(pc.equal(rows["version_id"], version), False)).as_py() or 0)


def _others(of: Occurrence) -> str:
    named: Any = of.opened.data.get("evidence", {}).get("live_models") or []
    return ", ".join(str(each) for each in named) or "none"


def _done(of: Occurrence) -> Section:
    every = [*of.chain, of.opened, *of.actions]
    return Section(
        "actions",
        "Actions",
        ("EU AI Act Art. 20: corrective actions", "NIST AI RMF MANAGE 4.3: response and recovery"),
        (
            told("actions", "What was done", _actions(of), evidence(*of.actions)),
            told("retrainings", "Retrainings", *_retrainings(of)),
            told("timeline", "Timeline, from the first cause", timeline(of.log, every), evidence(*every)),
        ),
    )


def _actions(of: Occurrence) -> object:
    return timeline(of.log, of.actions) if of.actions else "nothing yet"


def _retrainings(of: Occurrence) -> tuple[object, list[str]]:
    events = [event for each in of.retrainings for event in of.log.about(each)]
    rows = [(each.pk, of.log.state(each, initial="training"), of.log.about(each)[-1].reason) for each in of.retrainings]
    return table(("Retraining", "State", "Last word"), rows, none="none"), evidence(*events)


def _cause(of: Occurrence) -> Section:
    """Only what somebody said is a root cause; what the system saw stands under detection."""
    words = [
        event
        for event in of.events
        if event.actor_id is not None and event.reason and event.name in ("incident.acknowledged", "incident.resolved")
    ]
    rows = [(moment(event.at), of.log.author(event), event.name, event.reason) for event in words]
    cause = table(("At", "By", "Act", "Words"), rows, none="")
    return Section(
        "root_cause",
        "Root cause",
        ("EU AI Act Art. 73: investigation", "SR 26-2: effective challenge"),
        (said("said", "Root cause, as said", cause, evidence(*words)),),
    )


def _closure(of: Occurrence) -> Section:
    taken = first(of.events, "incident.acknowledged")
    resolved = of.resolved
    return Section(
        "closure",
        "Closure",
        ("EU AI Act Art. 73: reporting", "ISO/IEC 42001 A.8.4: communication of incidents"),
        (
            told("duty", "Whose duty", _owner(of), evidence(of.opened)),
            told("acknowledged_by", "Acknowledged by", of.log.author(taken) or "nobody", evidence(taken)),
            told("time_to_acknowledge", "Time to acknowledge", _span(of.times.acknowledged), evidence(taken)),
            told("resolved_by", "Resolved by", of.log.author(resolved) or "nobody yet", evidence(resolved)),
            told("resolved_why", "Resolved because", resolved.reason if resolved else "not yet", evidence(resolved)),
            told("time_to_resolve", "Time to resolve", _span(of.times.resolved), evidence(resolved)),
            _reopened(of),
            said("reportable", "Reportable to an authority", None),
        ),
    )


def _owner(of: Occurrence) -> str:
    duty = str(of.opened.data.get("duty", "")).replace("_", " ")
    owner = of.opened.data.get("owner")
    return f"{duty}: {owner}" if owner else duty


def _span(span: timedelta | None) -> str:
    return duration(span) or "not yet"


def _reopened(of: Occurrence) -> Field:
    events = [event for event in of.events if event.name == "incident.reopened"]
    return told("reopened", "Opened again", len(events), evidence(*events))
