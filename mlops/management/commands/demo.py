"""``manage.py demo``: a year of New York flights through the whole house, then the portal to look around in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection

from audit import clock
from audit.models import Event

MARKER = "this-folder-belongs-to-the-demo"
START = datetime(2013, 4, 1, tzinfo=UTC)
END = datetime(2014, 1, 1, 12, tzinfo=UTC)
TOLD = (
    "model_version.registered", "gate_run.passed", "gate_run.failed", "gate_run.inconclusive", "gate_run.error",
    "rollout.shadow", "rollout.canary", "rollout.promoted", "rollout.rolled_back", "rollout.held", "drift.confirmed",
    "decay.confirmed", "retraining.started", "retraining.promoted", "retraining.refused", "retraining.failed",
    "incident.opened", "incident.resolved", "rethink.proposed", "training_run.failed", "consistency.breached",
    "feature_service.retired",
)  # fmt: skip


class Command(BaseCommand):
    """Replay a year in event time with a progress display, print a summary, serve the portal."""

    help = "Carry a real model from features to production, through drift and back, then serve the portal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="End after the summary.")
        parser.add_argument("--port", type=int, default=8000, help="Port of the portal (127.0.0.1).")
        parser.add_argument("--until", default="", help="Stop the replay at this date (YYYY-MM-DD); for a quick look.")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        settings.DEBUG = False  # in this process only: the debug cursor formats and keeps every statement
        end = datetime.fromisoformat(options["until"]).replace(tzinfo=UTC) if options["until"] else END
        self._clear()
        call_command("migrate", verbosity=0)
        house, cast = self._live(end)
        self._summarize(house, cast, end, time.monotonic() - started)
        self._send_home()
        if not options["no_serve"]:
            self._serve(options["port"], end)

    def _clear(self) -> None:
        """Empty the demo's own folder; refuse to touch a database that is not the demo's."""
        folder = Path(settings.DATA_ROOT)
        ours = (folder / MARKER).exists()
        if connection.vendor == "sqlite" and (ours or not _holds_data()):
            connection.close()
            for entry in folder.iterdir() if folder.exists() else ():
                if entry.name not in {"secret_key", "demo"}:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif _holds_data():
            raise CommandError(
                f"The database at {folder} is not the demo's and is not empty. Set GATEHOUSE_DATA to another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("manage.py demo empties this folder when it starts.\n")

    def _live(self, end: datetime) -> tuple[Any, Any]:
        from engines import scoring
        from mlops.demo.people import create_people
        from mlops.demo.replay import replay
        from mlops.demo.setup import OPENED, furnish
        from mlops.demo.story import scenes
        from registry import training

        scoring.warm_up()
        scoring.warm_up("onnx")
        training.keep_one_waiting()
        self._say("Setting the house up: sources, features, owners, policy, endpoint …")
        clock.set_to(OPENED)
        cast = create_people()
        house = furnish(cast)
        told = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        day = None
        steps = replay(
            endpoint=house.endpoint.name, traffic=house.traffic, start=START, end=end, scenes=scenes(house, cast)
        )
        for now in steps:
            told = self._tell(told)
            if now.date() != day and now.day in (1, 11, 21):
                self._progress(now, end)
            day = now.date()
        self._tell(told)
        return house, cast

    def _send_home(self) -> None:
        """End the children that still wait for work."""
        from engines import scoring
        from registry import training
        from rollout import scorers

        scorers.close_all()
        scoring.shut_down()
        training.send_home()

    def _progress(self, now: datetime, end: datetime) -> None:
        share = (now - START) / (end - START)
        self._say(f"{now:%Y-%m-%d}  [{'█' * round(30 * share):·<30}] {share:.0%}")

    def _tell(self, told: int) -> int:
        """Print what happened since event ``told``; the last event's id."""
        for event in Event.objects.filter(pk__gt=told).order_by("id"):
            told = event.pk
            if event.name in TOLD:
                self._say(f"  {event.at:%Y-%m-%d %H:%M}  {event.name:<26} {event.subject_label}: {event.reason}"[:220])
        return told

    def _summarize(self, house: Any, cast: Any, end: datetime, seconds: float) -> None:
        from mlops.demo import evidence, summary
        from mlops.demo.setup import OPENED

        for line in summary.lines(house.registered_model, since=OPENED, until=end):
            self._say(line)
        for line in (*summary.title("What the auditor asks"), *evidence.lines(house, cast, now=end)):
            self._say(line)
        self._say(f"\n{(end - START).days} days replayed in {seconds:.0f} s of wall time.")

    def _serve(self, port: int, end: datetime) -> None:
        """The portal and a worker, living on from the end of the replay, until interrupted."""
        from mlops.demo.people import LOGINS, PASSWORD

        environment = {**os.environ, **clock.starting_at(end)}
        manage = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py")]
        worker = subprocess.Popen([*manage, "worker"], env=environment)
        portal = subprocess.Popen([*manage, "runserver", "--noreload", f"127.0.0.1:{port}"], env=environment)
        self._say(f"\nThe portal: http://127.0.0.1:{port}/    (Ctrl-C ends it)")
        for name, role, _, first, last in LOGINS:
            self._say(f"  {name:<8} {PASSWORD}   {first} {last}, {role}")
        self._say(f"  {'admin':<8} {PASSWORD}   administrator\n")
        self._say("Look first: sign in as paula, open the model, then the versions that were stopped.")
        try:
            portal.wait()
        except KeyboardInterrupt:
            self._say("Stopping …")
        finally:
            for process in (portal, worker):
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _holds_data() -> bool:
    """Whether the database has any user (an unmigrated one has none)."""
    if "auth_user" not in connection.introspection.table_names():
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM auth_user")
        return bool(cursor.fetchone()[0])
