"""The gamma-exponential mixture, compared with its definition in arbitrary precision, and at extremes."""

from math import log

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.sequential.mixture import Mixture


def exact_log_e_value(mixture: Mixture, total: float, variance: float) -> mpmath.mpf:
    """Return ln E by Howard et al. (2021), Proposition 9, as printed, with 60 digits."""
    with mpmath.workdps(60):
        s, v, c, rho = (mpmath.mpf(x) for x in (total, variance, mixture.scale, mixture.rho))
        b, a, x = rho / c**2, (v + rho) / c**2, (c * s + v + rho) / c**2

        def log_p(shape: mpmath.mpf, at: mpmath.mpf) -> mpmath.mpf:
            return mpmath.log(1 - mpmath.gammainc(shape, at, regularized=True))

        start = b * mpmath.log(b) - mpmath.loggamma(b) - log_p(b, b)
        return start + mpmath.loggamma(a) + log_p(a, x) - a * mpmath.log(x) + (c * s + v) / c**2


@pytest.mark.parametrize("scale", [1.0, 5.0, 100.0])
@pytest.mark.parametrize("rho", [0.5, 300.0, 2e5])
@pytest.mark.parametrize("variance", [0.0, 40.0, 1e5])
@pytest.mark.parametrize("deviations", [0.0, 0.3, 3.0, 12.0])
def test_mixture_is_the_closed_form(scale: float, rho: float, variance: float, deviations: float) -> None:
    """Ln E agrees with the published formula to nine digits, or 1e-9."""
    mixture = Mixture(scale=scale, rho=rho)
    total = deviations * (variance + rho) ** 0.5
    exact = float(exact_log_e_value(mixture, total, variance))
    assert float(mixture.log_e_value(total, variance)) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_mixture_is_the_integral() -> None:
    """The closed form equals the integral over lambda."""
    mixture, total, variance = Mixture(scale=2.0, rho=9.0), 14.0, 50.0
    c, rho = mpmath.mpf(2), mpmath.mpf(9)

    def density(rate: mpmath.mpf) -> mpmath.mpf:
        # exp(-psi(lambda) rho), up to its constant: the law that Proposition 9 mixes over.
        return mpmath.exp(rho * (mpmath.log(1 - c * rate) + c * rate) / c**2) / (1 - c * rate)

    def term(rate: mpmath.mpf) -> mpmath.mpf:
        return density(rate) * mpmath.exp(
            rate * total + variance * (mpmath.log(1 - c * rate) + c * rate) / c**2
        )

    ends = [mpmath.mpf(0), mpmath.mpf("0.2"), mpmath.mpf("0.4"), mpmath.mpf("0.499999")]
    expected = mpmath.log(mpmath.quad(term, ends) / mpmath.quad(density, ends))
    assert float(mixture.log_e_value(total, variance)) == pytest.approx(float(expected), abs=1e-6)


@settings(max_examples=200)
@given(
    st.floats(-1e12, 1e12),
    st.floats(0, 1e15),
    st.floats(1e-3, 1e6),
    st.floats(1e-6, 1e12),
)
def test_extremes_are_numbers(total: float, variance: float, scale: float, rho: float) -> None:
    """Ln E is finite for every sum and variance, and never above 0 unless the sum is."""
    log_e_value = float(Mixture(scale=scale, rho=rho).log_e_value(total, variance))
    assert np.isfinite(log_e_value)
    assert total > 0 or log_e_value <= 1e-9


@pytest.mark.parametrize("total", [-0.01, -3.0, -40.0, -1e3])
def test_negative_sums_are_bounded_below(total: float) -> None:
    """For sums below 0 the e-value is at most the mixture's integral: an error on the safe side."""
    mixture, c, rho, variance = Mixture(scale=2.0, rho=9.0), mpmath.mpf(2), mpmath.mpf(9), mpmath.mpf(50)

    def weight(rate: mpmath.mpf, sum_of_squares: mpmath.mpf, at: float) -> mpmath.mpf:
        return mpmath.exp(rate * at + sum_of_squares * (mpmath.log(1 - c * rate) + c * rate) / c**2) / (
            1 - c * rate
        )

    ends = [mpmath.mpf(0), mpmath.mpf("0.01"), mpmath.mpf("0.1"), mpmath.mpf("0.3"), mpmath.mpf("0.499999")]
    above = mpmath.quad(lambda rate: weight(rate, variance + rho, total), ends)
    exact = mpmath.log(above / mpmath.quad(lambda rate: weight(rate, rho, 0.0), ends))
    assert float(mixture.log_e_value(total, 50.0)) <= float(exact) + 1e-6


@settings(max_examples=60)
@given(st.floats(0, 1e9), st.floats(0.5, 200), st.floats(0.1, 1e6), st.sampled_from([0.05, 0.025, 1e-4]))
def test_boundary_is_where_e_crosses(variance: float, scale: float, rho: float, alpha: float) -> None:
    """At the boundary E has just reached 1 / alpha; slightly below it has not."""
    mixture = Mixture(scale=scale, rho=rho)
    boundary = float(mixture.boundary(variance, alpha))
    assert float(mixture.log_e_value(boundary, variance)) >= -log(alpha)
    assert float(mixture.log_e_value(boundary * (1 - 1e-6), variance)) < -log(alpha)


def test_tuning_is_tightest_where_planned() -> None:
    """At the planned variance, no other rho has a boundary that is lower by more than 1 %."""
    planned, alpha = 5_000.0, 0.05
    tuned = float(Mixture.tuned(1.0, planned, alpha).boundary(planned, alpha))
    others = [
        float(Mixture(scale=1.0, rho=planned * f).boundary(planned, alpha)) for f in (0.02, 0.1, 0.5, 2.0)
    ]
    assert tuned <= min(others) * 1.01


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_error_rates_outside_their_range_are_refused(alpha: float) -> None:
    """An error rate of 0, or of a half or more, is refused."""
    with pytest.raises(ValueError, match="alpha must be in"):
        Mixture.tuned(1.0, 100.0, alpha)
