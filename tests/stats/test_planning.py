import pytest

from stats.interval import Interval
from stats.metrics.rows import with_unseen
from stats.planning import rows_to_decide, rows_to_show


def test_rows_to_show__the_noise_tables_case__is_6_2_times_discordance_by_margin_squared() -> None:
    """Accuracy with 6 % discordant rows, a margin of 1 pp, bound at 95 % one-sided, 80 % power: about 3,700 rows."""
    assert rows_to_show(0.06, 0.01, confidence=0.9, power=0.8) == pytest.approx(6.18 * 0.06 / 0.01**2, rel=0.002)


def test_rows_to_show__twice_as_near__takes_four_times_the_rows() -> None:
    far, near = (rows_to_show(0.06, distance, confidence=0.95) for distance in (0.02, 0.01))

    assert far is not None
    assert near == pytest.approx(4 * far, rel=0.001)


@pytest.mark.parametrize("distance", [0.0, -1.0, 1e-9])
def test_rows_to_show__no_reachable_number__has_no_answer(distance: float) -> None:
    assert rows_to_show(1.0, distance, confidence=0.95) is None


@pytest.mark.parametrize("reach", [1.0, 8.0])
def test_rows_to_decide__with_room_for_rows_unseen__is_what_such_an_interval_takes(reach: float) -> None:
    def half(n: int) -> float:
        return with_unseen(1.959964 * 0.1 / n**0.5, n, reach=reach, confidence=0.95)

    needed = rows_to_decide(Interval(0.0, -half(1000), half(1000), 1000, 0.95), 0.01, power=0.9, reach=reach)

    assert needed is not None
    assert half(needed) + 1.2816 * 0.1 / needed**0.5 == pytest.approx(0.01, rel=1e-3)


def test_rows_to_decide__from_an_interval__takes_its_wider_side() -> None:
    variance = 1000 * (0.02 / 1.959964) ** 2

    assert rows_to_decide(Interval(0.5, 0.49, 0.52, 1000, 0.95), 0.01) == rows_to_show(variance, 0.01, confidence=0.95)
