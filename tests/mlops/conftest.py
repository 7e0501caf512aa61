"""Signing in is not what these tests are about: passwords are hashed the cheap way."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def _static_folder(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A live server starts once for all tests, before any of them has a folder; whitenoise warns without one."""
    before, django_settings.STATIC_ROOT = django_settings.STATIC_ROOT, str(tmp_path_factory.mktemp("static"))
    yield
    django_settings.STATIC_ROOT = before


@pytest.fixture
def site(_static_folder: None, live_server: Any) -> str:
    """The address of this portal on a real socket."""
    return str(live_server.url)
