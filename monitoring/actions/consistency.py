"""Incidents about values that were served otherwise than training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from audit.trail import Actor, because_of, record
from features.consistency import standings
from features.models import ConsistencyCheck, FeatureViewVersion
from monitoring import exposure
from monitoring.actions.incidents import raise_incident, resolve, resolve_cause
from monitoring.models import Incident, IncidentKind, IncidentState
from registry.models import Duty

NAMED = 5
"""How many features a text names."""
MEMORY = timedelta(days=7)
"""Audits further back say nothing about today."""


def report_consistency(checks: Sequence[ConsistencyCheck], *, actor: Actor, now: datetime) -> None:
    """One incident per view version whose check is above its limit; it closes when checks that are not follow.

    One is enough when it recomputed enough of each feature to have met a fault of that size (``Standing.is_broken``).
    A version that nobody was served since, and that no live model takes any more, hurts nobody: its incident closes
    too.
    """
    for each in checks:
        if each.is_above_limit:
            _breached(each, actor=actor, now=now)
        elif _is_over(each.view_version, now):
            reason = f"{each.cells:,} served values were recomputed and {_agree(each)}."
            resolve_cause(_cause(each.view_version), actor=actor, reason=reason, now=now)
    audited = {_cause(each.view_version) for each in checks}
    for incident in unresolved():
        if incident.cause_key not in audited and not _is_taken(incident):
            reason = "No live model takes this version any more, and nobody else was served it."
            resolve(incident, actor=actor, reason=reason, now=now)


def unresolved() -> list[Incident]:
    """The incidents of views that are still above their limit, as far as the last audit knows."""
    open_ones = Incident.objects.filter(kind=IncidentKind.CONSISTENCY).exclude(state=IncidentState.RESOLVED)
    return list(open_ones.order_by("id"))


def _cause(version: FeatureViewVersion) -> str:
    return f"{IncidentKind.CONSISTENCY}:{version}"


def _is_over(version: FeatureViewVersion, now: datetime) -> bool:
    found = standings(version, since=now - MEMORY, until=now)
    return not any(each.is_broken for each in found.values())


def _agree(check: ConsistencyCheck) -> str:
    if not check.differing:
        return "all agree"
    return f"{check.share:.2%} differ, within the limit of {check.view_version.view.consistency_limit:.2%}"


def _is_taken(incident: Incident) -> bool:
    version = FeatureViewVersion.objects.filter(pk=incident.evidence.get("view_version")).first()
    return version is not None and bool(exposure.consumers([version]))


def _breached(check: ConsistencyCheck, *, actor: Actor, now: datetime) -> Incident:
    """The first time an event about the view version causes the incident; seen again, the incident shows the newest."""
    version = check.view_version
    hurt = exposure.consumers([version])
    evidence = _evidence(check, hurt)
    cause = _cause(version)
    is_new = all(each.cause_key != cause for each in unresolved())
    told = f"{check.differing:,} of {check.cells:,} served values of {version} differ from their recomputation."
    event = record("consistency.breached", version, actor=actor, reason=told, data=evidence) if is_new else None
    with because_of(event):
        return raise_incident(
            kind=IncidentKind.CONSISTENCY,
            duty=Duty.PLATFORM,
            registered_model=exposure.only_model(hurt),
            version=None,
            cause_key=cause,
            title=f"{version} serves other values than training sees: {_features(check, numbers=False)}",
            detail=_detail(check, hurt),
            evidence=evidence,
            severity=exposure.severity(hurt),
            actor=actor,
            now=now,
            owner=exposure.platform_group(hurt),
        )


def _evidence(check: ConsistencyCheck, hurt: Sequence[exposure.Exposed]) -> dict[str, Any]:
    return {
        "view": str(check.view_version),
        "view_version": check.view_version.pk,
        "check": check.pk,
        "since": check.since.isoformat() if check.since else None,
        "cells": check.cells,
        "differing": check.differing,
        "share": check.share,
        "limit": check.view_version.view.consistency_limit,
        "features": {name: each for name, each in check.features.items() if each["differing"]},
        "examples": list(check.examples),
        "live_models": exposure.names(hurt),
        "hurts": [str(each) for each in hurt],
    }


def _detail(check: ConsistencyCheck, hurt: Sequence[exposure.Exposed]) -> str:
    limit = check.view_version.view.consistency_limit
    parts = [
        f"{check.differing:,} of {check.cells:,} served values ({check.share:.2%}) differ from their recomputation as "
        f"of the serving time; {limit:.2%} of a feature's are tolerated. {_features(check, numbers=True)}.",
        exposure.in_words(hurt),
    ]
    if check.examples:
        parts.append(_example(check.examples[0]))
    parts.append(
        "Look whether materialization runs on time, whether the store was written by something else, whether rows "
        "arrived late with an early arrival time, and whether the view's known-at is true."
    )
    parts.append("Until checks are clean, the gates refuse candidates that take these features.")
    return " ".join(parts)


def _features(check: ConsistencyCheck, *, numbers: bool) -> str:
    """The differing features, the worst first."""
    counts = check.features
    wrong = sorted((name for name in counts if counts[name]["differing"]), key=lambda name: -counts[name]["differing"])
    shown = [
        f"{name} {counts[name]['differing']:,} of {counts[name]['cells']:,}" if numbers else name for name in wrong
    ]
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def _example(example: dict[str, Any]) -> str:
    entity = ", ".join(f"{key} {value}" for key, value in example["entity"].items())
    return (
        f"For example {example['feature']} of {entity} at {example['at']}: served {example['served']}, "
        f"recomputed {example['recomputed']}."
    )
