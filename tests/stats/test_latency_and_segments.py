import numpy as np
import pandas as pd
import pytest

from stats.latency import ratio, summarize
from stats.segments import worst_segments


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


def test_worst_segments__planted_segment__comes_first_in_words() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.integers(0, 24, 4000), "origin": rng.choice(["EWR", "JFK", "LGA"], 4000)})
    loss = rng.normal(0.1, 0.02, 4000) + 0.5 * ((frame["origin"] == "LGA") & (frame["hour"] > 18))
    worst = worst_segments(frame, loss)[0]
    assert "origin is LGA" in worst.condition
    assert "hour > 18" in worst.condition
    assert worst.mean == pytest.approx(0.6, abs=0.02)


def test_worst_segments__too_few_rows__finds_nothing() -> None:
    assert worst_segments(pd.DataFrame({"x": [1.0, 2.0]}), [1.0, 2.0]) == ()
