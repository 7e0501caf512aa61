"""Whose decision it is: a person of the product group, for the model that an endpoint is given to."""

from __future__ import annotations

from django.contrib.auth.models import User

from audit.errors import InvalidInput, NotPermitted
from audit.trail import Actor
from registry.duties import require
from registry.models import Duty, RegisteredModel


def product_owner(actor: Actor, *models: RegisteredModel) -> User:
    """The actor as the person who has the product duty for all these models. Raises NotPermitted."""
    if not isinstance(actor, User):
        raise NotPermitted("What an endpoint serves, when, and its kill switch are a person's decision.")
    for each in models:
        require(actor, each, Duty.PRODUCT)
    return actor


def said(text: str, *, field: str) -> str:
    """Raises InvalidInput where nothing is said."""
    if not text.strip():
        raise InvalidInput({field: "Say why: this is the record of the decision."})
    return text
