"""No test leaves scorers behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rollout import scorers


@pytest.fixture(autouse=True, scope="session")
def _no_scorers_left() -> Iterator[None]:
    yield
    scorers.close_all()
