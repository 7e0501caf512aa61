"""``manage.py worker``: the background worker, watched over and restarted by itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from jobs import process, schedule
from jobs.watchdog import Limits, Watchdog


class Command(BaseCommand):
    help = "Run background work until SIGTERM or Ctrl-C, and restart the task queue whenever it falls silent."
    requires_migrations_checks = True

    def handle(self, *args: Any, **options: Any) -> None:
        if others := schedule.others():
            raise CommandError(
                "These schedule rows must not exist, whoever writes one can run any code: "
                + "; ".join(others)
                + ". Delete them (Schedule.objects.exclude(pk=1).delete()) and find out who made them."
            )
        schedule.install()
        process.name_process(process.WATCHDOG)
        Watchdog(limits=Limits.from_settings(), workers=settings.Q_CLUSTER["workers"]).run()
