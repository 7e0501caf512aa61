"""``manage.py refill_online_store``: compute anew what the online store should hold, after it was lost or moved."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import clock
from audit.errors import Unavailable
from audit.trail import Service
from features import online
from features.materialize import refill, served_versions

ACTOR = Service("refill_online_store")


class Command(BaseCommand):
    help = (
        "Write the values of every served feature view to the online store (GATEHOUSE_ONLINE_STORE) as of their last "
        "materialization. Nothing newer is replaced: it may run while the portal serves, and again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("views", nargs="*", help="names of feature views; all without any")

    def handle(self, *args: Any, views: list[str], **options: Any) -> None:
        versions = served_versions()
        if views:
            versions = versions.filter(view__name__in=views)
            unknown = set(views) - {version.view.name for version in versions}
            if unknown:
                raise CommandError(f"Nothing is served of: {', '.join(sorted(unknown))}.")
        problems = 0
        for version in versions:
            try:
                rows = refill(version, actor=ACTOR, now=clock.now())
            except Unavailable as problem:
                problems += 1
                self.stderr.write(f"{version}: {problem}")
            else:
                self.stdout.write(f"{version}: {rows} rows")
        if problems:
            raise CommandError(f"{problems} could not be computed or written; run it again.")
        self.stdout.write(f"The online store ({online.store().name}) is filled.")
