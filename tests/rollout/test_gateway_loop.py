"""What the gateway's command does beside the serving, a turn at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.models import Job
from rollout import ingest
from rollout.gateway import kits
from rollout.gateway.asked import Asked
from rollout.gateway.loop import Chore, Loop
from rollout.gateway.process import Process
from rollout.models import SpoolSegment
from tests.builders import NOON
from tests.rollout import life

pytestmark = pytest.mark.django_db


def test_turn__does_all_that_is_due(settings: Any) -> None:
    settings.GATEHOUSE_GATEWAY_AUTH = "none"
    story = life.begin()
    story.candidate()
    process = Process()
    try:
        process.poller.begin()
        process.models.load_due()
        process.house("").answer(life.ENDPOINT, Asked({"x1": [0.5], "x2": [0.5]}, 1))
        Loop(lambda: NOON + timedelta(days=2)).turn()
    finally:
        process.stop()
    assert SpoolSegment.objects.get().rows == 1
    assert len(list(kits.folder().glob("*.parquet"))) == 2
    assert Job.objects.filter(kind="rollout.look").count() == 1


def test_turn__within_a_second__does_nothing_again() -> None:
    at = [0.0]
    loop = Loop(lambda: NOON, seconds=lambda: at[0])
    loop.turn()
    life.begin()
    loop.turn()
    assert not kits.folder().exists(), "kits are looked for each two seconds"
    at[0] += 2
    loop.turn()
    assert len(list(kits.folder().glob("*.parquet"))) == 1


def test_turn__a_folder_that_can_not_be_read__keeps_nothing_else_from_its_turn(data_root: Path) -> None:
    life.begin()
    (data_root / "spool").write_text("no folder")
    assert ingest.spool_folder().is_file()
    Loop(lambda: NOON).turn()
    assert len(list(kits.folder().glob("*.parquet"))) == 1


def test_chore__fails_in_a_way_nobody_thought_of__is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns: list[datetime] = []

    def broken(now: datetime) -> None:
        turns.append(now)
        raise ValueError("a stored plan that is none any more")

    chore = Chore(1.0, broken)
    for second in range(3):
        chore.turn(float(second), NOON)
    assert len(turns) == 3
    assert len([each for each in caplog.records if "broken failed" in each.getMessage()]) == 1
