"""How long a dossier takes for a version with a year of history, among 100,000 events of others.

    make bench BENCH=dossier                  # on SQLite; ARGS=postgresql: on the PostgreSQL of GATEHOUSE_DATABASE_URL

A year: two judged windows a week, thirty incidents taken and resolved, two hundred looks at rollouts, a monitor that is
changed each month, ten other versions of the model. Each form is timed from nothing: built, rendered, written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import portal
from benchmarks.figures import Figure, report

if TYPE_CHECKING:
    from tests.mlops.world import World

SECONDS = 10.0
NOT_BY_SYSTEM = 0.2
OTHERS = 100_000
WEEKS, INCIDENTS, LOOKS, VERSIONS = 52, 30, 200, 10
FEATURES = 40
DAY = timedelta(days=1)


def main(arguments: list[str]) -> int:
    """Run in a process of its own, on an empty portal."""
    if arguments == ["inside"]:
        return _inside()
    url = os.environ.get("GATEHOUSE_DATABASE_URL") if arguments == ["postgresql"] else None
    with portal.empty(url) as variables:
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.dossier", "inside"], env=variables, check=False
        ).returncode


def _inside() -> int:
    portal.set_up()
    from audit import chain
    from mlops import dossier
    from tests.builders import NOON

    world = _a_year()
    _others()
    print(f"{chain.head().position:,} events in the log", flush=True)
    seconds: dict[str, float] = {}
    issued = _timed(seconds, "issue", lambda: dossier.issue(world["champion"], actor=world.scientist, now=NOON))
    built = _timed(seconds, "json", lambda: dossier.sealed(issued, dossier.document_of(issued)))
    _timed(seconds, "html", lambda: dossier.render_html(dossier.document_of(issued)))
    _timed(seconds, "pdf", lambda: dossier.render_pdf(dossier.document_of(issued)))
    _timed(seconds, "zip", lambda: dossier.archive(issued))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "dossier.json")
        file.write_bytes(built)
        script = Path(dossier.__file__).parent / "verify_dossier.py"
        command = [sys.executable, "-I", str(script), str(file)]
        _timed(seconds, "verify", lambda: subprocess.run(command, check=True, capture_output=True))
    counts = dossier.document_of(issued)["completeness"]
    print(f"{counts['fields']} fields, {counts['system']} by the system; {len(built):,} bytes of JSON", flush=True)
    missing = 1 - counts["system_share"]
    return report(
        *(Figure(f"dossier_{name}", each, "s", SECONDS) for name, each in seconds.items()),
        Figure("dossier_fields_not_by_system", missing, "of all", NOT_BY_SYSTEM),
    )


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    found = work()
    seconds[name] = time.perf_counter() - begun
    return found


def _a_year() -> World:
    from django.db import transaction

    from monitoring.actions.monitors import configure
    from tests.builders import NOON
    from tests.mlops import reported
    from tests.mlops.world import a_look, a_version

    with transaction.atomic():
        world = reported.world()
    with transaction.atomic():
        _windows(world)
        for number in range(LOOKS):
            a_look(world["rollout"], harm=number / LOOKS)
        for month in range(12):
            configure(
                registered_model=world.registered_model,
                settings={"window_days": 7 + month % 2, "minimum_rows": 500 + month},
                actor=world.scientist,
                reason="Seasons.",
                now=NOON + 30 * month * DAY,
            )
    with transaction.atomic():
        _incidents(world)
        for number in range(VERSIONS):
            reported.registered(a_version(world, f"Try {number}."), world.scientist)
    return world


def _windows(world: World) -> None:
    from monitoring.models import DriftRun
    from tests.builders import NOON
    from tests.mlops import reported

    scores = {"features": {f"feature_{number}": {"effect": 0.01, "importance": 0.025} for number in range(FEATURES)}}
    for week in range(6, WEEKS + 1):
        for kind in ("drift", "performance"):
            window = DriftRun.objects.create(
                monitor=world["monitor"],
                registered_model=world.registered_model,
                version=world["champion"],
                kind=kind,
                window_from=NOON + (week - 1) * 7 * DAY,
                window_to=NOON + week * 7 * DAY,
                verdict="passed",
                summary=f"7,000 predictions, {FEATURES} features compared; none that matters moved.",
                rows=7_000,
                scores=scores,
                at=NOON + week * 7 * DAY,
            )
            reported.judged(window)


def _incidents(world: World) -> None:
    from monitoring.actions import incidents
    from tests.builders import NOON
    from tests.mlops.world import an_incident

    for number in range(INCIDENTS):
        at = NOON + (40 + 10 * number) * DAY
        incident = an_incident(world, key=f"cause-{number}", title=f"Drift number {number}", now=at)
        incidents.acknowledge(incident, actor=world.scientist, reason="Seen.", now=at + DAY / 24)
        incidents.resolve(incident, actor=world.scientist, reason="A new timetable.", now=at + DAY)


def _others() -> None:
    """Events about other models, as many as a fleet makes."""
    from audit.models import Event
    from tests.builders import NOON

    def event(number: int) -> Event:
        return Event(
            name="window.judged",
            subject_type="monitoring.driftrun",
            subject_id=str(10**6 + number),
            subject_label=f"window {number}",
            registered_model=f"other-{number % 60}",
            service="monitoring",
            reason="None that matters moved.",
            data={"verdict": "passed"},
            at=NOON + timedelta(minutes=number),
        )

    for first in range(0, OTHERS, 10_000):
        Event.objects.bulk_create([event(number) for number in range(first, first + 10_000)], batch_size=2_000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
