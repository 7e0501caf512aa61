"""The one schedule row."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from django_q.models import Schedule

from audit import clock, guards
from jobs import schedule
from jobs.models import Job
from mlops.schedules import SCHEDULES, tick
from tests.builders import NOON
from tests.jobs.works import ago

pytestmark = pytest.mark.django_db


def without_guards() -> None:
    with connection.cursor() as cursor:
        for guard in guards.declared():
            if guard.table == "django_q_schedule":
                on = f' ON "{guard.table}"' if connection.vendor == "postgresql" else ""
                cursor.execute(f"DROP TRIGGER {guard.name}{on}")


def test_install__again_and_again__is_one_row_due_now() -> None:
    for _ in range(3):
        schedule.install()

    row = Schedule.objects.get()
    assert (row.func, row.schedule_type, row.minutes, row.repeats) == ("mlops.schedules.tick", "I", 1, -1)
    assert row.next_run <= timezone.now()
    assert schedule.others() == []


@pytest.mark.parametrize(
    "astray", [{"next_run": None}, {"next_run": NOON + timedelta(days=36500)}, {"repeats": 0}, {"minutes": 1440}]
)
def test_install__over_a_row_led_astray__sets_it_right(astray: dict[str, object]) -> None:
    schedule.install()
    Schedule.objects.update(**astray)

    schedule.install()

    row = Schedule.objects.get()
    assert (row.minutes, row.repeats) == (1, -1)
    assert row.next_run <= timezone.now()


def test_install__over_a_row_that_is_right__leaves_its_next_run() -> None:
    schedule.install()
    soon = timezone.now() + timedelta(seconds=40)
    Schedule.objects.update(next_run=soon)

    schedule.install()

    assert Schedule.objects.get().next_run == soon


def test_lateness__is_how_long_nobody_scheduled_the_tick() -> None:
    assert schedule.lateness() == timedelta(0)
    schedule.install()
    Schedule.objects.update(next_run=ago(200))
    assert 200 <= schedule.lateness().total_seconds() < 220
    Schedule.objects.update(next_run=ago(-30))
    assert schedule.lateness() == timedelta(0)


def test_worker__where_another_schedule_stands__refuses_to_start_and_names_it() -> None:
    without_guards()
    Schedule.objects.create(pk=7, name="innocent", func="os.system", args="'true'")

    with pytest.raises(CommandError, match=r"7: innocent calls os\.system"):
        call_command("worker")


def test_tick__of_the_project__asks_for_everything_due() -> None:
    with clock.at(NOON):
        tick()

    assert sorted(Job.objects.values_list("kind", flat=True)) == sorted(each.kind for each in SCHEDULES)
