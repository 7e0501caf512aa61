"""kill -9 of a real gateway under load: nothing that a client has an answer for is missing in the log, or there twice.

The same as ``make bench BENCH=log_kill``, with fewer kills.
"""

from __future__ import annotations

import pytest

from benchmarks import log_kill, portal

pytestmark = pytest.mark.slow

KILLS = 3


def test_gateway__killed_under_load__logs_what_it_acknowledged_once() -> None:
    with portal.empty() as variables:
        found = log_kill.killed(variables, kills=KILLS, seed=7)
    assert found.acknowledged > KILLS * 20
    assert (found.lost, found.doubled) == (0, 0)
    assert found.unasked <= KILLS * log_kill.CLIENTS


def test_ingest__killed_again_and_again__has_every_row_of_the_spool_once() -> None:
    with portal.empty() as variables:
        found = log_kill.killed_taking_in(variables, kills=KILLS, rows=20_000, seed=7)
    assert (found.acknowledged, found.lost, found.doubled, found.unasked) == (20_000, 0, 0, 0)
