"""The rules on numbers alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from monitoring import judge
from monitoring.config import MonitorSettings
from monitoring.judge import SCORE, Benchmark, FeatureMeasured, PerformanceMeasured
from stats.drift import Effect
from stats.interval import Interval

SETTINGS = MonitorSettings()
LARGE = Effect(distance=0.5, debiased=0.5, bins=10, n=50_000, m=6_500)
NONE = Effect(distance=0.001, debiased=0.0, bins=10, n=50_000, m=6_500)


def feature(name: str = "weather__wind", effect: Effect | None = NONE, **fields: Any) -> FeatureMeasured:
    still = FeatureMeasured(name, 6_500, effect, 0.0, 0.01, 0.01, 0.0, 0.0)
    return dataclasses.replace(still, **fields)


def drift(*features: FeatureMeasured, rows: int = 6_500, **importance: Any) -> judge.DriftJudgement:
    return judge.judge_drift(features, rows=rows, importance=importance, settings=SETTINGS)


def test_drift__nothing_moved__passes() -> None:
    judgement = drift(feature(), weather__wind=0.5)
    assert (judgement.verdict, judgement.moved) == ("passed", frozenset())


def test_drift__important_feature_moved__fails_with_numbers() -> None:
    judgement = drift(feature(effect=LARGE), weather__wind=0.5)
    assert judgement.verdict == "failed"
    assert judgement.moved == {"weather__wind"}
    assert "effect 0.500, tolerance 0.020, importance 50%" in judgement.summary


def test_drift__unimportant_feature_moved__is_noted_only() -> None:
    judgement = drift(feature(effect=LARGE), weather__wind=0.01)
    assert (judgement.verdict, judgement.moved) == ("passed", frozenset())
    assert judgement.noted == {"weather__wind"}


def test_drift__importance_unknown__every_feature_matters() -> None:
    assert drift(feature(effect=LARGE)).moved == {"weather__wind"}


def test_drift__prediction_score_moved__matters_always() -> None:
    assert drift(feature(SCORE, LARGE), weather__wind=1.0).moved == {SCORE}


def test_drift__few_rows__is_inconclusive() -> None:
    judgement = drift(feature(effect=LARGE), rows=499)
    assert judgement.verdict == "inconclusive"
    assert "499" in judgement.summary


def test_drift__nothing_comparable__is_inconclusive() -> None:
    assert drift(feature(effect=None)).verdict == "inconclusive"


def test_drift__more_features__asks_for_stronger_evidence() -> None:
    weak = Effect(distance=0.032, debiased=0.0306, bins=10, n=1_000_000, m=6_500)
    assert weak.p_value(0.02) == pytest.approx(0.0035, abs=0.0001)
    crowd = [feature(f"other{k}") for k in range(9)]
    assert drift(feature(effect=weak)).moved == {"weather__wind"}
    assert drift(feature(effect=weak), *crowd).moved == frozenset()


def test_drift__equal_halves_a_hundred_times__never_flags() -> None:
    from stats.drift import effect, numeric_bins, profile

    random = np.random.default_rng(7)
    for _ in range(100):
        before, now = random.lognormal(size=6_000), random.lognormal(size=1_000)
        bins = numeric_bins(before)
        assert bins is not None
        found = effect(profile(before, bins), profile(now, bins), bins)
        assert drift(feature(effect=found), rows=1_000).verdict == "passed"


def test_tolerance__calibrated__is_widened_up_to_the_cap() -> None:
    assert judge.tolerance_of(feature(calibrated=0.001), SETTINGS) == 0.02
    assert judge.tolerance_of(feature(calibrated=0.04), SETTINGS) == pytest.approx(0.05)
    assert judge.tolerance_of(feature(calibrated=3.0), SETTINGS) == 0.1


def test_tolerance__owner_names_one__is_taken_as_it_is() -> None:
    settings = MonitorSettings(tolerances={"weather__wind": 0.7})
    assert judge.tolerance_of(feature(calibrated=3.0), settings) == 0.7


def test_drift__nulls_jump__is_broken_data() -> None:
    judgement = drift(feature(null_share=0.2), weather__wind=0.5)
    assert judgement.is_broken
    assert judgement.verdict == "failed"
    assert "weather__wind: 20.0% null, 1.0% at most before" in judgement.summary


def test_drift__all_null__is_broken_though_nothing_can_be_compared() -> None:
    judgement = drift(feature(effect=None, null_share=1.0), weather__wind=0.5)
    assert (judgement.verdict, judgement.is_broken) == ("failed", True)


def test_drift__nulls_as_in_training__is_fine() -> None:
    assert not drift(feature(null_share=0.16, normal_nulls=0.12), weather__wind=0.5).is_broken


@pytest.mark.parametrize("jump", ["unseen_share", "out_of_range_share"])
def test_drift__unseen_or_impossible_values__is_broken_data(jump: str) -> None:
    jumped: dict[str, Any] = {jump: 0.06}
    assert drift(feature(**jumped), weather__wind=0.5).is_broken


def test_drift__nulls_in_features_without_weight__are_written_down_only() -> None:
    judgement = drift(feature(null_share=0.2), weather__wind=0.01)
    assert not judgement.is_broken
    assert judgement.problems


def test_drift__nulls_in_many_small_features__count_together() -> None:
    names = [f"weather__{k}" for k in range(4)]
    broken = [feature(name, null_share=0.2) for name in names]
    judgement = judge.judge_drift(broken, rows=6_500, importance=dict.fromkeys(names, 0.01), settings=SETTINGS)
    assert judgement.is_broken


def moved(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_persistence__first_time__is_not_confirmed() -> None:
    assert judge.persistent(moved("a"), [], SETTINGS) == frozenset()


def test_persistence__two_of_three_windows__is_confirmed() -> None:
    assert judge.persistent(moved("a"), [moved(), moved("a")], SETTINGS) == {"a"}


def test_persistence__three_windows_ago__is_forgotten() -> None:
    assert judge.persistent(moved("a"), [moved(), moved(), moved("a")], SETTINGS) == frozenset()


def test_persistence__another_feature_each_time__is_not_confirmed() -> None:
    assert judge.persistent(moved("a"), [moved("b"), moved("c")], SETTINGS) == frozenset()


def test_persistence__quiet_now__is_not_confirmed_again() -> None:
    assert judge.persistent(moved(), [moved("a"), moved("a")], SETTINGS) == frozenset()


GATES = Benchmark(0.75, "gates measured")


def outcomes(
    auc: tuple[float, float, float] | None, matured: int = 6_000, labelled: int = 5_700
) -> PerformanceMeasured:
    interval = Interval(*auc, n=labelled, confidence=0.95) if auc else None
    return PerformanceMeasured(matured, labelled, auc=interval)


def test_performance__interval_reaches_the_limit__passes() -> None:
    judgement = judge.judge_performance(outcomes((0.72, 0.705, 0.735)), GATES, SETTINGS)
    assert judgement.verdict == "passed"
    assert judgement.loss == pytest.approx(0.03)


def test_performance__whole_interval_below_the_limit__fails_with_numbers() -> None:
    judgement = judge.judge_performance(outcomes((0.70, 0.685, 0.715)), GATES, SETTINGS)
    assert (judgement.verdict, judgement.is_gross) == ("failed", False)
    assert "AUC 0.700 [0.685, 0.715] on 5,700 outcomes; gates measured 0.750, limit 0.730" in judgement.summary


def test_performance__far_below__is_gross() -> None:
    assert judge.judge_performance(outcomes((0.62, 0.605, 0.635)), GATES, SETTINGS).is_gross


@pytest.mark.parametrize(
    ("measured", "benchmark", "says"),
    [
        (outcomes(None, matured=0, labelled=0), GATES, "No prediction"),
        (outcomes((0.5, 0.49, 0.51), labelled=3_000), GATES, "50%"),
        (outcomes(None), GATES, "at least two of each kind"),
        (outcomes((0.6, 0.5, 0.7)), GATES, "too uncertain"),
        (outcomes((0.6, 0.59, 0.61)), None, "never measured"),
    ],
)
def test_performance__not_enough_to_judge__is_inconclusive(
    measured: PerformanceMeasured, benchmark: Benchmark | None, says: str
) -> None:
    judgement = judge.judge_performance(measured, benchmark, SETTINGS)
    assert judgement.verdict == "inconclusive"
    assert says in judgement.summary


def test_decay__once__is_not_confirmed() -> None:
    bad = judge.PerformanceJudgement("failed", "")
    assert not judge.decay_confirmed(bad, ["passed", "passed"], SETTINGS)


def test_decay__twice_in_three_windows__is_confirmed() -> None:
    bad = judge.PerformanceJudgement("failed", "")
    assert judge.decay_confirmed(bad, ["inconclusive", "failed"], SETTINGS)


def test_decay__gross__is_confirmed_at_once() -> None:
    assert judge.decay_confirmed(judge.PerformanceJudgement("failed", "", is_gross=True), [], SETTINGS)


def test_decay__good_now__is_not_confirmed() -> None:
    good = judge.PerformanceJudgement("passed", "")
    assert not judge.decay_confirmed(good, ["failed", "failed"], SETTINGS)


@pytest.mark.parametrize(
    ("verdicts", "quiet"),
    [
        (["passed"] * 3, True),
        (["passed"] * 2, False),
        (["passed", "inconclusive", "passed"], False),
        (["passed", "passed", "passed", "failed"], True),
    ],
)
def test_quiet__needs_three_passed_windows_in_a_row(verdicts: list[str], quiet: bool) -> None:
    assert judge.is_quiet(verdicts, SETTINGS) is quiet
