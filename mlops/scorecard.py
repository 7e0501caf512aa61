"""Is this model fit to serve today? Eight checks, each with its reason and the duty that has to act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from features.freshness import stale_sources, stale_views
from gates.models import GateRun
from monitoring.models import DriftKind, DriftRun, Incident, IncidentState, RethinkState
from registry.models import Alias, Duty, RegisteredModel
from rollout.models import ACTIVE

OLD_CHAMPION = timedelta(days=120)


@dataclass(frozen=True)
class Check:
    """One line of the scorecard. ``tone`` is good, warn, bad or none (nothing known, which is itself a finding)."""

    name: str
    tone: str
    said: str
    duty: Duty

    @property
    def word(self) -> str:
        return {"good": "fine", "warn": "look", "bad": "act", "none": "no data"}[self.tone]


def scorecard(registered_model: RegisteredModel, *, now: datetime) -> list[Check]:
    """The checks of one model at ``now``, in the order a product owner reads them."""
    return [
        _champion(registered_model, now),
        _gates(registered_model),
        _rollout(registered_model),
        _performance(registered_model),
        _drift(registered_model),
        _sources(registered_model, now),
        _incidents(registered_model),
        _automation(registered_model),
    ]


def _champion(registered_model: RegisteredModel, now: datetime) -> Check:
    alias = registered_model.aliases.filter(name=Alias.CHAMPION).select_related("version").first()
    if alias is None:
        return Check("Champion", "none", "No version serves yet: register one.", Duty.DATA_SCIENCE)
    age = now - alias.since
    said = f"v{alias.version.number} serves for {age.days} days."
    return Check("Champion", "warn" if age > OLD_CHAMPION else "good", said, Duty.PRODUCT)


def _gates(registered_model: RegisteredModel) -> Check:
    run = GateRun.objects.filter(registered_model=registered_model).select_related("version").first()
    if run is None:
        return Check("Gates", "none", "No version has been judged yet.", Duty.DATA_SCIENCE)
    tone = {"passed": "good", "open": "warn", "running": "warn"}.get(run.state, "warn")
    return Check("Gates", tone, f"v{run.version.number}: {run.state_reason or run.state}", Duty.DATA_SCIENCE)


def _rollout(registered_model: RegisteredModel) -> Check:
    active = registered_model.rollouts.filter(state__in=ACTIVE).select_related("version").first()
    if active:
        return Check("Rollout", "good", f"v{active.version.number} is in {active.state}.", Duty.DATA_SCIENCE)
    last = registered_model.rollouts.exclude(state="pending").select_related("version").first()
    if last is None:
        return Check("Rollout", "none", "No candidate has been rolled out yet.", Duty.DATA_SCIENCE)
    return Check(
        "Rollout",
        "good",
        f"None under way; the last one: v{last.version.number} {last.state.replace('_', ' ')}.",
        Duty.DATA_SCIENCE,
    )


def _performance(registered_model: RegisteredModel) -> Check:
    return _watched(registered_model, DriftKind.PERFORMANCE, "Performance")


def _drift(registered_model: RegisteredModel) -> Check:
    return _watched(registered_model, DriftKind.DRIFT, "Drift")


def _watched(registered_model: RegisteredModel, kind: DriftKind, name: str) -> Check:
    run = DriftRun.objects.filter(registered_model=registered_model, kind=kind).first()
    if run is None:
        return Check(name, "none", "Not watched yet: no window has closed.", Duty.DATA_SCIENCE)
    tone = {"passed": "good", "inconclusive": "none", "error": "bad"}.get(
        run.verdict, "bad" if run.confirmed else "warn"
    )
    return Check(name, tone, run.summary, Duty.DATA_SCIENCE)


def _sources(registered_model: RegisteredModel, now: datetime) -> Check:
    """Whether the sources and views under the champion keep their promises of freshness."""
    champion = registered_model.champion()
    views, sources = set(), set()
    if champion and champion.service:
        pinned = champion.service.features.values_list("view_version", "view_version__sources__name")
        views, sources = {view for view, _ in pinned}, {source for _, source in pinned}
    stale = [each.source.name for each in stale_sources(now=now) if each.source.name in sources]
    stale += [str(each.version) for each in stale_views(now=now) if each.version.pk in views]
    if not stale:
        return Check("Feature freshness", "good", "Every source and view keeps its promise.", Duty.PLATFORM)
    return Check("Feature freshness", "bad", f"Stale: {', '.join(stale)}.", Duty.PLATFORM)


def _incidents(registered_model: RegisteredModel) -> Check:
    count = Incident.objects.filter(registered_model=registered_model).exclude(state=IncidentState.RESOLVED).count()
    said = f"{count} not resolved." if count else "None open."
    return Check("Incidents", "bad" if count else "good", said, Duty.DATA_SCIENCE)


def _automation(registered_model: RegisteredModel) -> Check:
    if registered_model.rethinks.filter(state=RethinkState.PROPOSED).exists():
        return Check("Automation", "bad", "Off: a rethink waits for a decision.", Duty.PRODUCT)
    if not registered_model.automation:
        return Check("Automation", "warn", "Switched off.", Duty.DATA_SCIENCE)
    return Check("Automation", "good", "On: confirmed drift retrains by itself.", Duty.DATA_SCIENCE)
