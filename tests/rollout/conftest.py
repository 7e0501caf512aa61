"""No test leaves scorers behind, and people cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rollout import scorers


@pytest.fixture(autouse=True, scope="session")
def _no_scorers_left() -> Iterator[None]:
    yield
    scorers.close_all()


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    """Nobody guesses them here, and a third of a second for each person adds up."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
