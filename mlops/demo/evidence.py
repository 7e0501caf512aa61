"""The questions of an auditor after the year, answered by what Gatehouse kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from audit import verification
from mlops import dossier, lineage, replay
from mlops.demo.people import Cast
from mlops.demo.setup import House
from rollout import prediction_log

FIRST_SUMMER_DAY = datetime(2013, 6, 21, 12, tzinfo=UTC)
ASKED_DAY = datetime(2013, 8, 1, tzinfo=UTC)


def lines(house: House, cast: Cast, *, now: datetime) -> Iterator[str]:
    """What the auditor asks, and the answers. Writes the champion's dossier below the data root."""
    yield from _what_served(cast)
    yield from _why_this_prediction(house, cast, now)
    yield from _who_uses(cast)
    yield from _dossier(house, cast, now)
    yield from _the_log()


def _what_served(cast: Cast) -> Iterator[str]:
    for served in lineage.as_of(FIRST_SUMMER_DAY, reader=cast.audrey):
        let_in, gates = served.let_in, served.gates
        if served.champion is not None and let_in is not None and gates is not None:
            yield f"what served on {FIRST_SUMMER_DAY:%d %B} on {served.endpoint}: {served.champion}"
            yield f"     promoted {let_in.at:%d %B} by {let_in.by}; {gates.summary} of policy {gates.policy}"


def _why_this_prediction(house: House, cast: Cast, now: datetime) -> Iterator[str]:
    day = prediction_log.read(house.endpoint.name, since=ASKED_DAY, until=ASKED_DAY.replace(day=2), columns=[])
    for request_id in sorted(day["request_id"].to_pylist())[:1]:
        verdict = replay.replay(house.endpoint.name, request_id, reader=cast.audrey, now=now)
        yield f"prediction {request_id} of {ASKED_DAY:%d %B}, replayed: {verdict.message}"


def _who_uses(cast: Cast) -> Iterator[str]:
    impact = lineage.forwards(source="weather", column="wind_speed", reader=cast.audrey)
    for each in impact.affected:
        yield f"who uses weather.wind_speed now: {each.label} ({', '.join(each.roles)}), ask {each.owner}"


def _dossier(house: House, cast: Cast, now: datetime) -> Iterator[str]:
    champion = house.registered_model.champion()
    if champion is None:
        return
    began = time.monotonic()
    report = dossier.issue(champion, actor=cast.audrey, now=now)
    target = Path(settings.DATA_ROOT) / f"dossier-{champion.registered_model.name}-v{champion.number}.zip"
    target.write_bytes(dossier.archive(report))
    share = dossier.document_of(report)["completeness"]["system_share"]
    seconds = time.monotonic() - began
    yield f"dossier of {champion}: {share:.0%} filled by the system, written in {seconds:.1f} s: {target}"


def _the_log() -> Iterator[str]:
    began = time.monotonic()
    found = verification.of_the_log()
    state = "unbroken" if found.is_intact else f"{len(found.problems)} problems, first: {found.problems[0].message}"
    seconds = time.monotonic() - began
    yield f"the log: {found.events} events, {found.checked_checkpoints} signed checkpoints, {state} ({seconds:.1f} s)"
