"""Apply one view, as somebody edits it in the admin: the same plan, review and apply as from a repository."""

from __future__ import annotations

import hashlib
from datetime import datetime

from audit.errors import InvalidInput
from audit.trail import Actor
from features.actions.apply_plan import apply
from features.actions.plan import plan
from features.definitions import Definitions, ViewDefinition
from features.models import FeatureViewVersion


def edit_view(definition: ViewDefinition, *, actor: Actor, now: datetime) -> FeatureViewVersion:
    """The view's version with this meaning, reviewed: the one that exists, else a new draft.

    Raises InvalidInput by the definition's field, and what ``plan`` and ``apply`` raise.
    """
    digest = hashlib.sha256(repr(definition).encode()).hexdigest()
    alone = Definitions(entities=(), sources=(), views=(definition,), transforms=(), services=(), digest=digest)
    try:
        shown = plan(alone, publish=False, actor=actor)
        apply(alone, digest=shown.digest, publish=False, reason="", actor=actor, now=now)
    except InvalidInput as refusal:
        within = f"views.{definition.name}."
        raise InvalidInput({name.removeprefix(within): texts for name, texts in refusal.errors.items()}) from refusal
    (change,) = shown.changes
    return FeatureViewVersion.objects.select_related("view").get(
        view__name=definition.name, content_hash=change.content_hash
    )
