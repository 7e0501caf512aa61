"""One view edited by hand goes the way of a repository's: planned, reviewed, applied; and the review reads back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.errors import InvalidInput, NotPermitted
from features.actions.editing import edit_view
from features.definitions import ViewDefinition
from features.reviewed import review_of, said_of
from tests.builders import NOON, alice, charlie
from tests.features.store import HOUR, SELECT, entity, published, reading, source

pytestmark = pytest.mark.django_db


def definition(**changes: object) -> ViewDefinition:
    plain = ViewDefinition(
        name="weather",
        entity="carrier_origin",
        sources=("readings",),
        expression=SELECT.format("readings"),
        owner="delay-science",
        features=tuple({"name": name} for name in ("temp", "seats", "tag", "wet")),
        event_timestamp="happened",
        known_at="arrived",
        lookback=0 * HOUR,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # values by name


def test_edit__a_new_view__is_a_reviewed_draft() -> None:
    entity()
    source([reading(hour) for hour in range(4)])
    version = edit_view(definition(), actor=alice(), now=NOON)
    review = review_of(version)
    assert (str(version), version.state) == ("weather@1", "draft")
    assert review is not None
    assert "first version" in review.headline


def test_edit__another_meaning__is_the_next_version_with_the_values_it_alters() -> None:
    published(source([reading(hour, temp=float(hour)) for hour in range(4)]))
    warmer = SELECT.format("readings").replace(" temp,", " temp + 1 AS temp,")
    version = edit_view(definition(expression=warmer), actor=alice(), now=NOON)
    review = review_of(version)
    assert str(version) == "weather@2"
    assert review is not None
    assert review.before == "weather@1"
    temp = next(each for each in review.features if each.name == "temp")
    assert temp.differing > 0
    assert "→" in temp.examples[0]
    assert [each.differing for each in review.features if each.name != "temp"] == [0, 0, 0]
    assert "% of the sampled cells of weather@1" in review.headline


def test_edit__the_same_meaning__gives_the_version_that_is_there() -> None:
    version = published(source([reading()]))
    assert edit_view(definition(), actor=alice(), now=NOON) == version


def test_edit__what_exists_under_another_name__is_told_with_its_owner() -> None:
    published(source([reading(hour) for hour in range(4)]), name="climate")
    review = review_of(edit_view(definition(), actor=alice(), now=NOON))
    assert review is not None
    assert [said_of(each) for each in review.look_alikes if each.feature == "temp"] == [
        "climate@1.temp of delay-science: same expression"
    ]


def test_edit__what_can_not_be_computed__is_refused_by_the_field() -> None:
    entity()
    source()
    with pytest.raises(InvalidInput) as refused:
        edit_view(definition(expression="SELECT nothing FROM readings"), actor=alice(), now=NOON)
    assert set(refused.value.errors) <= {"features", "event_timestamp", "known_at", "expression"}
    with pytest.raises(InvalidInput) as refused:
        edit_view(definition(ttl=-1 * HOUR), actor=alice(), now=NOON)
    assert set(refused.value.errors) == {"ttl"}


def test_edit__by_a_stranger__is_refused() -> None:
    published(source())
    with pytest.raises(NotPermitted):
        edit_view(definition(ttl=HOUR), actor=charlie(), now=NOON)
