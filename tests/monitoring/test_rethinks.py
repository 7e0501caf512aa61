"""The system asks, a person with the duty answers, once."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from audit.errors import AlreadyExists, InvalidInput, NotPermitted, TransitionError
from audit.models import Event
from monitoring.actions import rethinks
from monitoring.models import Rethink
from tests import builders
from tests.builders import NOON, ROBOT

pytestmark = pytest.mark.django_db


def a_rethink() -> Rethink:
    return rethinks.propose_rethink(
        registered_model=builders.registered_model(),
        question="What next?",
        evidence={"tried": [1, 2], "cost": 3.5},
        due_in=timedelta(days=7),
        actor=ROBOT,
        now=NOON,
    )


def test_propose__evidence__is_frozen_with_its_digest() -> None:
    rethink = a_rethink()
    assert rethink.evidence_digest == rethinks.digest({"cost": 3.5, "tried": [1, 2]})
    with pytest.raises(IntegrityError), transaction.atomic():
        Rethink.objects.filter(pk=rethink.pk).update(evidence={})


def test_propose__one_is_proposed__is_refused() -> None:
    a_rethink()
    with pytest.raises(AlreadyExists):
        a_rethink()


@pytest.mark.parametrize("who", [builders.alice, builders.paula])
def test_approve__data_science_or_product__decides_and_is_named(who: Any) -> None:
    rethink = a_rethink()
    rethinks.approve(rethink, approach="Add the crew schedule.", actor=who(), now=NOON)
    rethink.refresh_from_db()
    assert (rethink.state, rethink.decided_by, rethink.approach) == ("approved", who(), "Add the crew schedule.")
    event = Event.objects.get(name="rethink.approved")
    assert (event.actor, event.data["evidence_digest"]) == (who(), rethink.evidence_digest)


@pytest.mark.parametrize("who", [builders.charlie, builders.audrey, builders.pete])
def test_approve__without_the_duty__is_refused(who: Any) -> None:
    rethink = a_rethink()
    with pytest.raises(NotPermitted):
        rethinks.approve(rethink, approach="x", actor=who(), now=NOON)
    rethink.refresh_from_db()
    assert rethink.state == "proposed"


def test_approve__superuser_without_the_duty__is_refused() -> None:
    with pytest.raises(NotPermitted):
        rethinks.approve(a_rethink(), approach="x", actor=builders.person("root", is_superuser=True), now=NOON)


def test_approve__service__is_refused() -> None:
    with pytest.raises(NotPermitted, match="person"):
        rethinks.approve(a_rethink(), approach="x", actor=ROBOT, now=NOON)


def test_approve__twice__is_refused_the_second_time() -> None:
    rethink, same = a_rethink(), Rethink.objects.get()
    rethinks.approve(rethink, approach="x", actor=builders.alice(), now=NOON)
    with pytest.raises(TransitionError):
        rethinks.approve(same, approach="y", actor=builders.paula(), now=NOON)
    with pytest.raises(TransitionError):
        rethinks.decline(rethink, reason="no", actor=builders.paula(), now=NOON)


def test_approve__no_approach__is_refused_by_field() -> None:
    with pytest.raises(InvalidInput) as refused:
        rethinks.approve(a_rethink(), approach=" ", actor=builders.alice(), now=NOON)
    assert "approach" in refused.value.errors


def test_close__after_approval__is_a_persons_word() -> None:
    rethink = a_rethink()
    rethinks.approve(rethink, approach="x", actor=builders.paula(), now=NOON)
    with pytest.raises(NotPermitted):
        rethinks.close(rethink, reason="done", actor=ROBOT, now=NOON)
    rethinks.close(rethink, reason="The crew schedule is in.", actor=builders.alice(), now=NOON)
    assert rethink.state == "closed"
