"""``manage.py shots``: pictures of the portal and the admin, made with headless Chromium over the present database."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import BaseCommand, CommandError
from django.db.models import Count, Max, QuerySet
from django.urls import reverse

from audit import clock
from audit.models import Event
from features.models import FeatureService, FeatureView, FeatureViewVersion, Materialization
from gates.models import GateRun
from mlops.demo.people import LOGINS, PASSWORD
from monitoring.models import Incident, Rethink
from registry.models import Alias, ModelVersion, RegisteredModel
from rollout.models import ACTIVE, Rollout, RolloutState

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTH, HEIGHT = 1360, 900
TALLEST = 2000
STARTS_WITHIN = 30


@dataclass(frozen=True)
class Shot:
    """One picture: its file name, who is signed in, what is opened, in which colours."""

    name: str
    user: str
    path: str
    dark: bool = False


class Command(BaseCommand):
    """Serve the site on a free port (or take --url), sign in as the demo's people, open each page and save it."""

    help = "Take screenshots of the portal and the admin with headless Chromium (run `make demo` first)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", default="docs/screenshots", help="Folder of the pictures.")
        parser.add_argument("--url", default="", help="A running site over the same database; else one is started.")

    def handle(self, *args: Any, **options: Any) -> None:
        browser = _browser()
        folder = Path(options["out"])
        folder.mkdir(parents=True, exist_ok=True)
        shots = list(pages())
        known = set(User.objects.values_list("username", flat=True))
        if missing := {shot.user for shot in shots} - known:
            raise CommandError(
                f"There is no user {', '.join(sorted(missing))} in this database: run `make demo` first."
            )
        with _site(options["url"]) as url:
            self._take(shots, url, browser, folder)

    def _take(self, shots: list[Shot], url: str, browser: str, folder: Path) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
            for user, dark in sorted({(shot.user, shot.dark) for shot in shots}):
                colours: Literal["dark", "light"] = "dark" if dark else "light"
                context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=colours)
                page = context.new_page()
                page.on("console", self._console)
                _sign_in(page, url, user)
                for shot in shots:
                    if (shot.user, shot.dark) == (user, dark):
                        self._one(page, url, shot, folder)
                context.close()
            chromium.close()

    def _one(self, page: Any, url: str, shot: Shot, folder: Path) -> None:
        answer = page.goto(url + shot.path, wait_until="networkidle")
        if answer is None or answer.status >= 400:
            raise CommandError(f"{shot.path} answered {answer and answer.status} for {shot.user}.")
        page.wait_for_timeout(800)
        height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
        page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, height)})  # what sticks to an edge is there once
        page.wait_for_timeout(200)
        page.screenshot(path=folder / f"{shot.name}.png")
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        self.stdout.write(f"{folder / shot.name}.png  {shot.path} ({shot.user})")

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.stderr.write(f"  browser {message.type}: {message.text[:300]}")


def pages() -> Iterator[Shot]:
    """The pictures that this database can give, in the order of the story."""
    model = RegisteredModel.objects.order_by("id").first()
    if model is None:
        raise CommandError("There is no model in this database: run `make demo` first.")
    yield Shot("home", "paula", reverse("portal:home"))
    model_page = reverse("portal:model", args=[model.name])
    yield Shot("model", "paula", model_page)
    yield Shot("model-dark", "paula", model_page, dark=True)
    champion = Alias.objects.filter(registered_model=model, name=Alias.CHAMPION).select_related("version").first()
    version = champion.version if champion else ModelVersion.objects.filter(registered_model=model).first()
    if version:
        yield Shot("version", "dana", reverse("portal:version", args=[model.name, version.number]))
    for name, user, page, rows in _records(model):
        if row := rows.order_by("-id").first():
            yield Shot(name, user, reverse(page, args=[row.pk]))
    yield from _endpoints(model)
    yield Shot("policy", "paula", reverse("portal:policies", args=[model.name]))
    yield Shot("policy-editor", "dana", reverse("portal:policy-edit", args=[model.name]))
    refused = GateRun.objects.filter(registered_model=model, state="failed").order_by("-id").first()
    if refused:
        yield Shot("gate-report-refused-dark", "dana", reverse("portal:gate-run", args=[refused.pk]), dark=True)
    yield from _features()
    if version:
        yield from _evidence(version)
    yield Shot("delivery", "paula", reverse("portal:delivery"))
    yield Shot("system", "pete", reverse("portal:system"))
    yield Shot("admin-index", "paula", reverse("admin:index"))
    yield Shot("admin-rollouts", "dana", reverse("admin:rollout_rollout_changelist"))
    yield Shot("admin-events", "audrey", reverse("admin:audit_event_changelist"))
    yield from _admin_records(model)


def _endpoints(model: RegisteredModel) -> Iterator[Shot]:
    """The decision points, one of them as its product owner and as others see it, and a running canary in dark."""
    yield Shot("endpoints", "paula", reverse("portal:endpoints"))
    endpoint = model.endpoints.order_by("name").first()
    if endpoint:
        path = reverse("portal:endpoint", args=[endpoint.name])
        yield Shot("endpoint", "paula", path)
        yield Shot("endpoint-dark", "dana", path, dark=True)
    canary = Rollout.objects.filter(registered_model=model, state=RolloutState.CANARY).order_by("-id").first()
    if canary:
        yield Shot("rollout-canary-dark", "paula", reverse("portal:rollout", args=[canary.pk]), dark=True)


def _evidence(version: ModelVersion) -> Iterator[Shot]:
    """What an auditor asks: lineage, impact, what served, two versions side by side, reports, a prediction replayed."""
    at = [version.registered_model.name, version.number]
    yield Shot("lineage", "audrey", reverse("portal:version-lineage", args=at))
    yield Shot("lineage-dark", "audrey", reverse("portal:version-lineage", args=at), dark=True)
    yield Shot("impact", "audrey", reverse("portal:impact", query={"source": "weather", "column": "wind_speed"}))
    yield Shot("served-on", "audrey", reverse("portal:as-of", query={"at": version.registered_at.isoformat()}))
    if version.number > 1:
        sides = {"a": version.number - 1, "b": version.number}
        yield Shot("compare", "audrey", reverse("portal:compare", args=at[:1], query=sides))
    yield Shot("dossiers", "audrey", reverse("portal:dossiers", args=at))


def _features() -> Iterator[Shot]:
    """The catalogue, the view that most services pin, a service, and the page on which a view is edited."""
    yield Shot("features", "dana", reverse("portal:features"))
    view = FeatureView.objects.annotate(pins=Count("versions__used_in")).order_by("-pins", "name").first()
    if view:
        path = reverse("portal:feature-view", args=[view.name])
        yield Shot("feature-view", "dana", path)
        yield Shot("feature-view-dark", "dana", path, dark=True)
        yield Shot("admin-feature-view-revise", "dana", reverse("admin:features_featureview_revise", args=[view.pk]))
    service = FeatureService.objects.order_by("-versions", "name").first()
    if service:
        yield Shot("feature-service", "dana", reverse("portal:feature-service", args=[service.name, service.number]))
    draft = FeatureViewVersion.objects.filter(state="draft").order_by("-number").first()
    if draft:
        path = reverse("admin:features_featureviewversion_publish", args=[draft.pk])
        yield Shot("admin-feature-view-publish", "dana", path)


def _records(model: RegisteredModel) -> list[tuple[str, str, str, QuerySet[Any]]]:
    refused = GateRun.objects.filter(registered_model=model, state="failed")
    rollouts = Rollout.objects.filter(registered_model=model)
    rolled_back = rollouts.filter(state=RolloutState.ROLLED_BACK)
    promoted = Event.objects.filter(registered_model=model.name, name="rollout.promoted", cause__isnull=False)
    return [
        ("gate-report-refused", "dana", "portal:gate-run", refused),
        ("rollout-active", "dana", "portal:rollout", rollouts.filter(state__in=ACTIVE)),
        ("rollout-canary", "dana", "portal:rollout", rollouts.filter(state=RolloutState.CANARY)),
        ("rollout-rolled-back-in-shadow", "dana", "portal:rollout", rolled_back.filter(step=0)),
        ("rollout-rolled-back", "dana", "portal:rollout", rolled_back.filter(step__gt=0)),
        ("rollout-promoted", "dana", "portal:rollout", rollouts.filter(state=RolloutState.PROMOTED, step__gt=0)),
        ("rethink", "paula", "portal:rethink", Rethink.objects.filter(registered_model=model)),
        ("incident", "dana", "portal:incident", Incident.objects.filter(registered_model=model)),
        ("event-chain", "audrey", "portal:event", promoted),
    ]


def _admin_records(model: RegisteredModel) -> Iterator[Shot]:
    rollout = Rollout.objects.filter(registered_model=model).order_by("-id").first()
    if rollout:
        path = reverse("admin:rollout_rollout_change", args=[rollout.pk])
        yield Shot("admin-rollout", "dana", path)
        yield Shot("admin-rollout-dark", "dana", path, dark=True)
    proposed = Rethink.objects.filter(registered_model=model, state="proposed").first()
    if proposed:
        yield Shot("admin-rethink-approval", "paula", reverse("admin:monitoring_rethink_approve", args=[proposed.pk]))


def _browser() -> str:
    """The browser that is installed. Says what is missing: we never download one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise CommandError(
            f"No Chromium on PATH (looked for {', '.join(BROWSERS)}). Install it, on Debian: apt-get install chromium"
        )
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as problem:
        raise CommandError("The Python package playwright is missing: it comes with the dev extra.") from problem
    return found


def _sign_in(page: Any, url: str, user: str) -> None:
    page.goto(url + reverse("portal:login"))
    page.fill("#id_username", user)
    page.fill("#id_password", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_load_state("networkidle")
    if reverse("portal:login") in page.url:
        names = ", ".join(each[0] for each in LOGINS)
        raise CommandError(f"{user} can not sign in with the demo's password. This needs the demo's people: {names}.")


@contextmanager
def _site(url: str) -> Iterator[str]:
    """The address of the running site; a server of our own, living at the last event's time, unless one is given."""
    if url:
        yield url.rstrip("/")
        return
    port = _free_port()
    environment = dict(os.environ)
    last = _last_moment()
    if last is not None:
        environment.update(clock.starting_at(last))
    manage = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py")]
    command = [*manage, "runserver", "--noreload", f"127.0.0.1:{port}"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address + reverse("healthz"), server)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)


def _last_moment() -> datetime | None:
    """The last thing that happened in this database: an event, or a materialization (which is none)."""
    event = Event.objects.aggregate(last=Max("at"))["last"]
    slot = Materialization.objects.aggregate(last=Max("up_to"))["last"]
    return max((each for each in (event, slot) if each is not None), default=None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            with urlopen(address, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise CommandError("The site did not start: try `make run` and read its output.")
