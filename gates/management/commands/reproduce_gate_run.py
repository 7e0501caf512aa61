"""``manage.py reproduce_gate_run ID``: do a gate run again from its frozen inputs; says what differs, if anything."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.errors import GatehouseError
from gates.models import GateRun
from gates.reproduction import reproduce


class Command(BaseCommand):
    help = (
        "Score both versions of a gate run again from the bytes and the rows that were frozen with it, and judge every "
        "check again. Writes nothing. Exits with 1 when anything differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, help="The gate run's id, as its page and the API have it.")

    def handle(self, *args: Any, **options: Any) -> None:
        run = GateRun.objects.select_related("policy", "registered_model", "version").filter(pk=options["id"]).first()
        if run is None:
            raise CommandError(f"There is no gate run {options['id']}.")
        try:
            found = reproduce(run)
        except GatehouseError as problem:
            raise CommandError(str(problem)) from problem
        for check_id, was, now in found.checks:
            self.stdout.write(f"{check_id}: {was}" if was == now else f"{check_id}: {was} then, {now} now")
        self.stdout.write(f"{run}: {found.message}")
        if not found.is_identical:
            raise SystemExit(1)
