import numpy as np
import pytest

from stats.interval import wilson
from stats.latency import calls_needed, histogram, ratio, ratio_interval, summarize


def test_summarize__exponential__intervals_hold_the_truth() -> None:
    summary = summarize(np.random.default_rng(0).exponential(10.0, size=5000))
    assert summary.p50 is not None
    assert summary.p95 is not None
    assert summary.p50.low < 10 * np.log(2) < summary.p50.high
    assert summary.p95.low < 10 * np.log(20) < summary.p95.high


def test_summarize__few_rows__has_no_tail_quantile() -> None:
    assert summarize([1.0, 2.0, 3.0]).p95 is None


def test_summarize__no_rows__has_no_answer() -> None:
    summary = summarize([])
    assert (summary.n, summary.p50, summary.longest) == (0, None, None)


def test_ratio__twice_as_slow__is_two() -> None:
    assert ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert ratio([], [1.0]) is None


# ---------------------------------------------------------------------- the ratio's interval


def in_turn(n: int, factor: float, *, seed: int, moods: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Calls of two models beside each other; the machine's mood (an AR(1) on the log scale) meets both."""
    rng = np.random.default_rng(seed)
    mood = np.zeros(n)
    for i in range(1, n):
        mood[i] = 0.9 * mood[i - 1] + moods * rng.normal()
    first, second = (np.exp(mood + 0.1 * rng.normal(size=n)) for _ in range(2))
    return factor * first, second


def test_ratio_interval__equal_and_twice_as_slow__holds_the_truth() -> None:
    for factor in (1.0, 2.0):
        found = ratio_interval(*in_turn(400, factor, seed=1), confidence=0.9, seed=0)
        assert found is not None
        assert found.low < factor < found.high
        assert found.high / found.low < 1.1


@pytest.mark.parametrize("moods", [0.0, 0.2])
def test_ratio_interval__many_runs__holds_the_truth_about_as_often_as_it_says(moods: float) -> None:
    found = [
        ratio_interval(*in_turn(200, 1.2, seed=seed, moods=moods), confidence=0.9, seed=0, draws=300)
        for seed in range(150)
    ]
    held = np.mean([each.low <= 1.2 <= each.high for each in found if each])
    assert 0.82 <= held <= 1.0


def test_ratio_interval__same_seed__is_the_same() -> None:
    first, second = in_turn(100, 1.0, seed=2)
    assert ratio_interval(first, second, confidence=0.9, seed=5) == ratio_interval(
        first, second, confidence=0.9, seed=5
    )


def test_ratio_interval__constant_times__is_a_point() -> None:
    found = ratio_interval(np.full(50, 3.0), np.full(50, 2.0), confidence=0.9, seed=0)
    assert found is not None
    assert (found.estimate, found.low, found.high, found.n) == (1.5, 1.5, 1.5, 50)


def test_ratio_interval__too_few_rounds_or_no_time__has_no_answer() -> None:
    assert ratio_interval([1.0] * 7, [1.0] * 7, confidence=0.9, seed=0) is None
    assert ratio_interval([1.0] * 20, [0.0] * 20, confidence=0.9, seed=0) is None
    assert ratio_interval([], [], confidence=0.9, seed=0) is None


def test_ratio_interval__calls_that_were_not_in_turn__are_refused() -> None:
    with pytest.raises(ValueError, match="in turn"):
        ratio_interval([1.0, 2.0], [1.0], confidence=0.9, seed=0)


def test_ratio_interval__ten_thousand_rounds__has_an_answer() -> None:
    found = ratio_interval(*in_turn(10_000, 1.0, seed=3), confidence=0.9, seed=0, draws=200)
    assert found is not None
    assert found.high - found.low < 0.02


# ---------------------------------------------------------------------- how many calls decide


@pytest.mark.parametrize(("q", "confidence", "needed"), [(0.95, 0.9, 52), (0.99, 0.9, 268), (0.99, 0.95, 381)])
def test_calls_needed__none_slow__is_where_wilsons_bound_reaches_the_share(
    q: float, confidence: float, needed: int
) -> None:
    # Wilson's upper bound of 0 of n is z² / (n + z²)
    assert calls_needed(0, 0, allowed=1 - q, confidence=confidence) == needed


def test_calls_needed__some_slow__decides_and_a_tenth_fewer_do_not() -> None:
    needed = calls_needed(4, 100, allowed=0.05, confidence=0.9)
    assert needed is not None
    for n, decides in ((needed, True), (int(0.9 * needed), False)):
        share = wilson(round(0.04 * n), n, confidence=0.9)
        assert share is not None
        assert (share.high <= 0.05) == decides


def test_calls_needed__share_is_the_allowed_one__never_decides() -> None:
    assert calls_needed(5, 100, allowed=0.05, confidence=0.9) is None


# ---------------------------------------------------------------------- histogram


def test_histogram__two_samples__counts_every_call_on_common_bins() -> None:
    rng = np.random.default_rng(0)
    found = histogram({"a": rng.gamma(9, 1, 500), "b": [*rng.gamma(9, 2, 300), 5000.0]}, bins=20)
    assert found is not None
    assert len(found.edges) == 21
    assert {name: counts.sum() for name, counts in found.counts.items()} == {"a": 500, "b": 301}
    assert found.edges[-1] < 100


def test_histogram__equal_times_or_none__does_not_fall_over() -> None:
    found = histogram({"a": [2.0, 2.0]})
    assert found is not None
    assert found.counts["a"].sum() == 2
    assert histogram({"a": []}) is None
    assert histogram({}) is None
