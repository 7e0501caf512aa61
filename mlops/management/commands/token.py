"""``manage.py token USER --scope read``: issue an API token and print it, once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import clock
from audit.errors import InvalidInput
from audit.scopes import SCOPES
from mlops import tokens


class Command(BaseCommand):
    help = "Issue an API token for a user and print it. It is shown this once; only its digest is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="Who the caller acts as: their name here.")
        told = "; ".join(f"{name}: {meaning}" for name, meaning in SCOPES.items())
        parser.add_argument(
            "--scope", action="append", default=[], metavar="SCOPE", help=f"What it may do; once for each. {told}."
        )
        parser.add_argument("--name", default="", help="What it is for, such as 'CI of flights'.")
        usual = tokens.USUAL.days
        parser.add_argument(
            "--days", type=float, default=usual, help=f"Days until it expires by itself (default: {usual})."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None or not user.is_active:
            raise CommandError(f"There is no active user {options['user']!r}.")
        try:
            text = tokens.issue(
                user=user,
                scopes=options["scope"],
                name=options["name"],
                days=options["days"],
                reason="Issued on the command line of the server.",
                actor=user,
                now=clock.now(),
            )
        except InvalidInput as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(text)
