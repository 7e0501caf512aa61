"""Values that were served otherwise than training sees them: one incident per view version, closed with the cause."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import Event
from features.models import ConsistencyCheck, FeatureService, FeatureViewVersion
from monitoring.actions.consistency import report_consistency
from monitoring.models import Incident
from registry.models import RegisteredModel
from rollout.models import Endpoint
from tests import builders
from tests.builders import NOON, ROBOT
from tests.features.store import HOUR, at, published, reading, service, source
from tests.monitoring.scene import a_version, passed_gates, serve

pytestmark = pytest.mark.django_db


def weather() -> FeatureViewVersion:
    return published(source([reading(1)]))


def live(name: str = "late-arrival", **fields: Any) -> RegisteredModel:
    """A model whose champion takes the weather."""
    registered_model = builders.registered_model(name, **fields)
    Endpoint.objects.create(
        name=name,
        title=name,
        registered_model=registered_model,
        entity_column="carrier",
        outcome_window=HOUR,
        created_at=NOON,
    )
    crown(registered_model, service("weather.temp"))
    return registered_model


def crown(registered_model: RegisteredModel, of: FeatureService) -> None:
    version = a_version(registered_model, service=of)
    serve(version, passed_gates(version), since=NOON)


def checked(version: FeatureViewVersion, hour: float, *, cells: int = 100, differing: int = 0) -> ConsistencyCheck:
    example = {"entity": {"origin": "EWR"}, "at": "noon", "feature": "temp", "served": "9.0", "recomputed": "1.0"}
    return ConsistencyCheck.objects.create(
        view_version=version,
        at=at(hour),
        since=at(hour - 1),
        cells=cells,
        differing=differing,
        features={"temp": {"cells": cells, "differing": differing, "late": 0}},
        examples=[example] if differing else [],
    )


def report(*checks: ConsistencyCheck, hour: float) -> None:
    report_consistency(checks, actor=ROBOT, now=at(hour))


def test_above_the_limit__names_features_numbers_examples_and_models_and_goes_to_platform() -> None:
    version = weather()
    live()
    report(checked(version, 1, differing=8), hour=1)
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty, incident.severity) == ("consistency", "platform", "high")
    assert incident.owner == builders.group("delay-platform")
    assert incident.title == "weather@1 serves other values than training sees: temp"
    for said in ("8 of 100", "8.00%", "temp 8 of 100", "late-arrival v1 (champion)", "served 9.0, recomputed 1.0"):
        assert said in incident.detail
    assert incident.evidence["features"] == {"temp": {"cells": 100, "differing": 8, "late": 0}}
    assert (incident.evidence["live_models"], incident.evidence["limit"]) == (["late-arrival"], 0.0)


def test_above_the_limit__is_an_event_of_the_view_that_causes_the_incident() -> None:
    version = weather()
    report(checked(version, 1, differing=8), hour=1)
    breached = Event.objects.about(version).get(name="consistency.breached")
    assert (breached.data["differing"], breached.data["cells"]) == (8, 100)
    opened = Event.objects.about(Incident.objects.get()).get(name="incident.opened")
    assert opened.cause == breached


def test_still_above__is_the_same_incident_with_the_newest_numbers() -> None:
    version = weather()
    report(checked(version, 1, differing=8), hour=1)
    report(checked(version, 2, differing=9), hour=2)
    incident = Incident.objects.get()
    assert (incident.occurrences, incident.evidence["differing"]) == (2, 9)
    assert Event.objects.filter(name="consistency.breached").count() == 1


def test_clean_check__closes_it() -> None:
    version = weather()
    live()
    report(checked(version, 1, differing=8), hour=1)
    report(checked(version, 2), hour=2)
    incident = Incident.objects.get()
    assert (incident.state, incident.state_reason) == ("resolved", "100 served values were recomputed and all agree.")


def test_clean_check_of_few_values__proves_nothing_yet() -> None:
    version = weather()
    live()
    report(checked(version, 1, differing=8), hour=1)
    report(checked(version, 2, cells=20), hour=2)
    assert Incident.objects.get().state == "open"
    report(checked(version, 3, cells=20), hour=3)
    assert Incident.objects.get().state == "resolved"


def test_within_the_views_limit__is_no_incident() -> None:
    version = weather()
    version.view.consistency_limit = 0.1
    version.view.save()
    report(checked(version, 1, differing=8), hour=1)
    assert not Incident.objects.exists()


def test_nothing_served_since__stays_open_while_a_live_model_takes_it() -> None:
    version = weather()
    published(source([reading(1)]), name="wind")
    registered_model = live()
    report(checked(version, 1, differing=8), hour=1)
    report(hour=2)
    assert Incident.objects.get().state == "open"
    crown(registered_model, service("wind.temp", name="other"))
    report(hour=3)
    assert Incident.objects.get().state == "resolved"


def test_two_models_of_two_teams__every_platform_group_may_act() -> None:
    version = weather()
    live()
    live("other", platform=builders.group("other-platform"))
    report(checked(version, 1, differing=8), hour=1)
    incident = Incident.objects.get()
    assert (incident.owner, incident.registered_model) == (None, None)
    assert incident.evidence["live_models"] == ["late-arrival", "other"]
