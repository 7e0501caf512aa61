import math

import numpy as np
import pytest

from stats.proportions import difference_z, paired_difference, paired_z, ratio_z


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value], dtype=np.float64)


def test_paired_z__no_difference__is_mcnemars_test_with_half_a_row_taken_off() -> None:
    assert float(paired_z(25, 9, 200, 0.0)) == pytest.approx((25 - 9 - 0.5) / math.sqrt(25 + 9))


def test_paired_difference__tangos_example__lies_just_outside_his_interval() -> None:
    """Tango 1998, table III: 44 pairs, 5 and 0 discordant: 0.114 [0.0117 … ], without the correction −0.009 … 0.25."""
    found = paired_difference(5, 0, 44, confidence=0.95)

    assert found is not None
    assert found.estimate == pytest.approx(5 / 44)
    assert -0.03 < found.low < 0.03
    assert 0.24 < found.high < 0.27


def test_paired_difference__many_rows__is_the_normal_interval() -> None:
    found = paired_difference(3000, 2800, 100_000, confidence=0.95)
    share = 200 / 100_000
    half = 1.959964 * math.sqrt((5800 / 100_000 - share**2) / 100_000)

    assert found is not None
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=1e-5)


@pytest.mark.parametrize("n", [50, 200, 500])
def test_paired_difference__no_discordant_row__does_not_exclude_what_so_few_rows_can_not_show(n: int) -> None:
    found = paired_difference(0, 0, n, confidence=0.95)

    assert found is not None
    assert found.low == pytest.approx(-found.high)
    assert found.high == pytest.approx(3.84 / (n + 3.84), rel=0.35)


def test_paired_difference__sides_exchanged__turns_round() -> None:
    one_way, other = paired_difference(9, 2, 80, confidence=0.9), paired_difference(2, 9, 80, confidence=0.9)

    assert one_way is not None
    assert other is not None
    assert (one_way.low, one_way.high) == pytest.approx((-other.high, -other.low))


def test_paired_difference__no_rows__has_no_answer() -> None:
    assert paired_difference(0, 0, 0, confidence=0.9) is None


def test_paired_difference__more_discordant_than_rows__is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into 10"):
        paired_difference(6, 6, 10, confidence=0.9)


def test_difference_z__no_difference__is_the_pooled_test_of_two_shares() -> None:
    pooled = (40 + 25) / 250
    error = math.sqrt(pooled * (1 - pooled) * (1 / 100 + 1 / 150))
    expected = (40 / 100 - 25 / 150 - 0.5 * (1 / 100 + 1 / 150)) / error

    assert float(difference_z(one(40), one(100), one(25), one(150), 0.0)[0]) == pytest.approx(expected)


def test_difference_z__restricted_shares__maximise_the_likelihood() -> None:
    """Farrington & Manning's closed form against a search."""
    x1, n1, x2, n2, apart = 20.0, 50.0, 10.0, 60.0, 0.1
    grid = np.linspace(apart + 1e-6, 1 - 1e-6, 400_000)
    likelihood = x1 * np.log(grid) + (n1 - x1) * np.log1p(-grid)
    likelihood += x2 * np.log(grid - apart) + (n2 - x2) * np.log1p(apart - grid)
    first = grid[np.argmax(likelihood)]
    second = first - apart
    error = math.sqrt(first * (1 - first) / n1 + second * (1 - second) / n2)
    expected = (x1 / n1 - x2 / n2 - apart - 0.5 * (1 / n1 + 1 / n2)) / error

    assert float(difference_z(one(x1), one(n1), one(x2), one(n2), apart)[0]) == pytest.approx(expected, abs=1e-4)


def test_ratio_z__equal_shares__is_the_test_of_no_difference() -> None:
    counts = (one(40), one(100), one(25), one(150))

    assert float(ratio_z(*counts, 1.0)[0]) == pytest.approx(float(difference_z(*counts, 0.0)[0]))


def test_difference_z__nobody_selected_anywhere__tells_nothing_of_no_difference() -> None:
    assert float(difference_z(one(0), one(100), one(0), one(150), 0.0)[0]) == 0
