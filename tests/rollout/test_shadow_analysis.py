"""What is said of a shadow beyond its guards: decisions, distributions, where the two differ, and what it has not seen.

Pure: no database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from rollout.analysis import ShadowRows, distributions, loss_differences, measure_shadow
from rollout.analysis.coverage import Coverage, coverage
from rollout.analysis.disagreement import OTHER, Named, decisions, differences, grouped
from rollout.judge import Kind, Measured, Progress, conclude_shadow
from rollout.plan import ShadowPlan, plan_for

NAN = float("nan")
START = datetime(2026, 1, 5, tzinfo=UTC)


def rows_of(candidate: list[float], champion: list[float], label: list[float] | None = None) -> ShadowRows:
    n = len(candidate)
    mine, theirs = np.array(candidate), np.array(champion)
    return ShadowRows(
        entity=[f"N{row}" for row in range(n)],
        candidate=mine,
        champion=theirs,
        candidate_failed=np.isnan(mine),
        champion_failed=np.isnan(theirs),
        label=np.full(n, NAN) if label is None else np.array(label),
        candidate_latency=np.full(n, NAN),
        champion_latency=np.full(n, NAN),
    )


def named(n: int) -> Named:
    return Named([f"r{row}" for row in range(n)], [START + timedelta(minutes=row) for row in range(n)])


def test_decisions__both_kinds_of_disagreement__are_counted_apart_and_held_against_outcomes() -> None:
    rows = rows_of([0.9, 0.9, 0.9, 0.1, 0.1, NAN], [0.9, 0.1, 0.1, 0.9, 0.1, 0.9], [1, 1, 0, 1, NAN, 1])
    found = decisions(rows, 0.5)
    assert found.as_dict() == {
        "n": 5,
        "both_act": 1,
        "neither": 1,
        "only_candidate": 2,
        "only_champion": 1,
        "candidate_right": 1,
        "champion_right": 2,
    }
    assert (found.same, found.different) == (2, 3)


def test_decisions__a_score_on_the_threshold__acts() -> None:
    assert decisions(rows_of([0.5], [0.4999]), 0.5).only_candidate == 1


def test_decisions__outcomes_that_are_no_classes__have_no_right_side() -> None:
    found = decisions(rows_of([0.9], [0.1], [37.0]), 0.5)
    assert (found.candidate_right, found.champion_right) == (0, 0)


def test_spread__distance__is_scipys_and_nan_left_out() -> None:
    random = np.random.default_rng(3)
    mine, theirs = random.normal(0.3, 1, 400), random.normal(0, 1, 700)
    found = distributions.spread(np.append(mine, NAN), theirs)
    assert found is not None
    assert found.distance == pytest.approx(ks_2samp(mine, theirs).statistic)
    assert found.quantiles[1] == pytest.approx((0.5, np.median(mine), np.median(theirs)))


def test_spread__an_empty_side__is_nothing_rather_than_zero() -> None:
    assert distributions.spread(np.empty(0), np.ones(3)) is None
    assert distributions.scores(np.array([NAN]), np.ones(3)) is None
    assert distributions.times(np.ones(3), np.empty(0)) is None


def test_histogram__a_stalled_call__is_in_the_last_bin_and_counts() -> None:
    times = np.append(np.linspace(1, 2, 999), 60_000.0)
    found = distributions.histogram(times, times)
    assert found is not None
    assert found["edges"][-1] < 3
    assert sum(found["counts"]["candidate"]) == 1000


def test_histogram__all_the_same_value__has_one_full_bin() -> None:
    found = distributions.histogram(np.zeros(5), np.zeros(7))
    assert found is not None
    assert (sum(found["counts"]["candidate"]), sum(found["counts"]["champion"])) == (5, 7)


def test_differences__planted_in_one_airport__are_found_there_with_counts_and_examples() -> None:
    random = np.random.default_rng(7)
    n = 2000
    origin = random.choice(["JFK", "LGA", "EWR"], n)
    champion = random.uniform(0.1, 0.4, n)
    candidate = champion + np.where(origin == "LGA", 0.4, 0.01)
    label = (random.random(n) < champion).astype(float)
    rows = rows_of(candidate.tolist(), champion.tolist(), label.tolist())
    frame = pd.DataFrame({"origin": origin, "wind": random.normal(size=n)})
    found = differences(rows, frame, loss_differences(rows), named(n), threshold=0.5)
    worst = found["disagreement"][0]
    inside = origin == "LGA"
    assert worst["condition"].startswith("origin is LGA")
    assert 0.3 < worst["mean"] <= 0.41
    assert worst["differ"] > 0
    assert {each["request_id"] for each in worst["examples"]} <= {f"r{row}" for row in np.flatnonzero(inside)}
    assert worst["examples"][0]["at"].startswith("2026-01-0")
    assert found["loss"][0]["condition"].startswith("origin is LGA")
    assert len(found["examples"]) == 20


def test_differences__rows_that_one_version_failed__are_no_disagreement() -> None:
    rows = rows_of([NAN] * 150 + [0.2] * 150, [0.9] * 150 + [0.2] * 150)
    found = differences(rows, pd.DataFrame({"x": range(300)}), loss_differences(rows), named(300), threshold=0.5)
    assert {each["request_id"] for each in found["examples"]} <= {f"r{row}" for row in range(150, 300)}
    assert found["loss"] == []


def test_differences__no_rows__find_nothing() -> None:
    rows = rows_of([], [])
    found = differences(rows, pd.DataFrame({"x": []}), loss_differences(rows), named(0), threshold=0.5)
    assert found == {"disagreement": [], "loss": [], "examples": []}


def test_grouped__rare_levels__are_one_and_names_of_rows_are_left_out() -> None:
    n = 1000
    frame = pd.DataFrame(
        {
            "tail": [f"N{row}" for row in range(n)],
            "route": ["A"] * 900 + [f"route {row}" for row in range(100)],
            "empty": [None] * n,
            "wind": range(n),
        }
    )
    found = grouped(frame)
    assert list(found.columns) == ["route", "wind"]
    assert found["route"].nunique() <= 26
    assert OTHER in set(found["route"])


# ---------------------------------------------------------------------- coverage


def covered(traffic: dict[str, Any], shadow: dict[str, Any], **wanted: int) -> Coverage:
    seen = pa.table(shadow)
    return coverage(pa.table(traffic), seen, np.ones(len(seen), dtype=np.bool_), wanted=wanted)


def test_coverage__a_level_that_never_came_up_in_shadow__is_missing_by_name() -> None:
    found = covered({"carrier": ["UA"] * 90 + ["HA"] * 10}, {"carrier": ["UA"] * 500}, carrier=50)
    assert found.missing == "Too few shadow rows where the traffic goes: carrier = HA (0 of 50)."
    assert [(each.level, each.rows, each.is_covered) for each in found.levels] == [
        ("= UA", 500, True),
        ("= HA", 0, False),
    ]


def test_coverage__a_level_below_one_per_cent__need_not_be_covered() -> None:
    assert covered({"carrier": ["UA"] * 995 + ["HA"] * 5}, {"carrier": ["UA"] * 50}, carrier=50).missing == ""


def test_coverage__rows_that_a_version_failed__do_not_cover() -> None:
    seen = pa.table({"carrier": ["UA"] * 60})
    found = coverage(seen, seen, np.arange(60) < 20, wanted={"carrier": 50})
    assert "UA (20 of 50)" in found.missing


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        ({"other": [1, 2]}, "The log has no column carrier"),
        ({"carrier": [None, None]}, "carrier is empty in the log"),
        ({"carrier": [f"N{row}" for row in range(500)]}, "No level of carrier makes 1%"),
    ],
)
def test_coverage__that_can_not_be_shown__is_missing(traffic: dict[str, Any], said: str) -> None:
    found = covered(traffic, traffic, carrier=1)
    assert said in found.missing
    assert found.levels == ()


def test_coverage__of_a_number_with_many_values__is_by_quarters() -> None:
    traffic: dict[str, Any] = {"wind": [float(each) for each in range(100)]}
    shadow: dict[str, Any] = {"wind": [float(each) for each in range(50)] * 4}
    found = covered(traffic, shadow, wind=20)
    assert [each.rows for each in found.levels] == [100, 100, 0, 0]
    assert found.missing.count("(0 of 20)") == 2


def test_coverage__many_thin_levels__names_three_and_counts_the_rest() -> None:
    traffic: dict[str, Any] = {"carrier": [f"C{row % 10}" for row in range(100)]}
    found = covered(traffic, {"carrier": ["C0"]}, carrier=5)
    assert found.missing.count("of 5") == 3
    assert found.missing.endswith("and 7 more.")


# ---------------------------------------------------------------------- what follows


PLAN = plan_for("standard").shadow
HARMLESS = [Measured("loss", "passed", "Loss is fine.", n=5000), Measured("agreement", "passed", "-", guards=False)]
UNCOVERED = "Too few shadow rows where the traffic goes: carrier = HA (3 of 50)."


def concluded(hours: float, *, rows: int = 5000, uncovered: str = "", plan: ShadowPlan = PLAN) -> tuple[Kind, str]:
    found = conclude_shadow(HARMLESS, Progress(hours, rows, hours, uncovered), plan)
    return found.kind, found.summary


def test_conclusion__everything_proven_but_a_segment_not_seen__waits_and_names_it() -> None:
    assert concluded(100, uncovered=UNCOVERED) == (Kind.WAIT, UNCOVERED)


def test_conclusion__a_segment_never_seen_until_the_horizon__holds_and_never_passes() -> None:
    kind, summary = concluded(PLAN.max_hours, uncovered=UNCOVERED)
    assert kind == Kind.HOLD
    assert "carrier = HA (3 of 50)" in summary


@pytest.mark.parametrize("hours", [0.0, 71.9, 336.0, 10_000.0])
@pytest.mark.parametrize(("rows", "uncovered"), [(0, ""), (1499, ""), (5000, UNCOVERED)])
def test_conclusion__not_enough_of_anything__never_advances(hours: float, rows: int, uncovered: str) -> None:
    assert concluded(hours, rows=rows, uncovered=uncovered)[0] in (Kind.WAIT, Kind.HOLD)


def test_conclusion__only_reported_metrics__prove_nothing() -> None:
    found = conclude_shadow(HARMLESS[1:], Progress(100, 5000, 100), PLAN)
    assert found.kind == Kind.WAIT


def test_measured__agreement_distribution_and_auc__are_reported_and_judge_nothing() -> None:
    random = np.random.default_rng(1)
    champion = random.uniform(size=400)
    label = (random.random(400) < champion).astype(float)
    rows = rows_of(np.clip(champion + 0.2, 0, 1).tolist(), champion.tolist(), label.tolist())
    measured = {
        each.metric: each for each in measure_shadow(rows, PLAN, threshold=0.5, promise=None, look=1, timed=False)
    }
    for metric in ("agreement", "distribution", "auc"):
        assert not measured[metric].guards
        assert measured[metric].n == 400
    assert "the candidate alone acts in" in measured["agreement"].message
    assert "the champion alone in 0" in measured["agreement"].message
    assert "+0.2 at the 50th percentile" in measured["distribution"].message
    assert "against the champion's" in measured["auc"].message
    assert not measured["latency"].guards


def test_measured__outcomes_that_are_no_classes__have_no_auc() -> None:
    rows = rows_of([3.0] * 50, [2.0] * 50, [2.5] * 50)
    measured = {
        each.metric: each for each in measure_shadow(rows, PLAN, threshold=0.5, promise=None, look=1, timed=False)
    }
    assert measured["auc"].verdict == "inconclusive"
    assert measured["loss"].n == 50
