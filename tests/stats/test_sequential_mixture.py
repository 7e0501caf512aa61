"""Boundaries and evidence of the normal mixture, against the definitions worked out by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm, t

from stats.sequential import curve, normal_mixture_evidence, normal_mixture_threshold, rho_for, sample_ratio
from stats.sequential.mixture import log_mean, normal_of_t, t_of_normal


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.2])
def test_rho_for__any_alpha__minimizes_the_threshold_at_the_target(alpha: float) -> None:
    best = minimize_scalar(
        lambda log_rho: normal_mixture_threshold(500, alpha=alpha, rho=math.exp(log_rho), two_sided=True),
        bounds=(math.log(1), math.log(5000)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert rho_for(500, alpha=alpha) == pytest.approx(math.exp(best.x), rel=1e-4)


def test_threshold__two_sided__is_the_margin_of_waudby_smith() -> None:
    n, r, alpha = 400.0, 0.3, 0.05
    margin = math.sqrt(2 * (n * r**2 + 1) / (n**2 * r**2) * math.log(math.sqrt(n * r**2 + 1) / alpha))
    z = normal_mixture_threshold(n, alpha=alpha, rho=1 / r**2, two_sided=True)
    assert z / math.sqrt(n) == pytest.approx(margin)


@pytest.mark.parametrize("two_sided", [True, False])
def test_threshold__smaller_alpha__is_higher(two_sided: bool) -> None:
    found = [normal_mixture_threshold(300, alpha=a, rho=50, two_sided=two_sided) for a in (0.2, 0.05, 0.01, 0.001)]
    assert found == sorted(found)


@pytest.mark.parametrize("two_sided", [True, False])
def test_threshold__more_information__gives_a_narrower_interval(two_sided: bool) -> None:
    margins = [
        normal_mixture_threshold(i, alpha=0.05, rho=50, two_sided=two_sided) / math.sqrt(i)
        for i in (1, 10, 100, 1e4, 1e8)
    ]
    assert margins == sorted(margins, reverse=True)


def test_threshold__one_sided__lies_between_the_two_sided_ones_at_alpha_and_twice_alpha() -> None:
    one = normal_mixture_threshold(500, alpha=0.05, rho=60, two_sided=False)
    assert normal_mixture_threshold(500, alpha=0.1, rho=60, two_sided=True) <= one
    assert one < normal_mixture_threshold(500, alpha=0.05, rho=60, two_sided=True)


@pytest.mark.parametrize(("z", "information"), [(-3.0, 10.0), (0.0, 100.0), (2.0, 500.0), (4.0, 3000.0)])
def test_evidence__any_z__is_the_average_likelihood_ratio_over_the_half_normal_prior(
    z: float, information: float
) -> None:
    rho = 60.0
    score = z * math.sqrt(information)
    averaged, _ = quad(
        lambda effect: math.exp(effect * score - effect**2 * information / 2) * 2 * norm.pdf(effect, scale=rho**-0.5),
        0,
        12 * rho**-0.5,
        points=[max(0.0, score / (information + rho))],
    )
    assert normal_mixture_evidence(z, information, rho=rho) == pytest.approx(math.log(averaged), abs=1e-6)


@pytest.mark.parametrize("information", [1.0, 50.0, 500.0, 1e5])
def test_evidence__at_the_one_sided_threshold__suffices_and_is_not_much_more(information: float) -> None:
    z = normal_mixture_threshold(information, alpha=0.05, rho=60, two_sided=False)
    assert math.log(20) <= normal_mixture_evidence(z, information, rho=60) <= math.log(20) + 0.1


@pytest.mark.parametrize("degrees", [2.0, 5.0, 30.0, 1e6])
def test_normal_of_t__any_degrees__has_the_tail_probability_of_t(degrees: float) -> None:
    for score in (0.5, 2.0, 4.0):
        assert normal_of_t(score, degrees) == pytest.approx(norm.isf(t.sf(score, degrees)), rel=0.02)


def test_t_of_normal__any_score__undoes_normal_of_t() -> None:
    for score in (-7.0, -1.0, 0.0, 2.5):
        assert t_of_normal(normal_of_t(score, 9.0), 9.0) == pytest.approx(score)


def test_t_of_normal__out_of_reach__is_infinite() -> None:
    assert t_of_normal(40.0, 1.0) == math.inf


def test_log_mean__enormous_and_impossible_evidence__stays_finite() -> None:
    assert log_mean(np.array([5000.0, -np.inf])) == pytest.approx(5000 - math.log(2))


def test_curve__several_looks__measures_the_first_rows_of_each_column() -> None:
    canary = np.arange(100) % 2 == 0
    share = np.full(100, 0.5)
    found = curve(sample_ratio, [0, 10, 100], canary=canary, share=share, entity=None)
    assert found == [sample_ratio(canary[:n], share[:n]) for n in (0, 10, 100)]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_threshold__alpha_is_no_probability__names_it(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        normal_mixture_threshold(10, alpha=alpha, rho=1, two_sided=True)


@pytest.mark.parametrize("information", [0.0, -1.0, math.nan, math.inf])
def test_evidence__information_is_not_positive__names_it(information: float) -> None:
    with pytest.raises(ValueError, match="information"):
        normal_mixture_evidence(1.0, information, rho=1)


def test_rho_for__target_is_not_positive__names_it() -> None:
    with pytest.raises(ValueError, match="information_target"):
        rho_for(0, alpha=0.05)
