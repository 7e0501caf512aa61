"""Which stretch of time a training run learns from. Pure.

A window is ``{"name": "expanding"}`` (everything so far; with ``start``, an ISO time, everything from then on),
``{"name": "last-month", "days": 28}`` (the newest days) or explicitly ``{"name": "winter", "start": …, "end": …}``.
All end before the holdout: the labelled rows of its days are kept for the gates, and a model that has seen them can not
be judged on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any


class WindowError(ValueError):
    """A training window that means nothing or reaches into the holdout; the message is for the user."""


def check(window: Mapping[str, Any]) -> None:
    """Raise WindowError unless the window is one of those kinds, completely."""
    if not isinstance(window.get("name"), str) or not window["name"]:
        raise WindowError('A window needs a name, such as {"name": "expanding"}.')
    kinds = ({"name"}, {"name", "days"}, {"name", "start"}, {"name", "start", "end"})
    if set(window) not in kinds:
        raise WindowError(f"The window {window['name']!r} takes nothing, or 'days', or 'start' with or without 'end'.")
    if set(window) == {"name"} and window["name"] != "expanding":
        raise WindowError(f"The window {window['name']!r} needs 'days' or 'start'.")
    if "days" in window and not (type(window["days"]) is int and window["days"] > 0):
        raise WindowError(f"The window {window['name']!r} needs a positive whole number of days.")
    if "start" in window:
        _moment(window, "start")
    if "end" in window and _moment(window, "start") >= _moment(window, "end"):
        raise WindowError(f"The window {window['name']!r} ends before it starts.")


def training_period(
    window: Mapping[str, Any], *, now: datetime, holdout_days: int, first: datetime
) -> tuple[datetime, datetime]:
    """The half-open period ``[start, end)`` of the requests to learn from; never before ``first``, the oldest data."""
    check(window)
    end = now - timedelta(days=holdout_days)
    start = first
    if "days" in window:
        start = max(first, end - timedelta(days=window["days"]))
    elif "start" in window:
        start = max(first, _moment(window, "start"))
    if "end" in window:
        asked = _moment(window, "end")
        if asked > end:
            raise WindowError(
                f"The window {window['name']!r} ends {asked:%Y-%m-%d %H:%M}; the {holdout_days} days before "
                f"{now:%Y-%m-%d %H:%M} are kept for the gates, so it may end {end:%Y-%m-%d %H:%M} at the latest."
            )
        end = asked
    if start >= end:
        raise WindowError(f"The window {window['name']!r} holds no data before the holdout of {holdout_days} days.")
    return start, end


def holdout_period(*, now: datetime, holdout_days: int) -> tuple[datetime, datetime]:
    """The half-open period whose labelled rows are kept for the gates."""
    return now - timedelta(days=holdout_days), now


def _moment(window: Mapping[str, Any], field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(window[field])
    except (TypeError, ValueError) as error:
        raise WindowError(f"{field} of the window {window['name']!r} is no ISO time.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
