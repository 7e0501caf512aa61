"""What changed with it, and how it ends: the diff to the version before, and retirement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.models import Event
from features.models import FeatureService
from mlops.dossier.case import Case
from mlops.dossier.fields import Section, cell, moment, said, table, told
from mlops.dossier.log import evidence, last, sha256
from registry.models import ModelVersion

FIRST = "It is the first version: nothing to compare with."
SAME = "the same"


def changes(case: Case) -> Section:
    """What is different from the version that served when this one was registered, else from the one before."""
    previous, event = _previous(case)
    proof = evidence(event, case.registered)
    of = case.version
    return Section(
        "changes",
        "Changes",
        (
            "EU AI Act Annex IV (6): changes through the lifecycle",
            "EU AI Act Art. 43 (4): substantial modification",
            "SR 26-2: change management",
        ),
        (
            told("previous", "Compared with", str(previous) if previous else FIRST, proof),
            told("artifact", "Artifact", _one(previous, of, "artifact_digest"), proof),
            told("data", "Data", _data(previous, of), proof),
            told("features", "Features", _features(previous, of), proof),
            told("parameters", "Hyperparameters", _mapping(previous, of, "parameters"), proof),
            told("code", "Code", _code(previous, of), proof),
            told("environment", "Environment", _mapping(previous, of, "environment"), proof),
            told("metrics", "Metrics at training", _mapping(previous, of, "metrics"), proof),
            told("said", "What is new, in the registrant's words", of.note or "nothing was said", proof),
            said("substantial", "Substantial modification", None),
        ),
    )


def _previous(case: Case) -> tuple[ModelVersion | None, Event | None]:
    """The champion at its registration, else the version registered before; with the event that tells of it."""
    before = case.registered.link.position
    crowned = [event for event in case.log.named("alias.champion_moved") if event.link.position < before]
    registered = [event for event in case.log.named("model_version.registered") if event.link.position < before]
    event = crowned[-1] if crowned else registered[-1] if registered else None
    return (ModelVersion.objects.get(pk=event.subject_id) if event else None), event


def _one(previous: ModelVersion | None, of: ModelVersion, name: str) -> str:
    if previous is None:
        return FIRST
    before, after = getattr(previous, name), getattr(of, name)
    return SAME if before == after else f"{before or 'unverified'} became {after or 'unverified'}"


def _data(previous: ModelVersion | None, of: ModelVersion) -> object:
    if previous is None:
        return FIRST
    return _differences(_dataset(previous), _dataset(of))


def _dataset(version: ModelVersion) -> dict[str, Any]:
    held = version.dataset
    if held is None:
        return {"digest": "unverified"}
    times = {"from": moment(held.time_from), "to": moment(held.time_to), "as of": moment(held.as_of)}
    return {"digest": held.digest, "rows": held.rows, "label": held.label, **times}


def _features(previous: ModelVersion | None, of: ModelVersion) -> object:
    if previous is None:
        return FIRST
    return _differences(_columns(previous.service), _columns(of.service))


def _columns(service: FeatureService | None) -> dict[str, Any]:
    """Each column of the vector, with the meaning it has."""
    if service is None:
        return {}
    asked = dict.fromkeys(service.request_features, "with the request")
    pinned = {each.column: str(each.view_version) for each in service.pinned()}
    computed = {column: str(each) for each in service.pinned_transforms() for column in each.columns}
    return {**asked, **pinned, **computed}


def _code(previous: ModelVersion | None, of: ModelVersion) -> object:
    if previous is None:
        return FIRST
    names = ("commit", "dirty", "code_digest")
    return _differences(*({name: getattr(each, name) for name in names} for each in (previous, of)))


def _mapping(previous: ModelVersion | None, of: ModelVersion, name: str) -> object:
    return FIRST if previous is None else _differences(getattr(previous, name), getattr(of, name))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> object:
    """What was added, removed or became something else, by name."""
    rows = [
        (name, cell(before[name]) if name in before else "absent", cell(after[name]) if name in after else "absent")
        for name in sorted({*before, *after}, key=str)
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]
    return table(("What", "Before", "Now"), rows, none=SAME)


# ---------------------------------------------------------------------- retirement


def retirement(case: Case) -> Section:
    """When it left, for which other version, and how long its files are kept."""
    period = case.periods[-1] if case.periods else None
    left = period.ended if period else None
    retention, kept = _retention(case)
    holds, held = _holds(case)
    removed = last(case.log.about(case.version), "artifact.removed", "model_version.purged")
    return Section(
        "retirement",
        "Retirement",
        (
            "NIST AI RMF GOVERN 1.7: decommissioning",
            "EU AI Act Art. 18: keeping of documents",
        ),
        (
            told("standing", "At this position", _standing(case), evidence(*_standing_events(case))),
            told("left_at", "Left on", moment(left.at) if left else "it has not left", evidence(left)),
            told("left_why", "Why", (left.reason or "no reason given") if left else "it has not left", evidence(left)),
            told("replaced_by", "Replaced by", _replacement(left), evidence(left)),
            told("retention", "Files are kept", retention, kept),
            told("holds", "Legal holds", holds, held),
            told("archive", "Where its files lie", *_archive(case, removed)),
            told("removed", "Files removed", _removal(removed), evidence(removed)),
        ),
    )


def _standing_events(case: Case) -> list[Event]:
    if case.periods:
        last_period = case.periods[-1]
        return [last_period.ended or last_period.began]
    if case.way:
        return [case.way[-1][1]]
    return [case.judgement] if case.judgement else [case.registered]


def _standing(case: Case) -> str:
    if case.serves:
        return "champion"
    if case.periods:
        return "replaced: it was champion"
    if case.rollouts:
        return case.log.state(case.rollouts[-1], initial="pending").replace("_", " ")
    return f"gates {case.gate_state(case.judged)}" if case.judged else "registered, not judged"


def _replacement(left: Event | None) -> str:
    return left.subject_label if left else "nothing: it has not left"


def _retention(case: Case) -> tuple[str, list[str]]:
    """The policy in force then; set by an event about the registered model."""
    event = last(case.log.about(case.version.registered_model), "registered_model.retention_set")
    days = event.data["after"] if event else None
    kept = f"{days} days, then until nothing refers to it" if days else "without end: no retention is set"
    return kept, evidence(event)


def _holds(case: Case) -> tuple[object, list[str]]:
    """Each placed and, if it was, released; both by events about the version."""
    placed = [event for event in case.log.about(case.version) if event.name == "legal_hold.placed"]
    released = {
        event.data["hold"]: event for event in case.log.about(case.version) if event.name == "legal_hold.released"
    }
    rows, proof = [], []
    for event in placed:
        end = released.get(event.data["hold"])
        proof += evidence(event, end)
        until = f"{moment(end.at)} by {case.log.author(end)}: {end.reason}" if end else "it stands"
        rows.append((moment(event.at), case.log.author(event), event.reason, until))
    return table(("Placed", "By", "Why", "Released"), rows, none="none"), proof


def _removal(removed: Event | None) -> str:
    return f"{moment(removed.at)}: {removed.reason}" if removed else "no"


def _archive(case: Case, removed: Event | None) -> tuple[str, list[str]]:
    digest = case.version.artifact_digest
    where = f"in the artifact storage, under its SHA-256 {digest}"
    return ("nowhere: they were removed" if removed else where), [*evidence(case.registered, removed), *sha256(digest)]
