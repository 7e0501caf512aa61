"""What a person waits for who asks the lineage: who uses a column, what served on a day, the lists of the registry.

On SQLite and on PostgreSQL, over the company of ``benchmarks.lineage_town``: 60 models of 50 versions, of which 500
take 200 features each. Questions are asked in process: the whole question with its sight, no HTTP; the lists through
the pages and addresses themselves. Medians are printed, the figures are 95th percentiles; the first question of each
kind, on which expressions are parsed, is told apart.

    make bench BENCH=lineage_queries ARGS="--databases sqlite"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks import lineage_town as town
from benchmarks import portal
from benchmarks.feast_peer import servers
from benchmarks.figures import Figure, report

DATABASES = ("sqlite", "postgres")
TIMES = 60
SLOW_TIMES = 20
GOALS = {"impact": 0.2, "impact_all_versions": 0.2, "as_of": 1.0, "list_api": 0.3, "list_portal": 0.3}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 when a figure falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", nargs="*", choices=DATABASES, default=DATABASES)
    parser.add_argument("--inside", action="store_true", help="measure on the portal that the environment names")
    options = parser.parse_args(arguments)
    if options.inside:
        print(json.dumps(_measured()))
        return 0
    figures = []
    for database in options.databases:
        with _portal(database) as variables:
            command = [sys.executable, "-m", "benchmarks.lineage_queries", "--inside"]
            answer = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
        for name, walls in json.loads(answer).items():
            said = (
                f"first {walls['first']:.3f} s, then median {walls['median']:.3f} s ({walls['cpu']:.3f} s of our CPU)"
            )
            print(f"{database}, {name}: {said}{walls['also']}", flush=True)
            figures.append(Figure(f"lineage_{name}_p95_{database}", walls["p95"], "s", GOALS[name]))
    return report(*figures)


@contextmanager
def _portal(database: str) -> Iterator[dict[str, str]]:
    if database == "sqlite":
        with portal.empty() as variables:
            yield variables
        return
    with servers.postgres() as cluster, portal.empty(cluster.url) as variables:
        yield variables


def _measured() -> dict[str, dict[str, Any]]:
    portal.set_up()
    reader = town.build()
    return {
        "impact": _timed(_impact(reader, every_version=False), TIMES),
        "impact_all_versions": _timed(_impact(reader, every_version=True), TIMES),
        "as_of": _timed(_as_of(reader), SLOW_TIMES),
        **_lists(reader),
    }


def _timed(ask: Callable[[int], str], times: int) -> dict[str, Any]:
    walls, cpu, also = [], [], ""
    for number in range(times + 1):
        begun, worked = perf_counter(), process_time()
        also = ask(number)
        walls.append(perf_counter() - begun)
        cpu.append(process_time() - worked)
    later = sorted(walls[1:])
    p95 = later[int(0.95 * (len(later) - 1))]
    return {"first": walls[0], "median": median(later), "p95": p95, "cpu": median(cpu[1:]), "also": also}


def _impact(reader: Any, *, every_version: bool) -> Callable[[int], str]:
    """Columns mostly; features and whole sources between them."""
    from mlops.lineage import forwards

    def ask(number: int) -> str:
        place = number % town.SOURCES
        source, column = f"source{place}", f"c{place + number * 7 % town.READ}"
        asked: dict[str, Any] = {"column": f"{source}.{column}"}
        if number % 5 == 3:
            asked = {"feature": f"view{number % town.VIEWS}.f{number % town.VIEWS}_{number % town.PER_VIEW}"}
        if number % 20 == 9:
            asked = {"source": source}
        found = forwards(**asked, reader=reader, every_version=every_version)
        assert len(found.affected) >= (town.MODELS if not every_version else town.WITH_FEATURES), asked
        return f"; {len(found.affected)} versions use it"

    return ask


def _as_of(reader: Any) -> Callable[[int], str]:
    """Days all over the history, the last of which reads all of it."""
    from audit.models import Event
    from mlops.lineage import as_of

    events = Event.objects.count()

    def ask(number: int) -> str:
        moment = town.NOW - timedelta(days=number * 17 % 300)
        served = as_of(moment, reader=reader)
        assert len(served) == town.MODELS
        assert all(each.champion and each.gates for each in served), moment
        return f"; {events} events"

    return ask


def _lists(reader: Any) -> dict[str, dict[str, Any]]:
    """The list of all models and that of one model's versions; both are pages of their own, the slower one counts."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from audit.scopes import SCOPES
    from mlops import tokens

    settings.ALLOWED_HOSTS = ["testserver"]
    text = tokens.issue(user=reader, scopes=tuple(SCOPES), days=1, reason="A benchmark.", actor=reader, now=town.NOW)
    api, pages = Client(headers={"Authorization": f"Bearer {text}"}), Client()
    pages.force_login(reader)
    addresses = {
        "list_api": (api, ["/api/v1/models/?page_size=60", "/api/v1/models/model7/versions/?page_size=50"]),
        "list_portal": (pages, ["/", "/models/model7/"]),
    }
    found = {}
    for name, (client, paths) in addresses.items():
        told = []
        for path in paths:

            def ask(number: int, client: Any = client, path: str = path) -> str:
                answer = client.get(path)
                assert answer.status_code == 200, (path, answer.status_code)
                return ""

            walls = _timed(ask, SLOW_TIMES)
            with CaptureQueriesContext(connection) as queries:
                ask(0)
            told.append({**walls, "also": f"; {path} in {len(queries)} queries"})
        found[name] = max(told, key=lambda walls: float(walls["p95"]))
    return found


if __name__ == "__main__":
    sys.exit(main())
