"""Write a model's card."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from audit.errors import InvalidInput, NotPermitted
from audit.trail import Actor, record
from registry import card
from registry.duties import require
from registry.models import Duty, ModelCard, RegisteredModel


def write_card(
    registered_model: RegisteredModel, *, content: Mapping[str, Any], reason: str, actor: Actor, now: datetime
) -> ModelCard:
    """State what only people know of a model. Any owner may; each card is whole, numbered and never changed.

    The content of the card in force again is that card, and no second event.
    """
    require(actor, registered_model, *Duty)
    if not isinstance(actor, AbstractBaseUser):
        raise NotPermitted("A card is what people state; no part of Gatehouse writes one.")
    try:
        written = card.read(content)
    except card.CardError as refusal:
        raise InvalidInput(refusal.errors) from refusal
    with transaction.atomic():
        RegisteredModel.objects.select_for_update(no_key=True).get(pk=registered_model.pk)
        current = registered_model.cards.first()
        digest = card.content_hash(written)
        if current is not None and current.content_hash == digest:
            return current
        new = ModelCard.objects.create(
            registered_model=registered_model,
            number=current.number + 1 if current else 1,
            content=card.stored(written),
            content_hash=digest,
            written_by_id=actor.pk,
            written_at=now,
        )
        before = current.content if current else {}
        changed = sorted(name for name in {*before, *new.content} if before.get(name) != new.content.get(name))
        data = {"number": new.number, "content_hash": digest, "changed": changed}
        record("model_card.written", new, actor=actor, reason=reason, data=data)
    return new
