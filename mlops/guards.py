"""What the database refuses in tables that are not ours: any schedule but the one tick, rights of which no event tells.

A schedule row is code execution.
"""

from django.conf import settings

from audit.guards import Guard, owes_event

_ONLY_TICK = f"""
    NEW.id = 1 AND NEW.func = '{settings.GATEHOUSE_TICK}'
    AND NEW.hook IS NULL AND NEW.args IS NULL AND NEW.kwargs IS NULL AND NEW.intended_date_kwarg IS NULL
"""
_MESSAGE = "the queue has one schedule, the tick: add due work to mlops/schedules.py"

GUARDS = (
    # not passwords: Django writes them anew, in another form, when somebody signs in
    *owes_event("auth_user", columns=("username", "is_active", "is_staff", "is_superuser")),
    *owes_event("auth_user_groups"),
    *owes_event("auth_user_user_permissions"),
    *owes_event("auth_group"),
    *owes_event("auth_group_permissions"),
    Guard("guard_django_q_schedule_insert", "django_q_schedule", "INSERT", _MESSAGE, _ONLY_TICK),
    Guard("guard_django_q_schedule_update", "django_q_schedule", "UPDATE", _MESSAGE, _ONLY_TICK),
)
