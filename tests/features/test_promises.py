"""A view's promise: set by its owners, recorded once, judged from then on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit.errors import InvalidInput, NotPermitted
from audit.models import Event
from features.actions.promises import promise
from tests.builders import NOON, alice, charlie
from tests.features.store import HOUR, applied, source

pytestmark = pytest.mark.django_db


def test_promise__by_the_owner__is_kept_and_recorded_once() -> None:
    view = applied(source()).view
    for _ in range(2):
        promise(view, freshness=6 * HOUR, consistency_limit=0.01, actor=alice(), reason="Agreed.", now=NOON)
    view.refresh_from_db()
    assert (view.freshness, view.consistency_limit) == (6 * HOUR, 0.01)
    event = Event.objects.get(name="view.promised")
    assert event.reason == "Agreed."
    assert event.data["before"] == {"freshness_seconds": None, "consistency_limit": 0.0}
    assert event.data["after"] == {"freshness_seconds": 21_600.0, "consistency_limit": 0.01}


def test_promise__by_a_stranger__is_refused() -> None:
    view = applied(source()).view
    with pytest.raises(NotPermitted, match="delay-science"):
        promise(view, freshness=None, consistency_limit=0.5, actor=charlie(), reason="Mine.", now=NOON)
    assert not Event.objects.filter(name="view.promised").exists()


def test_promise__that_can_not_be_kept_or_read__names_every_field() -> None:
    view = applied(source()).view
    with pytest.raises(InvalidInput) as refused:
        promise(view, freshness=timedelta(0), consistency_limit=1.0, actor=alice(), reason=" ", now=NOON)
    assert set(refused.value.errors) == {"freshness", "consistency_limit", "reason"}
