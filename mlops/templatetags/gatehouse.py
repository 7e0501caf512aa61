"""Small presentational filters: state badges, numbers, links to subjects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import template

from audit.models import Event
from audit.pages import badge
from mlops import sight

register = template.Library()

register.filter("badge", badge)


@register.filter
def number(value: Any) -> str:
    """Four significant digits, or a dash when there is none."""
    return "—" if value is None or value == "" else f"{float(value):.4g}"


@register.filter
def percent(value: float) -> str:
    """A share of one as per cent with as many digits as it has."""
    return f"{value * 100:.3g} %"


@register.filter
def subject_url(event: Event) -> str | None:
    """The page of the thing an event is about, where there is one."""
    return sight.subject_url(event)


@register.filter
def share(value: float) -> str:
    """A share of one as per cent."""
    return f"{value:.0%}"


@register.filter
def words(value: str) -> str:
    """A machine's name as words."""
    return str(value).replace("_", " ")


@register.filter
def duration(value: timedelta | None) -> str:
    """A length of time in the unit that suits it; a dash when there is none."""
    if value is None:
        return "—"
    seconds = value.total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
