"""A metric of the version alone: what passes, what must fail, what more rows would decide."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from gates.frozen import Missing, Scores, Unmeasurable
from gates.judge import Judgement
from gates.judge.metric import judge
from gates.measure.metric import measure
from gates.policy import MetricCheck
from stats.interval import Interval
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
