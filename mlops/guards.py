"""What the database refuses in the queue: any schedule but the one tick. A schedule row is code execution."""

from django.conf import settings

from audit.guards import Guard

_ONLY_TICK = f"""
    NEW.id = 1 AND NEW.func = '{settings.GATEHOUSE_TICK}'
    AND NEW.hook IS NULL AND NEW.args IS NULL AND NEW.kwargs IS NULL AND NEW.intended_date_kwarg IS NULL
"""
_MESSAGE = "the queue has one schedule, the tick: add due work to mlops/schedules.py"

GUARDS = (
    Guard("guard_django_q_schedule_insert", "django_q_schedule", "INSERT", _MESSAGE, _ONLY_TICK),
    Guard("guard_django_q_schedule_update", "django_q_schedule", "UPDATE", _MESSAGE, _ONLY_TICK),
)
