"""What a view's owner promises those who use it: how fresh its values are, and how few of them may be wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from audit.errors import InvalidInput
from audit.trail import Actor, record
from features.actions.rules import require_member
from features.models import FeatureView


def promise(
    view: FeatureView,
    *,
    freshness: timedelta | None,
    consistency_limit: float,
    actor: Actor,
    reason: str,
    now: datetime,
) -> FeatureView:
    """Set the age that the view's newest value never exceeds (None: no promise) and the share of served cells that may
    differ from their recomputation. The same promise again changes nothing and records nothing.
    """
    require_member(actor, view.owner)
    errors = {
        "freshness": "" if freshness is None or freshness > timedelta(0) else "A promise is longer than zero.",
        "consistency_limit": "" if 0 <= consistency_limit < 1 else "A share from 0 to below 1.",
        "reason": "" if reason.strip() else "Say why; whoever uses the view will read it.",
    }
    if any(errors.values()):
        raise InvalidInput({field: text for field, text in errors.items() if text})
    with transaction.atomic():
        stored = FeatureView.objects.select_for_update().get(pk=view.pk)
        before = _said(stored.freshness, stored.consistency_limit)
        after = _said(freshness, consistency_limit)
        view.freshness, view.consistency_limit = freshness, consistency_limit
        if before != after:
            view.save(update_fields=["freshness", "consistency_limit"])
            record("view.promised", view, actor=actor, reason=reason, data={"before": before, "after": after})
    return view


def _said(freshness: timedelta | None, limit: float) -> dict[str, float | None]:
    """The promise as an event keeps it."""
    return {"freshness_seconds": freshness.total_seconds() if freshness else None, "consistency_limit": limit}
