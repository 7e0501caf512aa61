"""The report's words and pictures of what the judges really say: measured, judged and shown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from gates.frozen import Frozen
from gates.kinds import KINDS
from gates.measure.curves import curves
from gates.models import CheckResult
from gates.policy import AnyCheck, FairnessCheck, MetricCheck, SliceCheck, VersusChampionCheck
from mlops import gate_charts, gate_curves, gate_details, gate_findings, gate_words
from stats.interval import FloatArray
from tests.gates.holdouts import holdout, kept, late_flights

N = 6000
RANDOM = np.random.default_rng(7)
CARRIER = RANDOM.choice(["AA", "B6", "UA"], N)
Y, P = late_flights(N)
NOISE = RANDOM.beta(1.5, 3.5, N)
WORSE = 0.5 * P + 0.5 * NOISE
SCRAMBLED = np.where(CARRIER == "B6", NOISE, P)


def found(check: AnyCheck, p: FloatArray, champion: FloatArray | None = None, rows: int = N) -> CheckResult:
    """A check measured and judged on the first rows, as the run stores it (not saved)."""
    few = slice(0, rows)
    more: dict[str, Any] = {} if champion is None else {"champion": champion[few]}
    frozen: Frozen = holdout(Y[few], p[few], columns={"carrier": CARRIER[few]}, threshold=0.3, **more)
    measuring = KINDS[check.kind].measure
    assert measuring is not None
    return CheckResult(**asdict(KINDS[check.kind].judge(check, kept(measuring, check, frozen))))


AUC = MetricCheck(id="auc-floor", metric="roc_auc", at_least=0.95)
RIVAL = VersusChampionCheck(id="auc-vs-champion", metric="roc_auc", not_worse_by=0.005)
SEGMENTS = SliceCheck(id="segments", metric="roc_auc", by=("carrier",), not_worse_than_overall_by=0.03)
FAIR = FairnessCheck(id="fairness", by="carrier", at_most=0.05, use="lower_bound")


def headline(result: CheckResult) -> str:
    return gate_findings.headline(str(result.verdict), [result], required=9, reason="", rival="v3")


def test_headline__below_the_floor__says_by_which_numbers() -> None:
    result = found(AUC, P)
    value = f"{result.value:.4g}"
    assert headline(result) == (f"Failed: its AUC of {value} is below the 0.95 asked for; one of nine blocking checks.")


def test_headline__worse_than_the_champion__says_by_how_much() -> None:
    result = found(RIVAL, WORSE, champion=P)
    assert result.value is not None
    told = gate_findings.shown_difference(result.value, 2)
    assert headline(result) == f"Failed: it is worse than v3 by {told} AUC; one of nine blocking checks."


def test_headline__segment_that_is_clearly_worse__names_it() -> None:
    assert headline(found(SEGMENTS, SCRAMBLED)) == (
        "Failed: its AUC is clearly worse where carrier = B6; one of nine blocking checks."
    )


def test_headline__unfair__says_it_without_intervals() -> None:
    said = headline(found(FAIR, np.where(CARRIER == "B6", P**4, P)))
    assert said.startswith("Failed: Fairness: Difference in real cases found 0.")
    assert "[" not in said


def test_steps__inconclusive__say_how_many_more_rows() -> None:
    result = found(RIVAL, P * 0.999, champion=WORSE, rows=200)
    assert result.verdict == "inconclusive"
    (step,) = gate_findings.steps([result])
    assert "more rows" in step.what
    assert step.what.endswith("Wait for labelled rows, or take a longer holdout; then run again.")


def test_value__of_a_gain__is_better_or_worse_never_a_signed_number() -> None:
    result = found(RIVAL, WORSE, champion=P)
    assert gate_findings.value_in_words(result).endswith(" worse")
    assert "-" not in gate_findings.interval_in_words(result)


def test_segments__of_a_real_judgement__are_drawn_with_intervals() -> None:
    result = found(SEGMENTS, SCRAMBLED)
    chart = gate_charts.segments(result.detail)
    assert chart is not None
    worse = chart["data"][0]
    assert (worse["name"], len(worse["x"])) == ("clearly worse", 1)
    assert worse["error_x"]["array"][0] > 0
    assert gate_findings.where(result) == ["carrier = B6"]


def test_groups__of_a_real_judgement__stand_beside_their_base_rates() -> None:
    chart = gate_charts.groups(found(FAIR, P).detail)
    assert chart is not None
    assert [trace["name"] for trace in chart["data"]] == ["real cases found", "base rate: how often it is really so"]
    assert all(each > 0 for each in chart["data"][0]["error_x"]["array"])


@pytest.mark.parametrize(
    ("metric", "titles"),
    [
        ("roc_auc", ["ROC curve", "Scores"]),
        ("brier", ["Calibration", "Scores"]),
        ("recall", ["Precision and recall", "Scores"]),
    ],
)
def test_curves__of_a_classifier__are_those_behind_the_metric(metric: str, titles: list[str]) -> None:
    drawn = curves("binary_classification", Y, P, WORSE, threshold=0.3, confidence=0.95)
    made = list(gate_curves.of_check("metric", metric, drawn))
    assert [title for _, _, title in made] == titles
    band, line = made[0][1]["data"][:2]
    assert (band["fill"], line["name"]) == ("toself", "this version")


def test_curves__of_a_regression__are_predictions_and_errors() -> None:
    drawn = curves("regression", P * 60, P * 55 + 2, None, threshold=0.5, confidence=0.95)
    assert [title for _, _, title in gate_curves.of_check("metric", "mae", drawn)] == ["Predicted and actual", "Errors"]


def test_curves__that_were_not_kept__are_not_drawn() -> None:
    unkept: tuple[dict[str, Any], ...] = ({}, {"roc": None}, {"roc": {"candidate": 3}}, {"scores": {"edges": []}})
    for kept_curves in unkept:
        assert list(gate_curves.of_check("metric", "roc_auc", kept_curves)) == []


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("detail", [{}, {"features": 1, "columns": "x"}, {"groups": [None]}, {"quantiles": []}])
def test_details__whatever_an_older_run_kept__can_be_shown(kind: str, detail: dict[str, Any]) -> None:
    result = CheckResult(check_id="c", kind=kind, blocking=True, verdict="failed", message="It failed.", detail=detail)
    gate_details.parts_of(result, {})
    assert gate_findings.where(result) == []
    assert headline(result)


def test_names__of_every_kind_metric_and_measure__are_there() -> None:
    grouped = [kind for _, kinds in gate_words.GROUPS for kind in kinds]
    assert sorted(grouped) == sorted(KINDS) == sorted(gate_words.KINDS)
    assert set(gate_findings.FAILED) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "verdict", "detail", "places"),
    [
        ("data_quality", "failed", {"defects": ["carrier 50.0 % unseen levels (XX)", "wind at least 3 % out"]},
         ["carrier", "wind"]),
        ("robustness", "failed", {"wrong": ["parity"], "missing": []}, ["served against trained"]),
        ("latency", "failed", {"limits": [{"limit": "p95", "verdict": "failed"}, {"limit": "p50"}]}, ["p95"]),
        ("live_drift", "failed", {"features": [{"feature": f"f{n}", "moved": True} for n in range(5)]},
         ["f0", "f1", "f2", "2 more"]),
        ("leakage", "passed", {"features": [{"feature": "gate", "is_suspect": True}]}, []),
    ],
)  # fmt: skip
def test_where__names_what_did_not_pass(kind: str, verdict: str, detail: dict[str, Any], places: list[str]) -> None:
    result = CheckResult(check_id="c", kind=kind, blocking=True, verdict=verdict, message="So.", detail=detail)
    assert gate_findings.where(result) == places


def test_headline__many_failed__names_two_and_counts_the_rest() -> None:
    results = [
        CheckResult(check_id=f"c-{n}", kind="custom", blocking=True, verdict="failed", message=f"It is {n}.", detail={})
        for n in range(4)
    ]
    said = gate_findings.headline("failed", results, required=5, reason="")
    assert said == "Failed: C 0: It is 0; C 1: It is 1; and two more; four of five blocking checks."
