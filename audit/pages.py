"""What the pages of portal and admin share: states as coloured badges, and where a row can be looked at."""

from __future__ import annotations

from django.db.models import Model
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

TONES = {
    "good": {"passed", "promoted", "succeeded", "resolved", "done", "advance", "promote", "approved", "published"},
    "bad": {"failed", "rolled_back", "error", "dead", "open", "roll_back", "refused", "proposed"},
    "warn": {
        "inconclusive", "aborted", "paused", "acknowledged", "hold", "declined", "cancelled", "deprecated", "stop",
        "quarantined",
    },
    "live": {"shadow", "canary", "running", "pending", "requested", "training", "judging", "rolling_out", "queued"},
}  # fmt: skip


def tone(state: str) -> str:
    """The tone of a state: good, bad, warn, live, or empty for what is neither."""
    return next((name for name, states in TONES.items() if state in states), "")


def badge(state: str) -> SafeString:
    """The state's word in its colour (the word itself carries the meaning); a dash when there is none."""
    if not state:
        return mark_safe("—")
    return format_html('<span class="gh-badge {}">{}</span>', tone(state), str(state).replace("_", " "))


def admin_url(row: Model) -> str | None:
    """The admin page of a row; None when its kind has none."""
    try:
        return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return None
