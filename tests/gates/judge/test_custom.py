"""Measurements that a pipeline posted: what passes, what must fail, what is too little, what can not be judged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gates.judge import Judgement
from gates.judge.custom import judge
from gates.policy import CustomCheck

NOW = datetime(2013, 6, 1, tzinfo=UTC)
FLOOR: dict[str, Any] = {"id": "revenue", "measurement": "revenue-per-user", "at_least": 1.0}


def custom(check: dict[str, Any] | None = None, **measured: Any) -> Judgement:
    """The check judged on a measurement with these numbers; without any, on none."""
    days = measured.pop("days", 1)
    newest = {"evidence": 7, "submitted_at": (NOW - timedelta(days=days)).isoformat(), "n": None, "low": None}
    newest |= {"high": None, "confidence": None, **measured}
    told = {"version": "late-arrival v3", "measurements": {"revenue-per-user": newest} if measured else {}}
    moment = {"began": NOW.isoformat(), "deadline": NOW.isoformat()}
    return judge(CustomCheck.model_validate({**FLOOR, **(check or {})}), {**told, **moment})


def test_custom__value_clears_the_bar__passes_with_its_numbers() -> None:
    judgement = custom(value=1.2, n=300)

    assert (judgement.verdict, judgement.value, judgement.n) == ("passed", 1.2, 300)
    assert judgement.message == "revenue-per-user 1.2 clears at least 1."
    assert judgement.detail["evidence"] == 7


def test_custom__value_below_the_bar__fails() -> None:
    assert custom(value=0.9).verdict == "failed"
    assert custom({"at_least": None, "at_most": 1.0}, value=1.1).verdict == "failed"


def test_custom__nothing_came__is_inconclusive() -> None:
    judgement = custom()

    assert judgement.verdict == "inconclusive"
    assert judgement.message == "No measurement revenue-per-user of late-arrival v3 came by 2013-06-01 00:00."


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.01, 1.3, "passed"), (0.9, 1.3, "inconclusive"), (0.7, 0.99, "failed")]
)
def test_custom__side_of_the_interval__has_to_prove_it(low: float, high: float, verdict: str) -> None:
    judgement = custom({"use": "lower_bound"}, value=(low + high) / 2, low=low, high=high, confidence=0.95, n=50)

    assert (judgement.verdict, judgement.low, judgement.high) == (verdict, low, high)


def test_custom__side_of_an_interval_that_did_not_come__is_an_error_that_says_so() -> None:
    judgement = custom({"use": "lower_bound"}, value=5.0, n=100)

    assert judgement.verdict == "error"
    assert "without an interval" in judgement.message


@pytest.mark.parametrize("confidence", [None, 0.9])
def test_custom__interval_less_sure_than_asked_for__is_an_error(confidence: float | None) -> None:
    assert custom({"use": "upper_bound"}, value=5.0, low=4.0, high=6.0, confidence=confidence).verdict == "error"


def test_custom__too_few_observations__is_inconclusive_and_says_how_many_more() -> None:
    judgement = custom({"minimum_n": 500}, value=5.0, n=120)

    assert judgement.verdict == "inconclusive"
    assert judgement.message.endswith("380 more would decide.")


def test_custom__observations_not_told_where_the_policy_asks_for_many__is_an_error() -> None:
    assert custom({"minimum_n": 500}, value=5.0).verdict == "error"


def test_custom__from_no_observation__is_inconclusive() -> None:
    assert custom(value=5.0, n=0).verdict == "inconclusive"


@pytest.mark.parametrize(("days", "verdict"), [(7, "passed"), (7.01, "error")])
def test_custom__too_old__is_an_error(days: float, verdict: str) -> None:
    assert custom({"maximum_age_days": 7}, value=5.0, days=days).verdict == verdict
