"""The version against the champion on the same rows."""

from typing import Any

import numpy as np
import pytest

from gates.frozen import Missing, Scores, Unmeasurable
from gates.judge import Judgement
from gates.judge.versus_champion import judge
from gates.measure.versus_champion import measure
from gates.policy import VersusChampionCheck
from stats.interval import FloatArray
from stats.metrics import METRICS
from tests.gates.holdouts import RIVAL, holdout, kept, late_flights

VERSUS = VersusChampionCheck(id="versus", metric="roc_auc", not_worse_by=0.01)
ACCURACY = VersusChampionCheck(id="versus", metric="accuracy", not_worse_by=0.01, minimum_rows=1)


def versus(y: FloatArray, p: FloatArray, champion: FloatArray, check: VersusChampionCheck = VERSUS) -> Judgement:
    return judge(check, kept(measure, check, holdout(y, p, champion)))


def paired(n: int, *, better: int, worse: int, check: VersusChampionCheck = ACCURACY) -> Judgement:
    """Accuracy on n rows: so many that only the candidate gets right, so many that only the champion does."""
    y, p, champion = np.ones(n), np.full(n, 0.9), np.full(n, 0.9)
    champion[:better] = 0.1
    p[better : better + worse] = 0.1
    return versus(y, p, champion, check)


def test_versus_champion__better__passes_with_both_values() -> None:
    y, good = late_flights(13_000)
    _, poor = late_flights(13_000, skill=0.5)
    judgement = versus(y, good, poor)

    assert judgement.verdict == "passed"
    assert f"AUC better than {RIVAL} by 0." in judgement.message
    assert "on the same 13,000 rows: worse by 0.01 is excluded." in judgement.message
    assert judgement.low is not None
    assert judgement.low > 0
    assert judgement.detail["candidate_value"] > judgement.detail["champion_value"]


def test_versus_champion__clearly_worse__fails_and_says_worse() -> None:
    y, good = late_flights(13_000)
    _, poor = late_flights(13_000, skill=0.5)
    judgement = versus(y, poor, good)

    assert judgement.verdict == "failed"
    assert f"AUC worse than {RIVAL} by 0." in judgement.message
    assert judgement.message.endswith("rows: more than the 0.01 allowed.")
    assert "-" not in judgement.message.replace(RIVAL, "")
    assert judgement.high is not None
    assert judgement.high < 0


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"specificity", "precision", "accuracy", "recall"}))
def test_versus_champion__every_metric__fails_a_version_that_is_far_worse(metric: Any) -> None:
    y, good = late_flights(6000)
    worthless = np.random.default_rng(1).random(6000)
    check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=0.01)
    judgement = judge(check, kept(measure, check, holdout(y, worthless, good, threshold=0.4)))

    assert judgement.verdict == "failed"


@pytest.mark.parametrize(("metric", "lost"), [("recall", 1.0), ("specificity", 0.0), ("accuracy", 1.0)])
def test_versus_champion__shares_of_rows__fail_a_version_that_loses_a_tenth(metric: Any, lost: float) -> None:
    y, _ = late_flights(4000)
    champion = np.where(y == 1, 0.9, 0.1)
    p = np.where((y == lost) & (np.arange(4000) % 3 == 0), 1 - champion, champion)
    check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=0.01)

    assert versus(y, p, champion, check).verdict == "failed"


def test_versus_champion__equal_and_precise__passes() -> None:
    assert paired(20_000, better=600, worse=600).verdict == "passed"


def test_versus_champion__equal_but_imprecise__says_how_many_more_rows_an_equal_one_takes() -> None:
    judgement = paired(2000, better=60, worse=60)

    assert judgement.verdict == "inconclusive"
    assert "as good as late-arrival v3 [0.011 worse, 0.011 better]" in judgement.message
    assert judgement.message.endswith("about 4,800 more rows would decide about a version as good as the champion.")


def test_versus_champion__near_the_margin_on_many_rows__says_how_many_if_it_stays_so() -> None:
    judgement = paired(20_000, better=520, worse=680)

    assert judgement.verdict == "inconclusive"
    assert "about 150,000 more rows would decide if it stays as measured" in judgement.message


@pytest.mark.parametrize("n", [50, 100, 200, 350])
def test_versus_champion__no_row_told_them_apart__does_not_pass_on_few_rows(n: int) -> None:
    assert paired(n, better=0, worse=0).verdict == "inconclusive"


@pytest.mark.parametrize(("n", "margin"), [(50, 0.02), (100, 0.01), (200, 0.01)])
@pytest.mark.parametrize("metric", ["brier", "log_loss", "mae", "calibration_gap", "rmse"])
def test_versus_champion__grave_errors_that_no_row_shows__are_reckoned_with(n: int, margin: float, metric: Any) -> None:
    """Two versions that differ by a tiny noise on every row: one in fifty of another kind may well be missing."""
    random = np.random.default_rng(n)
    y = (random.random(n) < 0.5).astype(float)
    p, champion = (np.clip(np.where(y == 1, 0.99, 0.01) + random.normal(0, 0.001, n), 0, 1) for _ in range(2))
    check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=margin, minimum_rows=1)

    assert versus(y, p, champion, check).verdict == "inconclusive"


def test_versus_champion__tiny_noise_on_many_rows__passes() -> None:
    random = np.random.default_rng(0)
    y, p = late_flights(5000)
    check = VersusChampionCheck(id="versus", metric="brier", not_worse_by=0.01)

    assert versus(y, p, np.clip(p + random.normal(0, 0.001, 5000), 0, 1), check).verdict == "passed"


def test_versus_champion__three_positives__are_inconclusive_and_say_how_many_rows_are_missing() -> None:
    y = (np.arange(2000) < 3).astype(float)
    judgement = versus(y, np.linspace(1, 0, 2000), np.linspace(1, 0, 2000))

    assert judgement.verdict == "inconclusive"
    assert "AUC rests on 3 of these 2,000 rows, 10 such rows are needed to judge: about 4,700 more" in judgement.message


def test_versus_champion__margin_of_zero__takes_a_better_version() -> None:
    strict = VersusChampionCheck(id="versus", metric="accuracy", not_worse_by=0.0, minimum_rows=1)

    assert paired(5000, better=300, worse=100, check=strict).verdict == "passed"
    assert paired(5000, better=100, worse=300, check=strict).message.endswith("it may not be worse at all.")
    assert "no number of rows can show it" in paired(5000, better=200, worse=200, check=strict).message


def test_versus_champion__too_few_rows__is_inconclusive() -> None:
    y, p = late_flights(10)
    judgement = versus(y, p, p)

    assert judgement.verdict == "inconclusive"
    assert "990 more rows" in judgement.message


def test_versus_champion__one_class_only__is_inconclusive() -> None:
    p = np.linspace(0.1, 0.9, 2000)

    assert "it takes rows of both outcomes" in versus(np.ones(2000), p, p).message


def test_versus_champion__none_yet__passes_and_says_so() -> None:
    y, p = late_flights(5000)
    judgement = judge(VERSUS, kept(measure, VERSUS, holdout(y, p)))

    assert judgement.verdict == "passed"
    assert "no champion" in judgement.message
    assert judgement.value is None


def test_versus_champion__rows_the_champion_could_not_score__are_left_out() -> None:
    y, p = late_flights(5000)
    champion = np.where(np.arange(5000) < 100, np.nan, p)

    assert versus(y, p, champion).n == 4900


def test_versus_champion__that_saw_the_holdout__is_unfair() -> None:
    y, p = late_flights(5000)

    with pytest.raises(Unmeasurable, match="the comparison would be unfair"):
        measure(VERSUS, holdout(y, p, p, champion_is_unfair=True))


def test_versus_champion__that_can_not_be_scored__says_why() -> None:
    y, p = late_flights(5000)

    with pytest.raises(Unmeasurable, match="could not be scored: its file is gone"):
        measure(VERSUS, holdout(y, p, Missing("its file is gone")))


def test_versus_champion__candidate_with_a_row_it_can_not_score__is_a_defect() -> None:
    y, p = late_flights(5000)

    with pytest.raises(Unmeasurable, match="It could not score 1"):
        measure(VERSUS, holdout(y, p, p, candidate=Scores(p, {0: "no"})))
