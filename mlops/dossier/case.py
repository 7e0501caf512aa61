"""One version and what the log up to a position knows around it: what every section reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from audit.errors import NotFound
from audit.models import Event
from gates.models import ENDED, CheckResult, GateRun, GateRunState
from mlops.dossier.log import Log, first
from monitoring.models import Incident
from registry.models import ModelCard, ModelVersion, TrainingRun
from rollout.models import Rollout

WORDS = ("title", "description", "task")
OWNED = ("tier", "data_science", "platform", "product")


@dataclass(frozen=True)
class Period:
    """A time as champion: the event that began it, and the one that ended it (None: it lasted)."""

    began: Event
    ended: Event | None

    def contains(self, at: datetime) -> bool:
        return self.began.at <= at and (self.ended is None or at < self.ended.at)


class Case:
    """Raises NotFound for a version that the log did not know yet at its position."""

    def __init__(self, version: ModelVersion, log: Log) -> None:
        self.version, self.log = version, log
        found = first(log.about(version), "model_version.registered")
        if found is None:
            raise NotFound(f"The log does not know {version} at position {log.position}.")
        self.registered: Event = found

    # ------------------------------------------------------------------ the model, as it was

    @cached_property
    def founded(self) -> Event | None:
        return first(self.log.about(self.version.registered_model), "registered_model.created")

    @cached_property
    def model_changes(self) -> list[Event]:
        events = self.log.about(self.version.registered_model)
        return [event for event in events if event.name == "registered_model.changed"]

    def of_model(self, name: str) -> tuple[Any, Event | None]:
        """What was said of the registered model (title, tier, an owner's group), with the event that said it."""
        for event in reversed(self.model_changes):
            if name in event.data["after"]:
                return event.data["after"][name], event
        if self.founded is not None and name in self.founded.data:
            return self.founded.data[name], self.founded
        return None, None

    @cached_property
    def card(self) -> tuple[ModelCard | None, Event | None]:
        """The model card in force, with the event of its writing."""
        written = self.log.of_kind(ModelCard._meta.label_lower)
        if not written:
            return None, None
        return ModelCard.objects.get(pk=written[-1].subject_id), written[-1]

    # ------------------------------------------------------------------ its training, its gates

    @cached_property
    def run(self) -> TrainingRun | None:
        """The run that made it, once that had ended; until then it may still change."""
        run = self.version.training_run
        return run if run is not None and self.log.state(run, initial="requested") == "succeeded" else None

    @cached_property
    def gate_runs(self) -> list[GateRun]:
        """Those opened by then, oldest first."""
        rows = GateRun.objects.filter(version=self.version).select_related(
            "policy__created_by", "champion", "holdout", "registered_model", "version"
        )
        return [row for row in rows.order_by("number") if self.log.knows(row)]

    def gate_state(self, run: GateRun) -> str:
        return self.log.state(run, initial=GateRunState.OPEN)

    @cached_property
    def judged(self) -> GateRun | None:
        """The gate run that counts: the last that had ended."""
        ended = [run for run in self.gate_runs if self.gate_state(run) in ENDED]
        return ended[-1] if ended else None

    @cached_property
    def judgement(self) -> Event | None:
        """The event of its conclusion."""
        return self.log.about(self.judged)[-1] if self.judged is not None else None

    @cached_property
    def results(self) -> list[CheckResult]:
        """What each of its checks measured."""
        return list(self.judged.results.order_by("id")) if self.judged is not None else []

    # ------------------------------------------------------------------ its way, its life

    @cached_property
    def rollouts(self) -> list[Rollout]:
        """Those proposed by then, oldest first."""
        rows = Rollout.objects.filter(version=self.version).select_related("endpoint", "version__registered_model")
        return [row for row in rows.order_by("id") if self.log.knows(row)]

    @cached_property
    def way(self) -> list[tuple[Rollout, Event]]:
        """Every step of every rollout, in the log's order."""
        steps = [(rollout, event) for rollout in self.rollouts for event in self.log.about(rollout)]
        return sorted(steps, key=lambda step: step[1].link.position)

    @cached_property
    def periods(self) -> list[Period]:
        """When it was the model's champion."""
        found: list[Period] = []
        began: Event | None = None
        for event in self.log.named("alias.champion_moved"):
            is_it = event.data.get("to") == self.version.number
            if is_it and began is None:
                began = event
            elif not is_it and began is not None:
                found.append(Period(began, event))
                began = None
        return [*found, Period(began, None)] if began is not None else found

    @property
    def serves(self) -> bool:
        return bool(self.periods) and self.periods[-1].ended is None

    @cached_property
    def incidents(self) -> list[Incident]:
        """About this version, or about its model while it was champion, oldest first."""
        rows = Incident.objects.filter(registered_model=self.version.registered_model).order_by("id")
        known = [row for row in rows if self.log.knows(row)]
        return [row for row in known if row.version_id == self.version.pk or self._hit(row)]

    def _hit(self, incident: Incident) -> bool:
        if incident.version_id is not None:
            return False
        return any(period.contains(self.log.about(incident)[0].at) for period in self.periods)
