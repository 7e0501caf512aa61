"""Robustness judged from numbers: parity, determinism, crashes, holes."""

from typing import Any

import pytest

from gates.judge import Judgement, robustness
from gates.policy import RobustnessCheck

CHECK = RobustnessCheck(id="robustness")
SAME = {"rows": 200, "differing": 0, "only_one": 0, "max_difference": 0.0, "relative": 0.0}
MOVED = {"rows": 200, "differing": 9, "only_one": 0, "max_difference": 0.03, "relative": 0.03}
ROUNDED = {"rows": 200, "differing": 120, "only_one": 0, "max_difference": 2e-8, "relative": 2e-8}


def spoilt(column: str, answered: int = 100, **changes: Any) -> dict[str, Any]:
    said = "" if answered == 100 else "ValueError: Input contains NaN."
    fields = {"rows": 100, "answered": answered, "largest_change": 0.1, "said": said, "died": False}
    return {"column": column, **fields, **changes}


def judge(check: RobustnessCheck = CHECK, **changes: Any) -> Judgement:
    determinism = {"again": SAME, "order": SAME, "alone": SAME, **changes.pop("determinism", {})}
    measured = {
        "served": {"load_class": "onnx", "digest": "0" * 64},
        "registered": {"load_class": "skops", "digest": "5" * 64},
        "workload": {"rows": 200, "digest": "ab" * 32, "seed": 7},
        "parity": {"by": "scores", **SAME, "max_difference": 3e-7},
        "rows": 200,
        "answered": 200,
        "said": "",
        "determinism": determinism,
        "missing": [spoilt("distance"), spoilt("carrier")],
        "strange": [spoilt("distance"), spoilt("carrier")],
        **changes,
    }
    return robustness.judge(check, measured)


def test_robustness__all_in_order__passes_and_says_how_near_both_forms_are() -> None:
    judgement = judge()

    assert judgement.verdict == "passed"
    assert "served form (onnx 000000000000)" in judgement.message
    assert "at most 3e-07 apart on 200 rows" in judgement.message
    assert (judgement.value, judgement.n) == (3e-7, 200)


def test_robustness__served_and_trained_differ__fails() -> None:
    judgement = judge(parity={"by": "scores", **MOVED})

    assert judgement.verdict == "failed"
    assert "What is served is not what was trained" in judgement.message
    assert judgement.detail["wrong"] == ["parity"]
    assert judgement.value == 0.03


def test_robustness__only_one_form_answers_a_row__fails_however_near_the_others_are() -> None:
    judgement = judge(parity={"by": "scores", **SAME, "only_one": 2})

    assert judgement.verdict == "failed"
    assert "2 were answered by one form only" in judgement.message


def test_robustness__difference_that_the_policy_allows__passes() -> None:
    assert judge(RobustnessCheck(id="r", parity_tolerance=0.1), parity={"by": "scores", **MOVED}).verdict == "passed"


def test_robustness__served_as_registered__is_the_same_by_its_digest() -> None:
    form = {"load_class": "skops", "digest": "5" * 64}
    parity = {"by": "identity", "rows": 200, "max_difference": 0.0, "only_one": 0}
    judgement = judge(served=form, registered=form, parity=parity)

    assert judgement.verdict == "passed"
    assert "The registered artifact itself is served (555555555555)" in judgement.message


def test_robustness__endpoint_elsewhere__says_that_nobody_knows_what_is_behind_it() -> None:
    form = {"load_class": "external", "digest": "5" * 64}
    parity = {"by": "identity", "rows": 200, "max_difference": 0.0, "only_one": 0}

    assert "outside our sight" in judge(served=form, registered=form, parity=parity).message


# ---------------------------------------------------------------------- the same answer twice


def test_robustness__another_answer_to_the_same_rows__fails() -> None:
    judgement = judge(determinism={"again": MOVED})

    assert judgement.verdict == "failed"
    assert "Asked twice, 9 of 200 rows got another answer, up to 0.03 away" in judgement.message


def test_robustness__last_bit_differs_when_asked_twice__fails() -> None:
    assert judge(determinism={"again": ROUNDED}).verdict == "failed"


@pytest.mark.parametrize("way", ["order", "alone"])
def test_robustness__score_depends_on_the_rows_beside_it__fails_beyond_rounding(way: str) -> None:
    assert judge(determinism={way: MOVED}).verdict == "failed"
    assert "rows beside it" in judge(determinism={way: MOVED}).message
    assert judge(determinism={way: ROUNDED}).verdict == "passed"


def test_robustness__answered_among_others_and_not_alone__fails() -> None:
    assert judge(determinism={"alone": {**SAME, "only_one": 3, "differing": 3}}).verdict == "failed"


def test_robustness__determinism_not_asked_for__is_not_judged() -> None:
    assert judge(RobustnessCheck(id="r", deterministic=False), determinism={"again": MOVED}).verdict == "passed"


# ---------------------------------------------------------------------- holes and strange values


def test_robustness__missing_input_not_answered__fails_and_names_the_worst_column() -> None:
    judgement = judge(missing=[spoilt("distance", 60), spoilt("carrier", 0), spoilt("wind")])

    assert judgement.verdict == "failed"
    assert "Without carrier (and without 1 other inputs) it answers 0 of 100 rows" in judgement.message
    assert "Input contains NaN" in judgement.message
    assert judgement.detail["worst_missing"]["column"] == "carrier"


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "failed"), (0.6, "passed"), (0.0, "passed")])
def test_robustness__share_that_is_asked_for__decides(share: float, verdict: str) -> None:
    check = RobustnessCheck(id="robustness", missing_values=share)
    assert judge(check, missing=[spoilt("distance", 60)]).verdict == verdict


def test_robustness__process_ended_over_a_null__fails_whatever_share_is_asked_for() -> None:
    dead = spoilt("distance", 0, died=True, said="Its process ended before it had answered.")
    judgement = judge(RobustnessCheck(id="r", missing_values=0.0), missing=[dead])

    assert judgement.verdict == "failed"
    assert "ended its process" in judgement.message


def test_robustness__process_ended_over_a_strange_value__fails() -> None:
    assert judge(strange=[spoilt("carrier", 0, died=True)]).verdict == "failed"


def test_robustness__strange_value_refused__is_reported_and_does_not_fail() -> None:
    judgement = judge(strange=[spoilt("carrier", 0)])

    assert judgement.verdict == "passed"
    assert judgement.detail["strange"][0]["answered"] == 0


def test_robustness__several_things_wrong__tells_all() -> None:
    judgement = judge(parity={"by": "scores", **MOVED}, determinism={"again": MOVED}, missing=[spoilt("distance", 0)])

    assert judgement.detail["wrong"] == ["parity", "determinism", "missing"]


def test_robustness__hardly_any_row_answered__is_inconclusive_and_says_how_many_more() -> None:
    judgement = judge(answered=4)

    assert judgement.verdict == "inconclusive"
    assert "6 more are needed" in judgement.message
