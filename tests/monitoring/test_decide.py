"""When a retraining may start, which candidate goes on, and when a human has to rethink."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring import decide
from monitoring.config import MonitorSettings
from monitoring.decide import Circumstances, History, Judged

SETTINGS = MonitorSettings()
NOW = datetime(2013, 7, 1, tzinfo=UTC)
FREE = Circumstances(
    automation=True,
    windows=2,
    open_rethink="",
    data_incident="",
    open_retraining="",
    open_training="",
    active_rollout="",
    last_ended=None,
    asked=0,
)


def test_brake__nothing_in_the_way__is_released() -> None:
    assert decide.brake(FREE, SETTINGS, now=NOW) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"automation": False}, "switched off"),
        ({"windows": None}, "no pipeline"),
        ({"windows": 0}, "no training window"),
        ({"open_rethink": "rethink 3"}, "rethink 3"),
        ({"data_incident": "Broken input"}, "Broken input"),
        ({"open_retraining": "retraining 5"}, "retraining 5 has not ended"),
        ({"open_training": "training run 5"}, "training run 5 has not ended"),
        ({"active_rollout": "the rollout of v3"}, "v3 has not ended"),
        ({"last_ended": NOW - timedelta(days=13)}, "cool-down until 2013-07-02"),
        ({"asked": 5}, "at most 6"),
    ],
)
def test_brake__something_in_the_way__says_what(change: dict[str, Any], says: str) -> None:
    assert says in decide.brake(dataclasses.replace(FREE, **change), SETTINGS, now=NOW)


def test_brake__cool_down_over_and_room_for_both_windows__is_released() -> None:
    free = dataclasses.replace(FREE, last_ended=NOW - timedelta(days=14), asked=4)
    assert decide.brake(free, SETTINGS, now=NOW) == ""


def test_best__several_passed__is_the_largest_gain() -> None:
    chosen = decide.best([Judged(1, True, 0.01), Judged(2, True, 0.02), Judged(3, False, 0.09)], SETTINGS)
    assert chosen == Judged(2, True, 0.02)


def test_best__passed_without_gain__is_nobody() -> None:
    assert decide.best([Judged(1, True, 0.0), Judged(2, True, -0.004)], SETTINGS) is None


def test_best__never_compared__goes_on_after_every_compared_one() -> None:
    assert decide.best([Judged(1, True, None), Judged(2, True, 0.001)], SETTINGS) == Judged(2, True, 0.001)
    assert decide.best([Judged(1, True, None), Judged(2, False, None)], SETTINGS) == Judged(1, True, None)


def test_best__equal_gains__is_the_first_declared() -> None:
    assert decide.best([Judged(1, True, 0.02), Judged(2, True, 0.02)], SETTINGS) == Judged(1, True, 0.02)


def test_rethink__nothing_tried__asks_nothing() -> None:
    assert decide.rethink_question(History(), SETTINGS) == ""


def test_rethink__refused_once__asks_nothing() -> None:
    assert decide.rethink_question(History(refused_in_a_row=1), SETTINGS) == ""


def test_rethink__refused_twice__asks() -> None:
    assert "2 retrainings in a row" in decide.rethink_question(History(refused_in_a_row=2), SETTINGS)


@pytest.mark.parametrize(("days", "asks"), [(12, True), (30, True), (31, False)])
def test_rethink__decay_after_a_promotion__asks_when_it_is_a_relapse(days: int, asks: bool) -> None:
    history = History(promoted_at=NOW - timedelta(days=days), decayed_at=NOW)
    assert bool(decide.rethink_question(history, SETTINGS)) is asks


@pytest.mark.parametrize(("gain", "asks"), [(0.029, True), (0.03, False), (None, False), (-0.01, True)])
def test_rethink__candidate_repairs_part_of_the_loss__asks_below_sixty_per_cent(gain: float | None, asks: bool) -> None:
    assert bool(decide.rethink_question(History(loss=0.05, best_gain=gain), SETTINGS)) is asks


def test_rethink__nothing_was_lost__asks_nothing() -> None:
    assert decide.rethink_question(History(loss=-0.01, best_gain=-0.02), SETTINGS) == ""
