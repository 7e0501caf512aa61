import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from stats import drift
from stats.drift import Profile, ReferenceBins, categorical_bins, numeric_bins, profile
from stats.interval import FloatArray


def bins_of(values: FloatArray) -> ReferenceBins:
    bins = numeric_bins(values)
    assert bins is not None
    return bins


@pytest.fixture
def normal() -> FloatArray:
    return np.random.default_rng(0).normal(size=20_000)


def test_profile__of_two_halves__adds_up_to_the_whole(normal: FloatArray) -> None:
    bins = bins_of(normal)
    whole, parts = profile(normal, bins), profile(normal[:7000], bins) + profile(normal[7000:], bins)
    assert (parts.counts, parts.n) == (whole.counts, whole.n)
    assert parts.sums == pytest.approx(whole.sums)


def test_profile__through_json__is_the_same(normal: FloatArray) -> None:
    bins = bins_of(normal)
    counted = profile(normal, bins)
    assert Profile.from_dict(counted.as_dict()) == counted
    assert ReferenceBins.from_dict(bins.as_dict()) == bins


def test_effect__no_drift__is_not_significant(normal: FloatArray) -> None:
    bins = bins_of(normal)
    found = drift.effect(profile(normal, bins), profile(np.random.default_rng(1).normal(size=5000), bins), bins)
    assert found is not None
    assert found.p_value(0.0) > 0.01
    assert found.p_value(0.02) > 0.5


def test_effect__at_zero_tolerance__is_the_chi_square_test(normal: FloatArray) -> None:
    bins = bins_of(normal)
    other = np.random.default_rng(1).normal(0.1, size=5000)
    found = drift.effect(profile(normal, bins), profile(other, bins), bins)
    inner = np.array(bins.deciles)
    table = [np.bincount(np.searchsorted(inner, x, side="left"), minlength=10) for x in (normal, other)]
    assert found is not None
    assert found.p_value(0.0) == pytest.approx(chi2_contingency(table, correction=False).pvalue, rel=1e-6)


def test_effect__shift_of_half_a_deviation__exceeds_the_tolerance_beyond_doubt(normal: FloatArray) -> None:
    bins = bins_of(normal)
    found = drift.effect(profile(normal, bins), profile(normal[:3000] + 0.5, bins), bins)
    assert found is not None
    assert found.debiased > 0.15
    assert found.p_value(0.05) < 1e-6


def test_effect__window_equal_to_the_reference__does_not_overflow(normal: FloatArray) -> None:
    bins = bins_of(normal)
    same = profile(np.tile(normal, 30), bins)
    found = drift.effect(same, same, bins)
    assert found is not None
    assert found.p_value(0.02) == pytest.approx(1.0)


def test_effect__empty_window__has_no_answer(normal: FloatArray) -> None:
    bins = bins_of(normal)
    assert drift.effect(profile(normal, bins), profile([], bins), bins) is None


def test_effect__false_alarms__stay_below_the_level() -> None:
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        reference = rng.integers(0, 40, size=2000).astype(str)
        bins = categorical_bins(list(reference))
        assert bins is not None
        now = profile(rng.integers(0, 40, size=1000).astype(str), bins)
        found = drift.effect(profile(reference, bins), now, bins)
        assert found is not None
        alarms += found.p_value(0.0) < 0.05
    assert alarms / 300 < 0.09


def test_scores__on_the_same_bins__equal_scipy(normal: FloatArray) -> None:
    bins = bins_of(normal)
    other = np.random.default_rng(2).normal(0.3, 1.2, size=8000)
    before, now = profile(normal, bins), profile(other, bins)
    inner = np.array(bins.deciles)
    p, q = (np.bincount(np.searchsorted(inner, x, side="left"), minlength=10) / len(x) for x in (normal, other))
    assert drift.psi(before, now, bins) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert drift.jensen_shannon(before, now, bins) == pytest.approx(jensenshannon(p, q, base=2))
    assert drift.ks(before, now) == pytest.approx(ks_2samp(normal, other).statistic, abs=0.005)
    exact = wasserstein_distance(normal, other) / normal.std()
    assert drift.wasserstein(before, now, bins) == pytest.approx(exact, abs=0.005)


def test_profile__nulls_unseen_and_out_of_range__are_counted_apart() -> None:
    numbers = numeric_bins([1.0, 2.0, 3.0])
    levels = categorical_bins(["a", "b"])
    assert numbers is not None
    assert levels is not None
    counted = profile([2.0, np.nan, 9.0], numbers)
    assert (counted.nulls, counted.out_of_range, counted.n, counted.present) == (1, 1, 3, 2)
    named = profile(["a", None, "z"], levels)
    assert (named.nulls, named.unseen, named.n) == (1, 1, 3)


def test_null_increase__worked_by_hand() -> None:
    bins = numeric_bins([1.0, 2.0])
    assert bins is not None
    before, now = profile([1.0, 2.0], bins), profile([1.0, np.nan], bins)
    assert drift.null_increase(before, now) == 0.5


def test_bins__nothing_known__have_no_answer() -> None:
    assert numeric_bins([np.nan, np.nan]) is None
    assert categorical_bins([None]) is None


def test_effect__new_level__is_seen_as_drift() -> None:
    bins = categorical_bins(["a"] * 500 + ["b"] * 500)
    assert bins is not None
    before = profile(["a"] * 500 + ["b"] * 500, bins)
    found = drift.effect(before, profile(["a"] * 300 + ["z"] * 300, bins), bins)
    assert found is not None
    assert found.p_value(0.1) < 1e-6


def test_profiles__of_different_bins__are_not_added() -> None:
    with pytest.raises(ValueError, match="different bins"):
        Profile((1,), (0.0,), 1, 0, 0, 0) + Profile((1, 2), (0.0, 0.0), 3, 0, 0, 0)
