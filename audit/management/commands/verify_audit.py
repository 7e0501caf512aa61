"""``manage.py verify_audit``: search the whole audit log for events that were edited, deleted, swapped or cut off."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import checkpoints, guards, signing
from audit.chain import Verification


class Command(BaseCommand):
    help = (
        "Read the whole audit log and compare it with its chain and with signed checkpoints. Exits with 1 when "
        "something was done to it, and says to which event."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--checkpoints",
            metavar="FILE",
            help="Checkpoints that were kept outside, one JSON per line (default: the file of this portal).",
        )
        parser.add_argument(
            "--public-key",
            metavar="FILE",
            action="append",
            help="Public key (PEM, or 64 hexadecimal digits) that is trusted instead of the portal's; may be repeated.",
        )
        parser.add_argument("--json", action="store_true", help="Say it as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = self._verify(options["checkpoints"], options["public_key"])
            missing = guards.missing()
        except (ImproperlyConfigured, OSError, ValueError) as problem:
            raise CommandError(str(problem)) from problem
        if options["json"]:
            told = {**asdict(found), "intact": found.is_intact, "missing_guards": missing}
            self.stdout.write(json.dumps(told, indent=2))
        else:
            self._tell(found)
            if missing:
                self.stdout.write(f"unguarded: {', '.join(missing)} missing; manage.py migrate brings them back")
        # without these somebody could have changed the log, unseen until the next checkpoint
        if any(name.startswith("guard_audit_") for name in missing) or not found.is_intact:
            raise SystemExit(1)

    def _verify(self, file: str | None, public_keys: list[str] | None) -> Verification:
        path = Path(file) if file else checkpoints.file()
        outside = checkpoints.read(path) if file or path.exists() else []
        if public_keys:
            keys = [signing.read_public_key(Path(each).read_text()) for each in public_keys]
        else:
            keys = checkpoints.trusted_keys()
        return checkpoints.verify([*checkpoints.stored(), *outside], keys)

    def _tell(self, found: Verification) -> None:
        for problem in found.problems:
            self.stdout.write(f"{problem.kind}: {problem.message}")
        verdict = "intact" if found.is_intact else f"{len(found.problems)} problems"
        self.stdout.write(
            f"{found.events} events, {found.checked_checkpoints} checkpoints: {verdict}. "
            f"Head {found.head.position} {found.head.hash}"
        )
