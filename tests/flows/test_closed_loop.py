"""Whole journeys: from decay to a new champion without a human, and to a rethink where retraining can not help."""

from __future__ import annotations

import pytest

from audit.errors import NotPermitted
from audit.models import Event
from monitoring.actions.rethinks import approve
from monitoring.models import Incident, IncidentState, Rethink, RethinkState, Retraining, RetrainingState
from registry.models import Alias
from tests.builders import charlie, paula
from tests.flows import town

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("governed_writes")]

EXPANDING = {"name": "expanding"}
LAST_DAYS = {"name": "last-days", "days": 5}


def champion_number(place: town.Town) -> int:
    champion = place.registered_model.champion()
    return champion.number if champion else 0


def chain_of(event: Event) -> list[str]:
    """Names of the causes, first cause first."""
    names = [event.name]
    while event.cause is not None:
        event = event.cause
        names.insert(0, event.name)
    return names


def test_loop__relation_changes__a_retrained_version_promotes_itself() -> None:
    place = town.build(changes_at=town.OPENED + 12 * town.DAY, then=town.reversed_sizes, windows=[LAST_DAYS, EXPANDING])
    place.train("The first version.")
    assert place.live(lambda: champion_number(place) == 1, days=1)
    people_were_done = Event.objects.order_by("-id").values_list("id", flat=True)[0]

    assert place.live(lambda: Retraining.objects.exists(), days=30), "decay was never confirmed"
    assert place.live(lambda: champion_number(place) > 1, days=30), town.told()

    retraining = Retraining.objects.filter(state=RetrainingState.PROMOTED).get()
    champion = place.registered_model.champion()
    assert champion is not None
    assert champion.training_run is not None
    assert champion.training_run.candidate.retraining == retraining
    since = Event.objects.filter(pk__gt=people_were_done)
    assert all(event.is_automatic for event in since)
    crowned = since.filter(name="rollout.promoted").latest("id")
    assert {"decay.confirmed", "incident.opened"} & set(chain_of(crowned))
    assert Incident.objects.filter(kind="decay").get().state == IncidentState.RESOLVED


def test_loop__nothing_that_is_known_helps__a_person_decides_a_rethink() -> None:
    place = town.build(changes_at=town.OPENED + 10 * town.DAY, then=town.a_coin, windows=[LAST_DAYS])
    place.train("The first version.")
    assert place.live(lambda: champion_number(place) == 1, days=1)

    assert place.live(lambda: Rethink.objects.exists(), days=60), town.told()
    rethink = Rethink.objects.get()
    assert Alias.objects.get().version.number == 1
    trained = Retraining.objects.count()
    place.live(lambda: False, days=4)
    assert Retraining.objects.count() == trained, "automation must be off while a rethink is open"

    with pytest.raises(NotPermitted):
        approve(rethink, approach="Mine.", actor=charlie(), now=place.now)
    approve(rethink, approach="Ask the shops for their stock.", actor=paula(), now=place.now)
    rethink.refresh_from_db()
    assert rethink.state == RethinkState.APPROVED
    assert Event.objects.filter(name="rethink.approved").get().actor == paula()
