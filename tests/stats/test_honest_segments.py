import numpy as np
import pandas as pd

from stats.segments import honest_segments

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame({"hour": RANDOM.integers(0, 24, 6000), "origin": RANDOM.choice(["EWR", "JFK", "LGA"], 6000)})
NOISE = RANDOM.normal(0.1, 0.3, 6000)


def test_honest_segments__planted_segment__comes_first_and_is_measured_as_it_is() -> None:
    planted = (FRAME["origin"] == "LGA") & (FRAME["hour"] > 18)
    loss = NOISE + 0.5 * planted
    worst = honest_segments(FRAME, loss, seed=1)[0]

    assert "origin is LGA" in worst.condition
    assert "hour > 18.5" in worst.condition
    assert planted[worst.rows].all()
    assert abs(loss[worst.rows].mean() - 0.6) < 0.07


def test_honest_segments__nothing_planted__does_not_look_bad_where_it_is_measured() -> None:
    found = [honest_segments(FRAME, RANDOM.permutation(NOISE), seed=seed)[0] for seed in range(20)]
    apart = [NOISE[each.rows].mean() - NOISE.mean() for each in found]

    assert abs(float(np.mean(apart))) < 0.03


def test_honest_segments__same_seed__finds_the_same_rows() -> None:
    once, again = honest_segments(FRAME, NOISE, seed=3), honest_segments(FRAME, NOISE, seed=3)

    assert [each.condition for each in once] == [each.condition for each in again]
    assert all((a.rows == b.rows).all() for a, b in zip(once, again, strict=True))


def test_honest_segments__too_few_rows__finds_nothing() -> None:
    assert honest_segments(FRAME[:100], NOISE[:100], seed=0) == ()


def test_honest_segments__infinite_numbers__are_placed_like_missing_ones() -> None:
    endless = FRAME.assign(delay=np.where(RANDOM.random(6000) < 0.2, np.inf, -RANDOM.random(6000)))
    endless.loc[:50, "delay"] = -np.inf
    planted = (FRAME["origin"] == "LGA") & (FRAME["hour"] > 18)

    assert "origin is LGA" in honest_segments(endless, NOISE + 0.5 * planted, seed=1)[0].condition
