"""What was looked at need not be sent again, and is changed only as it was looked at."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import Event
from registry.models import RegisteredModel
from tests.builders import alice, charlie, group, paula, registered_model
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields
from tests.races import THREADS, race

pytestmark = pytest.mark.django_db
ADDRESS = "models/late-arrival/"
CHANGE = {"title": "Late?", "reason": "Shorter."}


def seen(caller: Caller, path: str = ADDRESS) -> str:
    tag: str = caller.get(path)["ETag"]
    return tag


@pytest.mark.parametrize("path", [ADDRESS, "models/", "events/"])
def test_look__with_the_etag_that_it_had__is_not_modified(path: str) -> None:
    registered_model()
    caller = Caller(alice())
    tag = seen(caller, path)
    again = caller.get(path, headers={"If-None-Match": f'"other", W/{tag}'})

    assert tag.startswith('"')
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag)
    assert again["Cache-Control"] == "private, no-cache"


def test_look__after_a_change__is_sent_with_another_etag() -> None:
    registered_model()
    caller = Caller(alice())
    tag = seen(caller)
    RegisteredModel.objects.update(title="Other")
    again = caller.get(ADDRESS, headers={"If-None-Match": tag})

    assert again.status_code == 200
    assert again["ETag"] != tag


def test_refusal__has_no_etag() -> None:
    assert "ETag" not in Caller(alice()).get(ADDRESS)


def test_head__is_a_look_without_its_body() -> None:
    registered_model()
    caller = Caller(alice())
    head = caller.client.head(f"/api/v1/{ADDRESS}")

    assert (head.status_code, head.content, head["ETag"]) == (200, b"", seen(caller))


# ---------------------------------------------------------------------- changing a model


def test_model__changed_as_it_was_read__is_recorded_once_and_answers_its_new_etag() -> None:
    registered_model()
    caller = Caller(alice())
    answer = caller.patch(ADDRESS, CHANGE, if_match=seen(caller))

    assert (answer.status_code, answer.json()["title"]) == (200, "Late?")
    assert answer["ETag"] == seen(caller)
    event = Event.objects.get(name="registered_model.changed")
    assert (event.actor, event.reason, event.data["after"]) == (alice(), "Shorter.", {"title": "Late?"})


def test_model__changed_without_a_word_on_its_state__is_refused() -> None:
    registered_model()

    assert problem(Caller(alice()).patch(ADDRESS, CHANGE))[0] == 428


@pytest.mark.parametrize("tag", ['"0123"', "nonsense", ""])
def test_model__changed_as_it_never_was__is_refused(tag: str) -> None:
    registered_model()

    assert problem(Caller(alice()).patch(ADDRESS, CHANGE, if_match=tag))[0] == 412
    assert RegisteredModel.objects.get().title == "Late arrival"


def test_model__read_by_two_and_changed_by_one__is_refused_to_the_other() -> None:
    registered_model()
    first, second = Caller(alice()), Caller(paula())
    read = seen(first)

    assert first.patch(ADDRESS, CHANGE, if_match=read).status_code == 200
    assert problem(second.patch(ADDRESS, {**CHANGE, "title": "Mine"}, if_match=read))[0] == 412


def test_model__any_state__may_be_named_by_an_asterisk() -> None:
    registered_model()

    assert Caller(alice()).patch(ADDRESS, CHANGE, if_match="*").status_code == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"title": "A"}, {"reason"}),
        ({"reason": "x", "tier": "low"}, {"tier"}),
        ({"reason": "x", "owners": {"product": "nobody"}}, {"owners.product"}),
        ({"reason": "x", "owners": {"boss": "nobody"}}, {"owners.boss"}),
        ({"reason": "x", "name": "other"}, {"name"}),
    ],
)
def test_model__changed_wrongly__is_refused_by_field(change: dict[str, Any], named: set[str]) -> None:
    registered_model()

    assert refused_fields(Caller(alice()).patch(ADDRESS, change, if_match="*")) == named


def test_model__tier_and_duties__are_changed_by_those_who_have_them() -> None:
    registered_model()
    group("others")
    tier = {"tier": "experimental", "reason": "It advises nobody yet."}
    duty = {"owners": {"product": "others"}, "reason": "They run the app now."}

    assert problem(Caller(alice()).patch(ADDRESS, tier, if_match="*"))[0] == 403
    assert problem(Caller(alice()).patch(ADDRESS, duty, if_match="*"))[0] == 403
    assert problem(Caller(charlie()).patch(ADDRESS, tier, if_match="*"))[0] == 404
    owner = Caller(paula())
    assert owner.patch(ADDRESS, tier, if_match="*").json()["tier"] == "experimental"
    assert owner.patch(ADDRESS, duty, if_match="*").status_code == 200


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_model__changed_by_eight_at_once__is_changed_by_one() -> None:
    registered_model()
    user = alice()
    callers = [Caller(user) for _ in range(THREADS)]
    read = seen(callers[0])

    outcomes = race(lambda n: callers[n].patch(ADDRESS, {**CHANGE, "title": f"Title {n}"}, if_match=read).status_code)

    assert sorted(outcomes) == [200] + [412] * (THREADS - 1)
    assert Event.objects.filter(name="registered_model.changed").count() == 1


# ---------------------------------------------------------------------- refusals, everywhere alike


def test_media_type__that_is_not_answered__is_refused_as_a_problem() -> None:
    registered_model()

    assert problem(Caller(alice()).get(ADDRESS, headers={"Accept": "text/html"}))[0] == 406


def test_options__say_what_an_address_takes() -> None:
    registered_model()
    answer = Caller(alice()).client.options(f"/api/v1/{ADDRESS}")

    assert answer.status_code == 200
    assert answer["Allow"] == "GET, PATCH, HEAD, OPTIONS"


def test_plain_view__asked_by_another_method__says_which_it_has() -> None:
    answer = Caller(alice()).client.get("/api/v1/push/")

    assert problem(answer)[0] == 405
    assert answer["Allow"] == "POST"


def test_answers__asked_for_twice__are_the_same_bytes() -> None:
    world = building.build()
    caller = Caller(world.scientist)

    for path in ("models/delay-arrival/versions/1/", "models/delay-arrival/versions/1/standing/", "incidents/"):
        assert seen(caller, path) == seen(caller, path)
