"""Fixtures of the whole suite: a data root of its own for each test, and a flush that gets past the guards."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Several test processes share few cores: two OpenMP threads each would wait for one another by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GATEHOUSE_DATA", tempfile.mkdtemp(prefix="gatehouse-tests-"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what only PostgreSQL can show."""
    if item.get_closest_marker("postgres") is not None:
        from django.db import connection

        if connection.vendor != "postgresql":
            pytest.skip("needs PostgreSQL: make test runs it there")


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, settings: Any) -> Path:
    """Columnar data and artifacts of a test live in its own folder."""
    settings.DATA_ROOT = str(tmp_path)
    settings.STATIC_ROOT = str(tmp_path / "static")
    (tmp_path / "static").mkdir()  # whitenoise warns when a client asks and there is none
    storages = {**settings.STORAGES}
    storages["artifacts"] = {**storages["artifacts"], "OPTIONS": {"location": str(tmp_path / "artifacts")}}
    settings.STORAGES = storages
    return tmp_path


@pytest.fixture(autouse=True)
def _running_clock() -> Iterator[None]:
    """A test that sets the clock does not leave it set."""
    yield
    from audit import clock

    clock.set_to(None)


@pytest.fixture(autouse=True)
def _cold_gateway() -> Iterator[None]:
    """No test finds another's routes in the process: an endpoint of the same name and revision has other versions."""
    yield
    if "rollout.routing" in sys.modules:
        sys.modules["rollout.routing"].forget()


@pytest.fixture(autouse=True, scope="session")
def _flush_past_the_guards() -> None:
    """Transactional tests empty all tables afterwards; the guards refuse exactly that, so they step aside for it.

    The flush itself emits post_migrate, which installs them again.
    """
    from django.db import connection
    from django.test import TransactionTestCase

    from audit import guards

    original = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # no public hook exists for it

    def teardown(self: TransactionTestCase) -> None:
        with connection.cursor() as cursor:
            for guard in guards.declared():
                on = f' ON "{guard.table}"' if connection.vendor == "postgresql" else ""
                cursor.execute(f'DROP TRIGGER IF EXISTS "{guard.name}"{on}')
        original(self)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]  # no public hook exists for it
