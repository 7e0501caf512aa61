"""The site in a real browser: signing in, charts, a rethink decided on the real page, and a quiet console."""

from __future__ import annotations

import pytest
from django.urls import reverse

from audit.pages import admin_url
from monitoring.models import Rethink
from rollout.models import Rollout
from tests.browser.conftest import Visitor
from tests.mlops.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_model_page__after_signing_in__draws_its_charts_quietly(world: World, visitor: Visitor) -> None:
    visitor.sign_in(world.owner)
    visitor.page.click("text=Delay arrival")
    for chart in ("performance", "drift"):
        visitor.page.wait_for_selector(f"[data-chart={chart}] .main-svg")
    assert visitor.page.locator("[data-chart=performance] .point").count() == 5
    assert visitor.complaints == []


def test_rethink__approved_by_the_product_owner__on_the_real_page(world: World, visitor: Visitor) -> None:
    visitor.sign_in(world.owner)
    visitor.page.click("text=Decide")
    visitor.page.fill("#note", "Predict per airline.")
    visitor.page.click("text=Approve the new approach")
    visitor.page.wait_for_selector("text=Recorded: approve.")
    visitor.leave()
    rethink = Rethink.objects.get()
    assert (rethink.state, rethink.approach, rethink.decided_by) == ("approved", "Predict per airline.", world.owner)
    assert visitor.complaints == []


def test_portal__every_page__leaves_the_console_quiet(world: World, visitor: Visitor) -> None:
    visitor.sign_in(world.scientist)
    name = world.registered_model.name
    paths = [
        reverse("portal:version", args=[name, 1]),
        reverse("portal:gate-run", args=[world["refused_run"].pk]),
        reverse("portal:rollout", args=[world["rollout"].pk]),
        reverse("portal:incident", args=[world["incident"].pk]),
        reverse("portal:event", args=[world["event"].pk]),
        reverse("portal:feature-view", args=[world["feature_view"].name]),
        reverse("portal:feature-service", args=[world["service"].name, 1]),
        reverse("portal:data-source", args=[world["data_source"].name]),
        *map(reverse, ("portal:features", "portal:feature-views", "portal:feature-services", "portal:data-sources")),
        *map(reverse, ("portal:events", "portal:delivery", "portal:system")),
    ]
    for path in paths:
        assert visitor.open(path) == 200, path
        assert visitor.complaints == [], path


def test_admin__list_page_and_decision__work_with_a_quiet_console(world: World, visitor: Visitor) -> None:
    """From the list to the record, to the decision, and back with the record changed."""
    visitor.sign_in(world.operator)
    for path in ("/admin/", reverse("admin:rollout_rollout_changelist"), admin_url(world["rollout"]) or ""):
        assert visitor.open(path) == 200
        assert visitor.complaints == [], path
    visitor.page.click("text=Pause")
    visitor.page.fill("textarea[name=reason]", "The booking app is being released.")
    visitor.page.click("form button:has-text('Pause')")
    visitor.page.wait_for_selector("text=Done and recorded: Pause.")
    visitor.leave()
    assert Rollout.objects.get(pk=world["rollout"].pk).state == "paused"
    assert visitor.complaints == []


def test_admin_login__works_with_a_quiet_console(world: World, visitor: Visitor) -> None:
    visitor.open("/admin/login/")
    visitor.page.fill("#id_username", world.owner.username)
    visitor.page.fill("#id_password", world.owner.username * 2)
    visitor.page.click("button[type=submit]")
    visitor.page.wait_for_selector("text=What needs me")
    assert visitor.complaints == []
