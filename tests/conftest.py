"""Fixtures of the whole suite: a data root of its own for each test, and a flush that gets past the guards.

Most tests build the rows they need directly, without the events that tell of them. So the triggers that insist on an
event for each governed write stand aside, unless a test asks for ``governed_writes``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
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


def _drop(triggers: Iterable[Any]) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for trigger in triggers:
            on = f' ON "{trigger.table}"' if connection.vendor == "postgresql" else ""
            cursor.execute(f'DROP TRIGGER IF EXISTS "{trigger.name}"{on}')


def _let_rows_be_built(**kwargs: Any) -> None:
    """After each migrate and flush: no event is owed."""
    from audit import guards

    _drop(guard for guard in guards.declared() if isinstance(guard, guards.Owing))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Before the test database is made. This receiver is connected after the one that installs the guards.

    The argument is what pytest-django's own fixture of this name does: a database for each of several processes.
    """
    from django.apps import apps
    from django.db.models.signals import post_migrate

    last = [app for app in apps.get_app_configs() if app.models_module is not None][-1]
    post_migrate.connect(_let_rows_be_built, sender=last, dispatch_uid="tests")


@pytest.fixture
def governed_writes(request: pytest.FixtureRequest) -> None:
    """As in production: a governed write without its event is refused at COMMIT.

    Where a test is one transaction of its own, that is at its end, and ``audit.models.Debt`` shows what is owed.
    """
    from audit import guards

    request.getfixturevalue("transactional_db" if _is_transactional(request) else "db")
    guards.install()


def _is_transactional(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("django_db")
    return marker is not None and bool(marker.kwargs.get("transaction"))


@pytest.fixture(autouse=True, scope="session")
def _flush_past_the_guards() -> None:
    """Transactional tests empty all tables afterwards; the guards refuse exactly that, so they step aside for it.

    The flush itself emits post_migrate, which installs them again.
    """
    from django.test import TransactionTestCase

    from audit import guards

    original = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # no public hook exists for it

    def teardown(self: TransactionTestCase) -> None:
        _drop(guards.declared())
        original(self)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]  # no public hook exists for it
