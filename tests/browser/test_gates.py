"""The gate report and the policy editor in a real browser: drawn, edited, proposed, confirmed; a quiet console."""

from __future__ import annotations

import pytest
from django.urls import reverse

from gates import actions
from gates.models import GateRun
from tests.browser.conftest import Visitor
from tests.mlops.gate_rows import judged_run
from tests.mlops.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def run(world: World) -> GateRun:
    """Made before the browser starts: after that, this thread may not ask the database."""
    return judged_run(world)


def test_gate_report__what_stopped_it__is_drawn_and_the_rest_when_unfolded(
    world: World, run: GateRun, visitor: Visitor
) -> None:
    visitor.sign_in(world.scientist)
    assert visitor.open(reverse("portal:gate-run", args=[run.pk])) == 200
    page = visitor.page
    for chart in ("curve-roc", "curve-scores", "segments-segments"):
        page.wait_for_selector(f"[data-chart={chart}] .main-svg")
    assert page.locator("[data-chart=segments-segments] .point").count() == 7
    assert page.locator("[data-chart=latencies-latency] .main-svg").count() == 0
    page.click("#check-latency summary")
    page.wait_for_selector("[data-chart=latencies-latency] .main-svg")
    drawn = page.locator("[data-chart=latencies-latency]").bounding_box()
    assert drawn is not None
    assert drawn["width"] > 400
    assert visitor.complaints == []


def test_gate_report__level_that_is_html__is_drawn_as_the_text_it_is(world: World, visitor: Visitor) -> None:
    """In the page's labels and in Plotly's, which would make a link of it."""
    hostile = '<a href="https://evil.example/">x & y</a>'
    visitor.sign_in(world.scientist)
    assert visitor.open(reverse("portal:model", args=[world.registered_model.name])) == 200
    page = visitor.page
    page.evaluate(
        """(level) => {
            const script = Object.assign(document.createElement("script"), {type: "application/json", id: "hostile"});
            script.textContent = JSON.stringify(
                {data: [{type: "bar", orientation: "h", x: [1], y: [level]}], layout: {}});
            const place = document.createElement("div");
            place.dataset.chart = "hostile";
            document.body.append(script, place);
            document.dispatchEvent(new Event("DOMContentLoaded"));
        }""",
        hostile,
    )
    page.wait_for_selector("[data-chart=hostile] .ytick text")
    assert page.locator("[data-chart=hostile] .ytick text").text_content() == hostile
    assert page.locator("[data-chart=hostile] a[*|href*=evil]").count() == 0
    assert page.locator("a[href*=evil]").count() == 0


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_gate_report__on_a_narrow_screen__needs_no_sideways_scrolling(
    world: World, run: GateRun, visitor: Visitor, colours: str
) -> None:
    visitor.page.set_viewport_size({"width": 400, "height": 800})
    visitor.page.emulate_media(color_scheme=colours)
    visitor.sign_in(world.scientist)
    name = world.registered_model.name
    paths = [
        reverse("portal:gate-run", args=[run.pk]),
        reverse("portal:policies", args=[name]),
        reverse("portal:policy", args=[name, 1]),
        reverse("portal:policy-edit", args=[name]),
    ]
    for path in paths:
        assert visitor.open(path) == 200
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 400, path
    assert visitor.complaints == []


def test_policy__edited_checked_proposed__and_confirmed_by_a_second_person(world: World, visitor: Visitor) -> None:
    name, page = world.registered_model.name, visitor.page
    visitor.sign_in(world.scientist)
    visitor.open(reverse("portal:policies", args=[name]))
    page.click("text=Change it")
    right = page.input_value("#text")
    page.fill("#text", right.replace("at_least: 0.65", "at_leest: 0.7"))
    page.click("button[value=check]")
    line = right.splitlines().index("    at_least: 0.65") + 1
    page.wait_for_selector(f".gh-gutter #line-{line}.wrong")
    assert "did you mean at_least" in page.inner_text(f".gh-beside li:nth-child({line})")
    beside, number = (
        page.locator(at).bounding_box() for at in (f".gh-beside li:nth-child({line})", f"#line-{line}")
    )  # fmt: skip
    assert beside["y"] == number["y"]
    page.fill("#text", right.replace("at_least: 0.65", "at_least: 0.6"))
    page.click("button[value=check]")
    page.wait_for_selector("text=1 looser")
    page.wait_for_selector("text=What it would have meant")
    page.fill("#note", "It is a hard month.")
    page.click("button[value=propose]")
    page.wait_for_selector("text=waits for a second person")
    assert page.locator("text=Confirm: put it in force").count() == 0
    page.click("text=Sign out")
    visitor.sign_in(world.owner)
    page.click("tr:has-text('It is a hard month.') >> text=Decide")
    page.fill("#reason", "Agreed, for this month.")
    page.click("text=Confirm: put it in force")
    page.wait_for_selector("text=is in force.")
    visitor.leave()
    policy = actions.in_force(world.registered_model)
    assert policy is not None
    assert (policy.number, policy.document["checks"][0]["at_least"]) == (2, 0.6)
    assert visitor.complaints == []


def test_policy_editor__while_it_is_written__keeps_its_line_numbers(world: World, visitor: Visitor) -> None:
    visitor.sign_in(world.scientist)
    visitor.open(reverse("portal:policy-edit", args=[world.registered_model.name]))
    visitor.page.fill("#text", "\n".join(f"line: {number}" for number in range(1, 61)))
    assert visitor.page.locator(".gh-gutter li").count() == 60
    written = visitor.page.locator("#text").evaluate("area => [area.scrollHeight, area.clientHeight]")
    assert written[0] == written[1]
    assert visitor.complaints == []
