"""A metric of the version alone: what passes, what must fail, what more rows would decide."""

import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from gates.frozen import Missing, Scores, Unmeasurable
from gates.judge import Judgement
from gates.judge.metric import judge
from gates.measure.metric import measure
from gates.policy import MetricCheck
from stats.interval import FloatArray, Interval
from stats.metrics import METRICS
from tests.gates.holdouts import holdout, kept, late_flights

FLOOR = MetricCheck(id="auc-floor", metric="roc_auc", at_least=0.65, use="lower_bound")


def around(estimate: float, half: float, rows: int = 13_000, check: MetricCheck = FLOOR) -> Judgement:
    value = Interval(estimate, estimate - half, estimate + half, rows, 0.95)
    return judge(check, {"rows": rows, "value": asdict(value)})


def test_metric__clearly_above__passes_with_its_numbers() -> None:
    judgement = around(0.74, 0.01)

    assert judgement.verdict == "passed"
    assert judgement.message == "AUC 0.740 [0.730, 0.750] on 13,000 rows clears at least 0.65."
    assert (judgement.value, judgement.low, judgement.high, judgement.n) == (0.74, 0.73, 0.75, 13_000)
    assert judgement.threshold == "roc_auc ≥ 0.65 (lower bound, 95%)"
    assert judgement.detail == {"metric": "roc_auc"}


def test_metric__clearly_below__fails() -> None:
    judgement = around(0.612, 0.014)

    assert judgement.verdict == "failed"
    assert judgement.message == "AUC 0.612 [0.598, 0.626] on 13,000 rows is below 0.65."


def test_metric__around_the_bar__is_inconclusive_and_says_how_many_more_rows_would_decide() -> None:
    judgement = around(0.66, 0.02, 2000)

    assert judgement.verdict == "inconclusive"
    assert judgement.message.endswith("may be below 0.65; about 20,000 more rows would decide if it stays as measured.")


def test_metric__loss_above_its_ceiling__fails() -> None:
    ceiling = MetricCheck(id="brier", metric="brier", at_most=0.15, use="upper_bound")

    assert around(0.2, 0.01, check=ceiling).message == "Brier score 0.200 [0.190, 0.210] on 13,000 rows is above 0.15."


def test_metric__too_few_rows__is_inconclusive_and_says_how_many_are_missing() -> None:
    judgement = around(0.9, 0.01, 120)

    assert judgement.verdict == "inconclusive"
    assert judgement.message == "120 labelled rows, 1,000 are needed to judge: 880 more rows."


def test_metric__one_class_only__is_inconclusive_and_says_why() -> None:
    judgement = judge(FLOOR, {"rows": 5000, "value": None})

    assert judgement.verdict == "inconclusive"
    assert judgement.message == "AUC has no value on these 5,000 rows: it takes rows of both outcomes."


@pytest.mark.parametrize("positives", [2, 5, 9])
def test_metric__few_positives__are_inconclusive_however_well_they_rank(positives: int) -> None:
    y = (np.arange(2000) < positives).astype(float)
    check = FLOOR.model_copy(update={"at_least": 0.6})
    judgement = judge(check, kept(measure, check, holdout(y, np.linspace(1, 0, 2000))))

    assert judgement.verdict == "inconclusive"
    assert (
        f"AUC rests on {positives} of these 2,000 rows, 10 such rows are needed to judge: about " in judgement.message
    )
    assert judgement.message.endswith(" more rows as they come.")


def test_metric__five_positives__take_as_many_rows_again() -> None:
    y = (np.arange(2000) < 5).astype(float)

    assert "about 2,000 more rows" in judge(FLOOR, kept(measure, FLOOR, holdout(y, y))).message


def test_metric__enough_positives_that_rank_perfectly__are_not_taken_for_certain() -> None:
    y = (np.arange(2000) < 12).astype(float)
    judgement = judge(FLOOR, kept(measure, FLOOR, holdout(y, y)))

    assert judgement.value == 1
    assert judgement.low is not None
    assert judgement.low < 0.95


@pytest.mark.parametrize(
    ("metric", "bar"), [("brier", 0.0005), ("log_loss", 0.007), ("ece", 0.0005), ("calibration_gap", 0.0005)]
)
def test_metric__denies_what_did_not_come_on_these_rows__is_inconclusive(metric: Any, bar: float) -> None:
    """Once in a thousand rows it comes, and each such row costs all: no such row among 2,000 shows nothing."""
    check = MetricCheck(id="loss", metric=metric, at_most=bar, use="upper_bound")

    assert judge(check, kept(measure, check, holdout(np.zeros(2000), np.full(2000, 1e-6)))).verdict == "inconclusive"


def shared_out(n: int, random: np.random.Generator | None = None) -> tuple[FloatArray, FloatArray]:
    """5 % positive, 74 % of them found, 2 % of the others alarmed: drawn, or exactly so."""
    row = np.arange(n)
    y = (row < 0.05 * n).astype(float) if random is None else (random.random(n) < 0.05).astype(float)
    of_kind = np.where(y == 1, row / (0.05 * n), (row - 0.05 * n) / (0.95 * n))
    chance = of_kind if random is None else random.random(n)
    return y, np.where(chance < np.where(y == 1, 0.74, 0.02), 0.9, 0.1)


@pytest.mark.parametrize(
    ("metric", "bar"), [("recall", 0.7), ("precision", 0.62), ("f1", 0.66), ("specificity", 0.977)]
)
def test_metric__undecided_share__asks_for_rows_of_the_holdout_that_decide(metric: Any, bar: float) -> None:
    check = MetricCheck(id="share", metric=metric, at_least=bar, use="lower_bound")
    message = judge(check, kept(measure, check, holdout(*shared_out(4000)))).message
    told = re.search(r"about ([\d,]+) more rows would decide", message)
    assert told is not None
    random, n = np.random.default_rng(0), 4000 + int(told[1].replace(",", ""))
    drawn = [judge(check, measure(check, holdout(*shared_out(n, random)))).verdict for _ in range(100)]

    assert drawn.count("passed") >= 82  # .9 is promised; of a hundred .82 is the least that goes with it


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_metric__every_metric__fails_scores_without_any_skill(metric: Any) -> None:
    """A case that must fail, for each of them: scores that have nothing to do with the outcomes, and lie too low."""
    y, _ = late_flights(3000)
    p = np.random.default_rng(9).beta(1, 12, 3000)
    bars = {"at_least": 0.995} if METRICS[metric].greater_is_better else {"at_most": 0.05}
    check = MetricCheck(id="metric", metric=metric, use="upper_bound" if "at_least" in bars else "lower_bound", **bars)

    assert judge(check, kept(measure, check, holdout(y, p, threshold=0.08))).verdict == "failed"


def test_metric__of_decisions__is_taken_at_the_policys_threshold() -> None:
    y, p = late_flights(3000)
    check = MetricCheck(id="recall", metric="recall", at_least=0.5)
    everybody, nobody = (kept(measure, check, holdout(y, p, threshold=each)) for each in (0.0, 1.0))

    assert (everybody["value"]["estimate"], nobody["value"]["estimate"]) == (1, 0)


def test_metric__row_that_can_not_be_scored__is_a_defect() -> None:
    y, p = late_flights(100)

    with pytest.raises(Unmeasurable, match=r"could not score 1 of 100 rows \(row 3: no such carrier\)"):
        measure(FLOOR, holdout(y, p, candidate=Scores(p, {3: "no such carrier"})))


def test_metric__no_scores__says_why() -> None:
    y, p = late_flights(100)

    with pytest.raises(Unmeasurable, match="the artifact is gone"):
        measure(FLOOR, holdout(y, p, candidate=Missing("the artifact is gone")))
