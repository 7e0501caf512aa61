"""The one row of django-q2's schedule table: ring the tick each minute.

A schedule row is code execution and one malformed row stops all others, so there is exactly one: the database refuses
any other (``mlops.guards``), and the worker refuses to start where one stands nevertheless.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django_q.models import Schedule

ONLY = 1
"""The row's primary key: fixed, so that two workers that start at once make one row."""
EVERY = timedelta(minutes=1)


def install() -> None:
    """Make sure that the tick is scheduled, and not later than one period from now."""
    soon = timezone.now() + EVERY
    values = {"func": settings.GATEHOUSE_TICK, "name": "tick", "schedule_type": Schedule.MINUTES, "minutes": 1}
    _, created = Schedule.objects.get_or_create(pk=ONLY, defaults={**values, "repeats": -1})
    if not created:
        astray = Q(next_run=None) | Q(next_run__gt=soon) | Q(repeats__gte=0) | ~Q(**values)
        Schedule.objects.filter(astray, pk=ONLY).update(**values, repeats=-1, next_run=timezone.now())


def others() -> list[str]:
    """Schedule rows that must not be there, for a person to read."""
    return [f"{row.pk}: {row.name or '-'} calls {row.func}" for row in Schedule.objects.exclude(pk=ONLY)]


def lateness() -> timedelta:
    """How long the tick has been overdue; zero when it is not. The sentinel moves it on about every 30 s."""
    due: datetime | None = Schedule.objects.filter(pk=ONLY).values_list("next_run", flat=True).first()
    return timedelta(0) if due is None else max(timezone.now() - due, timedelta(0))
