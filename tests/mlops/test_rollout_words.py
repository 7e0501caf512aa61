"""Words and charts of the rollout pages. Pure but for models that are never saved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops import rollout_charts, rollout_report, rollout_words
from mlops.rollout_charts import Mark, Point
from rollout.models import Measurement
from rollout.plan import plan_for

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def points(*evidence: tuple[float | None, float | None]) -> list[Point]:
    return [
        Point(NOON + timedelta(hours=number), number, harm, no_harm, 4.0, value=0.1 * number)
        for number, (harm, no_harm) in enumerate(evidence, start=1)
    ]


def test_evidence__far_beyond_the_threshold__is_cut_off_and_said_in_full() -> None:
    chart = rollout_charts.evidence(points((-900.0, 2.0), (8000.0, -3.0)), [Mark(NOON, "5 %")])
    assert chart is not None
    harm, no_harm = chart["data"]
    assert harm["y"] == [rollout_charts.LOWEST, rollout_charts.HIGHEST]
    assert no_harm["y"] == [0.5, rollout_charts.LOWEST]
    assert harm["text"][1] == "look 2: 8000.00 where 4.00 proves it"
    assert chart["layout"]["shapes"][0]["y0"] == 1.0
    assert chart["layout"]["annotations"][0]["text"] == "5 %"


def test_evidence__nothing_measured__is_no_chart() -> None:
    assert rollout_charts.evidence([]) is None
    assert rollout_charts.evidence(points((None, None))) is None
    assert rollout_charts.values([], harm_from=None, tolerated=None, both_ways=False) is None


def test_evidence__of_thousands_of_looks__is_thinned_and_keeps_the_last() -> None:
    many = points(*[(0.0, 0.0)] * 5000)
    thin = rollout_charts.thinned(many)
    assert len(thin) <= rollout_charts.MOST_LOOKS
    assert thin[-1] is many[-1]
    assert rollout_charts.thinned(many[:7]) == many[:7]


def test_values__two_sizes__are_both_drawn_and_one_when_they_are_equal() -> None:
    two = rollout_charts.values(points((0, 0)), harm_from=0.1, tolerated=0.3, both_ways=True)
    one = rollout_charts.values(points((0, 0)), harm_from=0.3, tolerated=0.3, both_ways=False)
    assert two is not None
    assert one is not None
    assert sorted(shape["y0"] for shape in two["layout"]["shapes"]) == [-0.3, -0.1, 0.1, 0.3]
    assert [shape["y0"] for shape in one["layout"]["shapes"]] == [0.3]


@pytest.mark.parametrize("found", [{}, {"edges": [1]}, {"edges": "?", "counts": {}}, {"edges": [0, 1], "counts": 3}])
def test_histogram__of_an_unknown_form__is_no_chart(found: dict[str, Any]) -> None:
    assert rollout_charts.histogram(found, title="score") is None


def test_histogram__of_arms_of_unequal_size__is_in_shares_of_each() -> None:
    found = {"edges": [0, 1, 2], "counts": {"candidate": [1, 1], "champion": [100, 300]}}
    chart = rollout_charts.histogram(found, title="score")
    assert chart is not None
    assert [trace["y"] for trace in chart["data"]] == [[0.25, 0.75], [0.5, 0.5]]
    assert chart["data"][0]["name"] == "champion (400)"


@pytest.mark.parametrize(
    ("harm", "no_harm", "widths", "words"),
    [
        (8.0, -2.0, (60.0, 0.0), "harm proven, no harm 0 % of what proves it"),
        (0.0, 2.0, (0.0, 30.0), "harm 0 % of what proves it, no harm 50 % of what proves it"),
        (None, 4.0, (0.0, 60.0), "harm 0 % of what proves it, no harm proven"),
    ],
)
def test_bar__evidence__fills_its_half(
    harm: float | None, no_harm: float | None, widths: tuple[float, float], words: str
) -> None:
    bar = rollout_report.bar(Measurement(harm=harm, no_harm=no_harm, needed=4.0))
    assert bar is not None
    assert (bar.harm_width, bar.no_harm_width) == widths
    assert bar.words == words
    assert bar.harm_x == 60.0 - widths[0]


def test_bar__without_evidence__is_none() -> None:
    assert rollout_report.bar(Measurement(harm=None, no_harm=None, needed=4.0)) is None
    assert rollout_report.bar(Measurement(harm=1.0, no_harm=None, needed=None)) is None


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("errors", 0.1774, "17.74 %"),
        ("latency", 1.0389, "1.04 ×"),
        ("loss", 0.0345, "+0.0345"),
        ("kept_promise", 0.751, "0.751"),
        ("revenue", -2.5, "-2.5"),
        ("loss", None, "—"),
    ],
)
def test_number__of_a_metric__is_in_its_unit(metric: str, value: float | None, said: str) -> None:
    assert rollout_words.number(metric, value) == said


def test_plan__in_words__names_steps_coverage_sizes_and_horizon() -> None:
    overrides = {
        "shadow": {"min_segment_rows": {"carrier": 50}},
        "canary": {"freeze": [{"starts": "fri 16:00", "ends": "mon 08:00", "note": "weekend"}]},
        "look_every_hours": 1,
    }
    parts = rollout_words.plan_in_words(plan_for("standard", overrides).model_dump(mode="json"))
    told = "\n".join(line for part in parts for line in part.lines)
    assert "Every level of carrier that makes 1 % of the traffic or more needs 50 rows." in told
    assert "Step 1: 1 % for at least 24 hours and 5 rows." in told
    assert "Frozen each week from fri 16:00 to mon 08:00 (UTC): weekend." in told
    assert "It is looked at every hour." in told
    assert "not enough evidence never passes" in told
    assert "errors" in told


def test_plan__of_a_form_that_is_no_longer_read__has_no_words() -> None:
    assert rollout_words.plan_in_words({"canary": {"steps": "?"}}) == ()


@pytest.mark.parametrize(
    ("hours", "said"), [(5 / 3600, "5 seconds"), (0.5, "30 minutes"), (1, "hour"), (12, "12 hours"), (168, "7 days")]
)
def test_length__between_looks__is_in_its_unit(hours: float, said: str) -> None:
    assert rollout_words.length_of(hours) == said
