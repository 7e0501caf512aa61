import numpy as np
import pytest

from stats.interval import mean_interval, quantile_interval, wilson


def test_wilson__published_value__matches() -> None:
    # Newcombe 1998, table I: 81 of 263 gives .2553 to .3662
    interval = wilson(81, 263, confidence=0.95)
    assert interval is not None
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


def test_wilson__no_rows__has_no_answer() -> None:
    assert wilson(0, 0, confidence=0.95) is None


def test_wilson__impossible_count__names_the_argument() -> None:
    with pytest.raises(ValueError, match="successes must lie between 0 and n=3"):
        wilson(4, 3, confidence=0.95)


def test_wilson__no_success__interval_touches_zero() -> None:
    interval = wilson(0, 50, confidence=0.95)
    assert interval is not None
    assert interval.low == 0.0
    assert 0.0 < interval.high < 0.1


def test_mean_interval__nan__is_refused() -> None:
    with pytest.raises(ValueError, match="values has 1 values"):
        mean_interval([1.0, float("nan")], confidence=0.9)


def test_quantile_interval__many_samples__covers_the_truth_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        interval = quantile_interval(rng.exponential(size=300), 0.95, confidence=0.9)
        assert interval is not None
        covered += interval.low <= -np.log(0.05) <= interval.high
    assert 0.86 <= covered / 400 <= 0.97


def test_quantile_interval__too_few_rows_for_the_tail__has_no_answer() -> None:
    assert quantile_interval(range(20), 0.99, confidence=0.95) is None
