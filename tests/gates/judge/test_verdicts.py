"""The shared words of judgements: bars, conclusions, numbers for people."""

from typing import Any

import pytest

from gates import judge
from gates.judge import Judgement
from gates.judge.verdicts import more_rows, told, told_gain
from stats.interval import Interval


def around(estimate: float, half: float, n: int = 13_000) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, n, 0.95)


# ---------------------------------------------------------------------- bars


@pytest.mark.parametrize(
    ("use", "estimate", "verdict"),
    [
        ("point", 0.66, "passed"),
        ("point", 0.64, "failed"),
        ("lower_bound", 0.68, "passed"),
        ("lower_bound", 0.66, "inconclusive"),
        ("lower_bound", 0.62, "failed"),
        ("upper_bound", 0.64, "passed"),
        ("upper_bound", 0.62, "failed"),
    ],
)
def test_clears__at_least__by_the_side_that_is_used(use: Any, estimate: float, verdict: str) -> None:
    assert judge.clears(around(estimate, 0.02), use=use, at_least=0.65) == verdict


@pytest.mark.parametrize(
    ("use", "estimate", "verdict"),
    [
        ("point", 0.10, "passed"),
        ("point", 0.11, "failed"),
        ("upper_bound", 0.07, "passed"),
        ("upper_bound", 0.11, "inconclusive"),
        ("upper_bound", 0.13, "failed"),
        ("lower_bound", 0.11, "passed"),
        ("lower_bound", 0.13, "failed"),
    ],
)
def test_clears__at_most__by_the_side_that_is_used(use: Any, estimate: float, verdict: str) -> None:
    assert judge.clears(around(estimate, 0.02), use=use, at_most=0.10) == verdict


# ---------------------------------------------------------------------- conclusion


def judged(check_id: str, verdict: Any, *, blocking: bool = True) -> Judgement:
    return Judgement(check_id, "metric", blocking, verdict, f"{check_id} says {verdict}.")


def test_conclusion__all_blocking_passed__passes_and_names_what_was_only_reported() -> None:
    conclusion = judge.conclude([judged("a", "passed"), judged("b", "failed", blocking=False)], required=1)

    assert conclusion.verdict == "passed"
    assert conclusion.message == "All 1 blocking checks passed. Reported only, not passed: b."


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (("passed", "failed", "error", "inconclusive"), "failed"),
        (("passed", "error", "inconclusive"), "error"),
        (("passed", "inconclusive"), "inconclusive"),
        (("passed",), "passed"),
    ],
)
def test_conclusion__failed_before_error_before_inconclusive(verdicts: tuple[str, ...], outcome: str) -> None:
    judgements = [judged(f"check-{position}", verdict) for position, verdict in enumerate(verdicts)]

    assert judge.conclude(judgements, required=len(verdicts)).verdict == outcome


def test_conclusion__names_the_checks_that_stopped_it() -> None:
    conclusion = judge.conclude([judged("auc-floor", "failed"), judged("ci", "passed")], required=2)

    assert conclusion.message == "1 of 2 blocking checks failed. auc-floor: auc-floor says failed."


def test_conclusion__blocking_check_not_judged__is_an_error() -> None:
    assert judge.conclude([judged("a", "passed")], required=2).verdict == "error"


def test_conclusion__nothing_judged__never_passes() -> None:
    assert judge.conclude([], required=1).verdict == "error"


# ---------------------------------------------------------------------- numbers for people


@pytest.mark.parametrize(
    ("estimate", "half", "words"),
    [(0.71234, 0.0112, "0.712 [0.701, 0.724]"), (12.345, 2.5, "12.3 [9.8, 14.8]"), (0.5, 0.0, "0.500 [0.500, 0.500]")],
)
def test_told__has_the_digits_that_the_width_allows(estimate: float, half: float, words: str) -> None:
    assert told(around(estimate, half)) == words


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (0.014, "better than v3 by 0.0140 [0.0090, 0.0190]"),
        (-0.014, "worse than v3 by 0.0140 [0.0090, 0.0190]"),
        (-0.002, "worse than v3 by 0.0020 [0.0070 worse, 0.0030 better]"),
        (0.0, "as good as v3 [0.0050 worse, 0.0050 better]"),
    ],
)
def test_told_gain__says_better_or_worse_and_never_minus(estimate: float, words: str) -> None:
    assert told_gain(around(estimate, 0.005), "v3") == words


def test_more_rows__are_those_beyond_the_rows_at_hand_rounded_up() -> None:
    assert more_rows(around(0.0, 0.02, n=2000), 0.01) == "about 20,000 more rows would decide"


def test_more_rows__nothing_to_tell_apart__says_so() -> None:
    assert more_rows(around(0.0, 0.02), 0.0) == "no reachable number of rows would decide"
