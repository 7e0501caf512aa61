"""A metric by segment: named columns are judged together, found segments are only reported."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gates.frozen import Unmeasurable
from gates.judge import Judgement
from gates.judge.slices import judge
from gates.measure.slices import levels, measure
from gates.policy import SliceCheck
from stats.interval import FloatArray
from tests.gates.holdouts import holdout, kept, late_flights

N = 6000
RANDOM = np.random.default_rng(3)
CARRIER = RANDOM.choice(["AA", "B6", "UA"], N)
HOUR = RANDOM.integers(5, 24, N)
Y, P = late_flights(N)
SCRAMBLED = np.where(CARRIER == "B6", RANDOM.beta(1.5, 3.5, N), P)
SLICES = SliceCheck(id="slices", metric="roc_auc", by=("carrier", "hour"), not_worse_than_overall_by=0.03)


def slices(p: FloatArray, check: SliceCheck = SLICES, **columns: Any) -> Judgement:
    frozen = holdout(Y, p, columns={"carrier": CARRIER, "hour": HOUR, **columns}, threshold=0.3)
    return judge(check, kept(measure, check, frozen))


def asking(**changes: Any) -> SliceCheck:
    return SLICES.model_copy(update=changes)


def test_slices__alike__pass_and_name_the_worst() -> None:
    judgement = slices(P)

    assert judgement.verdict == "passed"
    assert "none of 7 segments by carrier, hour" in judgement.message
    assert "worst is" in judgement.message
    assert judgement.n == N


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "brier", "log_loss", "recall", "f1", "accuracy"])
def test_slices__one_carrier_scrambled__fails_and_is_named(metric: Any) -> None:
    judgement = slices(SCRAMBLED, asking(metric=metric, not_worse_than_overall_by=0.005))
    worst = judgement.detail["segments"][0]

    assert judgement.verdict == "failed"
    assert "carrier = B6" in judgement.message
    assert (worst["by"], worst["level"], worst["verdict"]) == ("carrier", "B6", "failed")
    assert worst["worse_by"] > 0
    assert worst["p_holm"] < 0.05
    assert worst["low"] < worst["value"] < worst["high"]


def test_slices__worse_but_within_the_margin__pass() -> None:
    assert slices(SCRAMBLED, asking(not_worse_than_overall_by=0.5)).verdict == "passed"


def test_slices__small_segment__is_shown_and_not_judged() -> None:
    carrier = np.where(np.arange(N) < 100, "HA", np.where(np.arange(N) < 110, "OO", CARRIER))
    segments = {each["level"]: each for each in slices(P, asking(by=("carrier",)), carrier=carrier).detail["segments"]}

    assert (segments["HA"]["verdict"], segments["HA"]["p_holm"]) == ("inconclusive", None)
    assert segments["HA"]["value"] is not None
    assert segments["OO"] == {
        "by": "carrier", "level": "OO", "n": 10, "value": None, "low": None, "high": None,
        "worse_by": None, "p_holm": None, "verdict": "inconclusive",
    }  # fmt: skip


def test_slices__few_positives__do_not_carry_a_recall() -> None:
    check = asking(metric="recall", by=("few",))
    few = np.where((Y == 1) & (np.cumsum(Y) > 5) | (np.arange(N) > 4000), "many", "few")
    segments = {each["level"]: each for each in slices(P, check, few=few).detail["segments"]}

    assert segments["few"]["n"] > 200
    assert segments["few"]["verdict"] == "inconclusive"
    assert segments["many"]["verdict"] == "passed"


def test_slices__no_segment_large_enough__is_inconclusive_and_says_how_many_rows_are_missing() -> None:
    judgement = slices(P, asking(minimum_rows=5000, find=0))

    assert judgement.verdict == "inconclusive"
    assert "needs 2," in judgement.message
    assert judgement.message.endswith("more rows.")


def test_slices__one_class_only__is_inconclusive() -> None:
    frozen = holdout(np.ones(N), P, columns={"carrier": CARRIER, "hour": HOUR})

    assert judge(SLICES, kept(measure, SLICES, frozen)).verdict == "inconclusive"


def test_slices__no_columns__only_reports_what_it_found() -> None:
    judgement = slices(SCRAMBLED, asking(by=(), blocking=False))

    assert judgement.verdict == "passed"
    assert slices(SCRAMBLED, asking(by=(), blocking=False, minimum_rows=2000)).verdict == "inconclusive"
    assert "no segment is judged. The worst that was found: carrier is B6" in judgement.message


def test_slices__found__are_reported_with_value_and_never_judged() -> None:
    judgement = slices(SCRAMBLED, asking(by=("hour",)))
    worst = judgement.detail["found"][0]

    assert "carrier is B6" in worst["condition"]
    assert worst["low"] < worst["value"] < worst["high"]
    assert worst["n"] < N / 2
    assert len(judgement.detail["found"]) <= 5


def test_slices__same_run__finds_the_same_again() -> None:
    assert slices(SCRAMBLED) == slices(SCRAMBLED)


def test_slices__infinite_numbers__are_a_level_with_the_nulls_and_break_no_search() -> None:
    delay = np.random.default_rng(1).normal(size=N)
    delay[:400], delay[400:800], delay[800:900] = np.inf, -np.inf, np.nan
    judgement = slices(SCRAMBLED, asking(by=("delay",), not_worse_than_overall_by=0.5), delay=delay)
    segments = {each["level"]: each["n"] for each in judgement.detail["segments"]}

    assert judgement.verdict == "passed"
    assert segments["(missing)"] == 900
    assert len(segments) == 5
    assert "carrier is B6" in judgement.detail["found"][0]["condition"]


def test_slices__column_that_is_not_there__says_so() -> None:
    with pytest.raises(Unmeasurable, match="no column 'origin'"):
        slices(P, asking(by=("origin",)))


# ---------------------------------------------------------------------- levels


def sizes(values: Any) -> dict[str, int]:
    return {name: int(rows.sum()) for name, rows in levels(pa.chunked_array([pa.array(values)]))}


def test_levels__numbers__are_cut_at_their_quartiles_and_nulls_apart() -> None:
    assert sizes([*range(1, 101), None, float("nan")]) == {
        "≤ 25.75": 25, "25.75 to 50.5": 25, "50.5 to 75.25": 25, "> 75.25": 25, "(missing)": 2,
    }  # fmt: skip


def test_levels__infinities__are_missing() -> None:
    assert sizes([1.0, float("inf"), 1.0, float("-inf"), None]) == {"1": 2, "(missing)": 3}


def test_levels__nothing_but_infinities__is_one_level() -> None:
    assert sizes([float("inf"), float("-inf")]) == {"(missing)": 2}


def test_levels__numbers_with_few_values__are_levels_themselves() -> None:
    assert sizes([0, 1, 1, 2, None]) == {"0": 1, "1": 2, "2": 1, "(missing)": 1}


def test_levels__many_zeros__do_not_make_empty_segments() -> None:
    found = sizes([0.0] * 90 + list(range(1, 21)))

    assert sum(found.values()) == 110
    assert 0 not in found.values()


def test_levels__many_names__keep_the_fifty_largest() -> None:
    found = sizes([f"N{each:03}" for each in range(80) for _ in range(each + 1)])

    assert len(found) == 51
    assert found["(other)"] == sum(range(1, 31))
    assert found["N079"] == 80


def test_levels__truth_values__are_two() -> None:
    assert sizes([True, False, True]) == {"false": 1, "true": 2}


def test_levels__nothing_but_nulls__is_one_level() -> None:
    assert sizes(pa.array([None, None], pa.float64())) == {"(missing)": 2}
