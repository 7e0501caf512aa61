import pytest

from audit.errors import InvalidInput, NotPermitted
from audit.models import Event
from registry import actions
from registry.card import NOT_STATED, Card, CardError, content_hash, lines, read, stored
from registry.models import ModelCard, RegisteredModel
from tests.builders import NOON, ROBOT, alice, audrey, charlie, paula, registered_model

SAID = {"intended_use": "Warn of delays.", "decision_role": "advises", "review_by": "2014-01-01"}


def test_card__what_is_not_stated__is_shown_so() -> None:
    shown = dict(lines(stored(read(SAID))))
    assert shown["Intended use"] == "Warn of delays."
    assert shown["Review by"] == "2014-01-01"
    assert shown["Known limits"] == NOT_STATED
    assert len(shown) == len(Card.model_fields)


def test_card__same_statements__have_the_same_hash() -> None:
    assert content_hash(read(SAID)) == content_hash(read({**SAID, "limitations": "  ", "escalation": ""}))


def test_card__wrong_fields__are_named() -> None:
    with pytest.raises(CardError) as refusal:
        read({"decision_role": "maybe", "review_by": "soon", "colour": "red", "limitations": "a\0b"})
    assert set(refusal.value.errors) == {"decision_role", "review_by", "colour", "limitations"}


def write(model: RegisteredModel, content: dict[str, str], who: object = None) -> ModelCard:
    return actions.write_card(model, content=content, reason="Review.", actor=who or paula(), now=NOON)  # type: ignore[arg-type]  # tests name any actor


@pytest.mark.django_db
def test_write_card__another_content__is_the_next_number_with_its_event() -> None:
    model = registered_model()
    first, again = write(model, SAID), write(model, dict(SAID), alice())
    second = write(model, {**SAID, "limitations": "Snow."})
    assert (first.pk, first.number, second.number) == (again.pk, 1, 2)
    events = list(Event.objects.filter(name="model_card.written").order_by("id"))
    assert [event.data["number"] for event in events] == [1, 2]
    assert (events[1].data["changed"], events[1].registered_model) == (["limitations"], model.name)


@pytest.mark.django_db
@pytest.mark.parametrize("who", [charlie, audrey, lambda: ROBOT])
def test_write_card__by_no_owner__is_refused(who: object) -> None:
    model = registered_model()
    with pytest.raises(NotPermitted):
        write(model, SAID, who())  # type: ignore[operator]  # each is a builder
    assert not ModelCard.objects.exists()


@pytest.mark.django_db
def test_write_card__wrong_content__is_refused_by_field() -> None:
    with pytest.raises(InvalidInput) as refusal:
        write(registered_model(), {"decision_role": "maybe"})
    assert set(refusal.value.errors) == {"decision_role"}
