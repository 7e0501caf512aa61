"""No test finds another's routes or scorers in the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rollout import routing, scorers


@pytest.fixture(autouse=True)
def _cold_gateway() -> Iterator[None]:
    routing.forget()
    yield
    routing.forget()


@pytest.fixture(autouse=True, scope="session")
def _no_scorers_left() -> Iterator[None]:
    yield
    scorers.close_all()
