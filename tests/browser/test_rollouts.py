"""The rollout and endpoint pages in a real browser: curves drawn, decisions made, narrow and dark; a quiet console."""

from __future__ import annotations

import pytest
from django.urls import reverse

from rollout.models import AnalysisRun, Measurement, Rollout
from tests.browser.conftest import Visitor
from tests.builders import NOON
from tests.mlops.world import DAY, World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HISTOGRAM = {"edges": [0.0, 0.5, 1.0], "counts": {"candidate": [30, 70], "champion": [40, 60]}}


@pytest.fixture
def rollout(world: World) -> Rollout:
    """A canary with looks of its shadow, too. Made before the browser starts: then no test may ask the database."""
    rollout: Rollout = world["rollout"]
    for number in (90, 91, 92):
        look = AnalysisRun.objects.create(
            rollout=rollout,
            number=number,
            stage="shadow",
            at=NOON + number * DAY / 100,
            conclusion="advance" if number == 92 else "wait",
            summary="No harm.",
            candidate_rows=500,
            incumbent_rows=500,
            detail={
                "disagreement": [
                    {
                        "condition": "weather_origin__wind_gust_of_the_last_hours > 27.04 and carrier is UA",
                        "n": 80,
                        "mean": 0.2,
                        "differ": 7,
                        "examples": [{"request_id": "20130529T19Z-UA-625", "at": "2013-05-29", "candidate": 0.7}],
                    }
                ],
                "decisions": {"n": 500, "both_act": 90, "neither": 390, "only_candidate": 15, "only_champion": 5},
                "scores": {"distance": 0.1, "quantiles": [[0.5, 0.6, 0.4]], "histogram": HISTOGRAM},
                "times": {"quantiles": [[0.5, 2.0, 1.0]], "histogram": HISTOGRAM},
            },
        )
        Measurement.objects.create(
            analysis=look,
            metric="errors",
            verdict="passed",
            message="Errors: none.",
            value=0.0,
            limit=0.01,
            n=500,
            harm=0.1,
            no_harm=0.1 * number,
            needed=4.2,
        )
    return rollout


def test_rollout__curves__are_drawn_and_the_folded_ones_when_unfolded(
    world: World, rollout: Rollout, visitor: Visitor
) -> None:
    visitor.sign_in(world.owner)
    assert visitor.open(reverse("portal:rollout", args=[rollout.pk])) == 200
    page = visitor.page
    page.wait_for_selector("[data-chart=evidence-canary-loss] .main-svg")
    assert page.locator("[data-chart=evidence-canary-loss] .point").count() >= 3
    assert page.locator("[data-chart=values-canary-loss] .main-svg").count() == 0
    page.click("figure:has([data-chart=evidence-canary-loss]) summary")
    page.wait_for_selector("[data-chart=values-canary-loss] .main-svg")
    page.click("summary:has-text('looks of the shadow')")
    for chart in ("evidence-shadow-errors", "scores-shadow", "times-shadow"):
        page.wait_for_selector(f"[data-chart={chart}] .main-svg")
    assert "Why:" in page.inner_text(".gh-verdict")
    assert page.locator(".gh-evidence").count() >= 1
    assert visitor.complaints == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pages__on_a_narrow_screen__need_no_sideways_scrolling(
    world: World, rollout: Rollout, visitor: Visitor, colours: str
) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 800})
    visitor.page.emulate_media(color_scheme=colours)
    visitor.sign_in(world.owner)
    name = world["endpoint"].name
    paths = [
        reverse("portal:rollout", args=[rollout.pk]),
        reverse("portal:rollout", args=[world["rolled_back"].pk]),
        reverse("portal:endpoints"),
        reverse("portal:endpoint", args=[name]),
    ]
    for path in paths:
        assert visitor.open(path) == 200
        visitor.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390, path
    assert visitor.complaints == []


def test_endpoint__kill_switch_by_the_product_owner__is_pulled_and_seen_by_others(
    world: World, visitor: Visitor
) -> None:
    page, path = visitor.page, reverse("portal:endpoint", args=[world["endpoint"].name])
    visitor.sign_in(world.owner)
    visitor.open(path)
    page.click("text=Name another")
    page.fill("#fallback-name", "gentle")
    page.fill("#fallback-score", "0.8")
    page.fill("#fallback-note", "Rather warn too often.")
    page.click("text=Name it")
    page.wait_for_selector("text=The kill switch can name gentle now.")
    page.select_option("#stop-fallback", label="gentle: score 0.8")
    page.fill("#stop-note", "The source sends yesterday's values.")
    page.click("text=Pull it")
    page.wait_for_selector("text=the fallback gentle (score 0.8) answers everybody")
    page.click("text=Sign out")
    visitor.sign_in(world.scientist)
    visitor.open(path)
    assert "The source sends yesterday's values." in page.inner_text(".gh-verdict")
    assert page.locator("text=Release").count() == 0
    assert "product owner's" in page.inner_text("main")
    visitor.leave()
    world["endpoint"].refresh_from_db()
    assert not world["endpoint"].enabled
    assert visitor.complaints == []


def test_rollout__paused_by_data_science__says_so(world: World, rollout: Rollout, visitor: Visitor) -> None:
    visitor.sign_in(world.scientist)
    visitor.open(reverse("portal:rollout", args=[rollout.pk]))
    page = visitor.page
    page.fill("#reason", "A source is being moved.")
    page.click("button:has-text('Pause')")
    page.wait_for_selector("text=is paused in canary step 1")
    assert page.locator("button:has-text('Resume')").count() == 1
    visitor.leave()
    rollout.refresh_from_db()
    assert rollout.state == "paused"
    assert visitor.complaints == []
