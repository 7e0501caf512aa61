"""The browser that these tests drive: the Chromium that is installed, never one that a package downloads."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import override_settings

from audit import clock
from mlops.management.commands.shots import FLAGS
from tests.builders import NOON
from tests.mlops import world as building
from tests.mlops.world import World

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser. Without one the test is skipped on a person's machine, and fails where CI=true."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    reason = f"no Chromium on PATH (looked for {', '.join(NAMES)}; Debian: apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _around_the_live_server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The live server starts once for all tests, before any of them has a folder; whitenoise warns without one.

    The database is asked for here, so that the server and its connections end before the database is dropped.
    """
    before, settings.STATIC_ROOT = settings.STATIC_ROOT, str(tmp_path_factory.mktemp("static"))
    yield
    settings.STATIC_ROOT = before


@pytest.fixture
def world(transactional_db: None) -> Iterator[World]:
    """A team's world; passwords are the name twice, hashed the cheap way."""
    cheap = override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
    with cheap, clock.at(NOON + timedelta(days=40)):
        yield building.build("delay")


@dataclass
class Visitor:
    """Somebody in front of the browser. ``complaints`` is what the browser's console said in red or yellow."""

    page: Any
    site: str
    complaints: list[str] = field(default_factory=list)
    leaving: list[Callable[[], None]] = field(default_factory=list)

    def leave(self) -> None:
        """Close the browser. Only then may a test ask the database: playwright's loop runs in the same thread, and a
        query beside it would open a connection that nobody closes."""
        while self.leaving:
            self.leaving.pop(0)()

    def hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def sign_in(self, user: User) -> None:
        self.page.goto(f"{self.site}/login/")
        self.page.fill("#id_username", user.username)
        self.page.fill("#id_password", user.username * 2)
        self.page.click("main button[type=submit]")
        self.page.wait_for_url(f"{self.site}/")

    def open(self, path: str) -> Any:
        """Open a page and wait until it is quiet; its status."""
        answer = self.page.goto(self.site + path, wait_until="networkidle")
        return answer.status


@pytest.fixture
def visitor(chromium: str, live_server: Any) -> Iterator[Visitor]:
    """A fresh browser window at the live site."""
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
    visitor = Visitor(browser.new_page(viewport={"width": 1360, "height": 900}), live_server.url)
    visitor.leaving = [browser.close, playwright.stop]
    visitor.page.on("console", visitor.hear)
    visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
    yield visitor
    visitor.leave()
