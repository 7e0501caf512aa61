"""Small presentational filters: state badges, numbers, links to subjects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from audit.models import Event
from audit.pages import badge, tone
from mlops import gate_words, sight
from registry.measured import shown

register = template.Library()

register.filter("badge", badge)
register.filter("tone", tone)
register.filter("check_title", gate_words.title)


@register.filter
def number(value: Any) -> str:
    """A number for a person, or a dash when there is none."""
    return "—" if value is None or value == "" else shown(float(value))


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


@register.filter
def rate(value: float | None) -> str:
    """A measured share as per cent, with a digit where it is small; a dash when there is none."""
    if value is None:
        return "—"
    if 0 < value < 0.001:
        return "< 0.1 %"
    digits = 1 if 0 < value < 0.1 or 0.9 < value < 1 else 0
    shown = f"{value:.{digits}%}"
    # what is nearly all is not all
    return "> 99.9 %" if value < 1 and shown == "100.0%" else shown.replace("%", " %")


@register.filter
def quantile(value: Any) -> str:
    """A quantile: four significant digits of a number, the day of a time."""
    return str(value)[:10] if isinstance(value, str) else number(value)


@register.filter
def brief(value: timedelta | None) -> str:
    """A length of time for a narrow column: ``20 h``; a dash when there is none."""
    if value is None:
        return "—"
    seconds = value.total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


@register.filter
def breakable(name: str) -> SafeString:
    """A long name of a machine, which may break after each underscore."""
    return format_html_join(mark_safe("_<wbr>"), "{}", ((part,) for part in str(name).split("_")))


@register.filter
def grouped(value: Any) -> str:
    """A count with its thousands apart; a dash when there is none."""
    return "—" if value is None or value == "" else f"{int(value):,}"


@register.filter
def conditions(text: str) -> SafeString:
    """What describes a segment, a line a condition, its names breakable."""
    parts = str(text).split(" and ")
    return format_html_join(mark_safe("<br>"), "{}", ((breakable(part),) for part in parts))
