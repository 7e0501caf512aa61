"""A model's card: what only people know of it. Pure; the fields follow section 5.2 of the registry research.

Every field may stay empty and is then shown as *not stated*: a card that nobody filled in says so itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

NOT_STATED = "not stated"
MAX_TEXT = 5000

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]


class CardError(ValueError):
    """A card that can not be accepted. ``errors`` has the text by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.errors.items()))


class Card(BaseModel):
    """The titles are what pages and dossiers show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intended_use: Text = Field("", title="Intended use")
    out_of_scope: Text = Field("", title="Not to be used for")
    affected_persons: Text = Field("", title="Who is affected")
    decision_role: Literal["", "advises", "decides"] = Field("", title="Advises or decides")
    risk_reason: Text = Field("", title="Why this tier")
    ai_act_class: Text = Field("", title="Class under the EU AI Act")
    known_gaps: Text = Field("", title="Known gaps in the data")
    personal_data: Literal["", "yes", "no", "unknown"] = Field("", title="Personal data")
    data_retention: Text = Field("", title="How long data is kept")
    limitations: Text = Field("", title="Known limits")
    fallback: Text = Field("", title="What happens without the model")
    stop_button: Text = Field("", title="Who may stop it, and how")
    oversight: Text = Field("", title="Human oversight")
    instructions: Text = Field("", title="Instructions for users")
    deputy: Text = Field("", title="Deputy of the owner")
    developer: Text = Field("", title="Developer")
    validator: Text = Field("", title="Validator")
    escalation: Text = Field("", title="Escalation contact")
    review_by: date | None = Field(None, title="Review by")


def read(content: Mapping[str, Any]) -> Card:
    """The card in a JSON object. Raises CardError with what is wrong with each field."""
    try:
        return Card.model_validate(dict(content))
    except ValidationError as refusal:
        wrong = {str(each["loc"][0] if each["loc"] else "card"): str(each["msg"]) for each in refusal.errors()}
        raise CardError(wrong) from refusal


def stored(card: Card) -> dict[str, Any]:
    """The card as JSON, without what is not stated."""
    return {name: value for name, value in card.model_dump(mode="json").items() if value not in ("", None)}


def content_hash(card: Card) -> str:
    """SHA-256 of the canonical JSON: the same statements have the same hash."""
    text = json.dumps(stored(card), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def lines(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and text of every field in order, ``not stated`` where nothing is."""
    return [
        (str(field.title), str(content.get(name) or NOT_STATED).strip()) for name, field in Card.model_fields.items()
    ]
