import numpy as np
import pandas as pd
import pytest

from stats.segments import worst_segments


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
