"""``manage.py migrate``, which leaves the log guarded also when a migration fails."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from audit import guards


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        """On SQLite the triggers step aside for migrations; after one that failed no signal brings them back."""
        try:
            super().handle(*args, **options)
        except BaseException:
            if connections[options["database"]].vendor == "sqlite":
                guards.install(using=options["database"])
            raise
