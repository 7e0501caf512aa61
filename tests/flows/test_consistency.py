"""A whole journey: a value in the online store is falsified; the audit finds it, the gates refuse, the mend frees."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest

from audit import clock
from audit.models import Event
from features import online
from features.models import ConsistencyCheck, FeatureViewVersion
from gates.models import GateRun
from jobs.drain import drain
from jobs.run import enqueue
from monitoring.models import Incident
from registry.models import ModelVersion
from tests.flows import town

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


def falsify(shop: str, size: float, *, now: datetime) -> None:
    """Write another size of a shop into the online store, as something newer than the feature store knows."""
    values = {"event_timestamp": [now], "known_at": [now], "size": [size]}
    online.write(FeatureViewVersion.objects.get(), pa.table({"shop": [shop], **values}))


def mend() -> None:
    """Empty the store: the next materialization fills it anew."""
    online.store().forget(FeatureViewVersion.objects.get().pk)


def audited(place: town.Town) -> ConsistencyCheck:
    """A day goes by, then what was served is audited: the check."""
    place.live(lambda: False, days=1)
    with clock.at(place.now):
        enqueue("monitoring.consistency", key=f"audit@{place.now}")
        drain()
    return ConsistencyCheck.objects.get(at=place.now)


def newest_gates(place: town.Town) -> tuple[ModelVersion, GateRun]:
    version = place.registered_model.versions.latest("number")
    return version, version.gate_runs.latest("number")


def test_falsified_value__is_found_stops_candidates_and_its_mend_lets_them_pass() -> None:
    place = town.build(changes_at=town.OPENED + 400 * town.DAY, then=town.steady, windows=[{"name": "expanding"}])
    place.train("The first version.")
    assert place.live(lambda: place.registered_model.champion() is not None, days=1)
    clean = audited(place)
    assert (clean.differing, Incident.objects.count()) == (0, 0)
    assert clean.cells > 100

    falsify("s3", 33.0, now=place.now)
    found = audited(place)

    assert found.features["size"]["differing"] == found.differing > 0
    assert {each["entity"]["shop"] for each in found.examples} == {"s3"}
    assert {(each["served"], each["recomputed"]) for each in found.examples} == {("33.0", "3.0")}
    incident = Incident.objects.get(kind="consistency")
    assert (incident.duty, incident.owner) == ("platform", place.registered_model.platform)
    assert incident.evidence["live_models"] == ["late-arrival"]
    assert f"{found.differing} of {found.cells}" in incident.detail
    opened = Event.objects.about(incident).get(name="incident.opened")
    assert opened.cause is not None
    assert (opened.cause.name, opened.cause.data["differing"]) == ("consistency.breached", found.differing)

    place.train("A candidate while the store is wrong.")
    version, gates = newest_gates(place)
    refused = gates.results.get(kind="feature_consistency")
    assert (gates.state, refused.verdict) == ("failed", "failed")
    assert "shop_facts@1 size" in refused.message
    assert not version.rollouts.exists()

    mend()
    assert audited(place).differing == 0
    assert Incident.objects.get(kind="consistency").state == "resolved"
    assert "all agree" in Incident.objects.get(kind="consistency").state_reason

    place.train("A candidate after the mend.")
    version, gates = newest_gates(place)
    assert gates.results.get(kind="feature_consistency").verdict == "passed"
    assert version.rollouts.exists()
    in_shadow = audited(place)
    assert in_shadow.differing == 0
    assert in_shadow.cells > clean.cells, "the champion's values and the candidate's"
