"""Incidents about what carries the models: routing, one per cause, closed with it."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from features.freshness import StaleSource, StaleView
from features.models import DataSource, Entity, FeatureServiceFeature, FeatureView, FeatureViewVersion
from jobs.models import Job, JobState
from monitoring.actions import upkeep
from monitoring.models import Incident
from monitoring.reactions import on_rollout_ended, on_rollout_held
from registry.models import TrainingRun
from rollout.models import Rollout
from tests import builders
from tests.builders import NOON, ROBOT
from tests.monitoring.scene import Scene, a_version, live, passed_gates, pipeline, tell

pytestmark = pytest.mark.django_db


def weather(owner: str = "weather-desk") -> DataSource:
    return DataSource.objects.create(
        name="weather",
        uri="weather.parquet",
        event_timestamp="at",
        freshness=timedelta(hours=3),
        owner=builders.group(owner),
    )


def fed(scene: Scene, source: DataSource) -> None:
    """Let the champion's service pin a view over the source."""
    entity = Entity.objects.create(name="origin", join_keys=["origin"])
    view = FeatureView.objects.create(name="weather", entity=entity, owner=source.owner)
    version = FeatureViewVersion.objects.create(
        view=view, number=1, expression="", features=[], content_hash="x", state="published", created_at=NOON
    )
    version.sources.add(source)
    FeatureServiceFeature.objects.create(service=scene.service, view_version=version, feature="wind", position=9)


def stale(source: DataSource, hours: int = 5) -> StaleSource:
    age = timedelta(hours=hours)
    return StaleSource(source, NOON - age, timedelta(hours=3), age, f"The newest row is {hours} h old.")


def report(*found: StaleSource, days: int = 0) -> None:
    upkeep.report_stale_sources(found, actor=ROBOT, now=NOON + timedelta(days=days))


def test_stale_source__feeds_a_live_model__names_it_and_goes_to_who_promised() -> None:
    scene, source = live(dataset=False), weather()
    fed(scene, source)
    report(stale(source))
    incident = Incident.objects.get()
    assert (incident.duty, incident.severity, incident.registered_model) == ("platform", "high", scene.registered_model)
    assert incident.owner == source.owner
    assert "late-arrival" in incident.detail
    assert incident.evidence["live_models"] == ["late-arrival"]


def test_stale_source__feeds_nothing__is_of_low_severity() -> None:
    report(stale(weather()))
    assert Incident.objects.get().severity == "low"


def test_stale_source__still_stale__is_the_same_incident() -> None:
    source = weather()
    report(stale(source))
    report(stale(source, hours=11))
    incident = Incident.objects.get()
    assert (incident.occurrences, incident.evidence["age_hours"]) == (2, 11)


def test_stale_source__fresh_again__closes_by_itself() -> None:
    report(stale(weather()))
    report()
    incident = Incident.objects.get()
    assert (incident.state, incident.state_reason) == ("resolved", "The source is fresh again.")


def dead(kind: str, key: str) -> Job:
    return Job.objects.create(
        kind=kind,
        key=key,
        state=JobState.DEAD,
        attempts=4,
        error="Traceback\nOSError: disk full",
        started_at=timezone.now(),
    )


def test_dead_jobs__two_of_one_kind__are_one_incident_for_platform() -> None:
    builders.registered_model()
    dead("features.materialize_due", "a")
    dead("features.materialize_due", "b")
    upkeep.report_dead_jobs(actor=ROBOT, now=NOON)
    incident = Incident.objects.get()
    assert (incident.duty, incident.evidence["count"]) == ("platform", 2)
    assert incident.owner == builders.group("delay-platform")
    assert "OSError: disk full" in incident.detail


def test_dead_jobs__redelivered__closes_the_incident() -> None:
    job = dead("features.materialize_due", "a")
    upkeep.report_dead_jobs(actor=ROBOT, now=NOON)
    Job.objects.filter(pk=job.pk).update(state=JobState.QUEUED)
    upkeep.report_dead_jobs(actor=ROBOT, now=NOON)
    assert Incident.objects.get().state == "resolved"


def a_training(scene: Scene, state: str) -> TrainingRun:
    made = scene.registered_model.pipelines.first() or pipeline(scene.registered_model, scene.service, "expanding")
    run = TrainingRun.objects.create(
        registered_model=scene.registered_model, pipeline=made, trigger="person", state="running", requested_at=NOON
    )
    run.move(state, actor=ROBOT, reason="test")
    return run


def test_failed_training__pipeline_succeeds_later__closes_by_itself() -> None:
    scene = live(dataset=False)
    upkeep.report_failed_training(a_training(scene, "failed"), actor=ROBOT, now=NOON)
    upkeep.close_mended_trainings(actor=ROBOT, now=NOON)
    assert Incident.objects.get().state == "open"
    a_training(scene, "succeeded")
    upkeep.close_mended_trainings(actor=ROBOT, now=NOON)
    assert Incident.objects.get().state == "resolved"


def a_rollout(scene: Scene, **fields: Any) -> Rollout:
    version = a_version(scene.registered_model, service=scene.service)
    values = {"plan": {}, "salt": str(version.pk), "state": "pending", "created_at": NOON, **fields}
    rollout = Rollout.objects.create(
        endpoint=scene.endpoint,
        registered_model=scene.registered_model,
        version=version,
        gate_run=passed_gates(version),
        **values,
    )
    rollout.move("shadow", actor=ROBOT, reason="test")
    return rollout


def test_held_rollout__is_an_incident_until_it_ends() -> None:
    rollout = a_rollout(live(dataset=False))
    tell(on_rollout_held, rollout, now=NOON)
    assert (Incident.objects.get().kind, Incident.objects.get().duty) == ("stuck", "data_science")
    rollout.move("aborted", actor=ROBOT, reason="test", ended_at=NOON)
    tell(on_rollout_ended, rollout, now=NOON)
    assert Incident.objects.get().state == "resolved"


def test_rolled_back__later_version_promoted__closes_by_itself() -> None:
    scene = live(dataset=False)
    rollout = a_rollout(scene)
    rollout.move("rolled_back", actor=ROBOT, reason="worse", ended_at=NOON)
    tell(on_rollout_ended, rollout, now=NOON)
    assert Incident.objects.get().state == "open"
    better = a_rollout(scene)
    better.move("canary", actor=ROBOT, reason="test")
    better.move("promoted", actor=ROBOT, reason="better", ended_at=NOON)
    tell(on_rollout_ended, better, now=NOON)
    assert Incident.objects.get().state == "resolved"


def stale_view(version: FeatureViewVersion, hours: int = 5) -> StaleView:
    age = timedelta(hours=hours)
    return StaleView(version, NOON - age, timedelta(hours=3), age, f"Its newest value is {hours} h old.")


def test_stale_view__hurts_champion_and_candidate__names_both_and_goes_to_platform() -> None:
    scene, source = live(dataset=False), weather()
    fed(scene, source)
    a_rollout(scene)
    version = FeatureViewVersion.objects.get()
    upkeep.report_stale_views([stale_view(version)], actor=ROBOT, now=NOON)
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty, incident.severity) == ("freshness", "platform", "high")
    assert incident.owner == scene.registered_model.platform
    assert incident.title == "Feature view weather@1 is stale"
    assert incident.evidence["hurts"] == ["late-arrival v1 (champion)", "late-arrival v2 (shadow)"]
    assert (incident.evidence["promise_hours"], incident.evidence["age_hours"]) == (3, 5)


def test_stale_view__and_its_source__are_two_incidents_that_close_each_with_its_own_cause() -> None:
    scene, source = live(dataset=False), weather()
    fed(scene, source)
    version = FeatureViewVersion.objects.get()
    upkeep.report_stale_views([stale_view(version)], actor=ROBOT, now=NOON)
    report(stale(source))
    assert Incident.objects.filter(state="open").count() == 2
    report()
    assert Incident.objects.get(state="open").evidence["view"] == "weather@1"
    upkeep.report_stale_views([], actor=ROBOT, now=NOON)
    assert not Incident.objects.filter(state="open").exists()


def test_stale_source__hurts_a_candidate_too__names_it() -> None:
    scene, source = live(dataset=False), weather()
    fed(scene, source)
    a_rollout(scene)
    report(stale(source))
    assert "late-arrival v1 (champion), late-arrival v2 (shadow)" in Incident.objects.get().detail
