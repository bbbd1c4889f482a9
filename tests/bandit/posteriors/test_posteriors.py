"""Moments of outcomes, priors and posteriors."""

import math
from fractions import Fraction

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior

POSTERIORS: list[Posterior] = [
    BetaPosterior(31, 971),
    BetaPosterior(0.5, 0.5),
    NormalPosterior(-3.0, 0.25),
    StudentTPosterior(2.0, 0.5, 7.0),
    GammaPosterior(6.0, 3.0),
]

outcomes = st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=30)


def sums_of(values: list[int], quantum: float = 1.0, offset: float = 0.0) -> OutcomeMoments:
    """Return the sums of outcomes offset + quantum * value."""
    squares = sum(value * value for value in values)
    return OutcomeMoments.from_integers(len(values), sum(values), squares, quantum=quantum, offset=offset)


def density(posterior: Posterior, x: mpmath.mpf) -> mpmath.mpf:
    """Return the textbook density, to 30 digits."""
    match posterior:
        case BetaPosterior(a, b):
            return x ** (mpmath.mpf(a) - 1) * (1 - x) ** (mpmath.mpf(b) - 1) / mpmath.beta(a, b)
        case NormalPosterior(mean, sd):
            return mpmath.npdf(x, mean, sd)
        case StudentTPosterior(mean, scale, df):
            t = (x - mean) / scale
            norm = mpmath.sqrt(df) * mpmath.beta(0.5, df / 2) * scale
            return (1 + t * t / df) ** (-(df + 1) / 2) / norm
        case GammaPosterior(shape, rate):
            return rate**shape * x ** (shape - 1) * mpmath.exp(-rate * x) / mpmath.gamma(shape)


def below(posterior: Posterior, x: float) -> float:
    """Return P(value < x), by 30-digit quadrature of the textbook density."""
    start = mpmath.mpf(0) if isinstance(posterior, BetaPosterior | GammaPosterior) else -mpmath.inf
    middle = posterior.mean if posterior.mean < x else (x - 1 if start < 0 else x / 2)
    return float(mpmath.quad(lambda value: density(posterior, value), [start, middle, x]))


@pytest.mark.parametrize("posterior", POSTERIORS, ids=repr)
@pytest.mark.parametrize("q", [0.025, 0.5, 0.9])
def test_quantiles_invert_the_distribution(posterior: Posterior, q: float) -> None:
    """The probability below a quantile is the given one."""
    assert below(posterior, posterior.quantile(q)) == pytest.approx(q, abs=1e-9)


@pytest.mark.parametrize("posterior", POSTERIORS, ids=repr)
def test_intervals_leave_equal_tails(posterior: Posterior) -> None:
    """A credible interval of level .9 runs from the 5 % quantile to the 95 % quantile."""
    assert posterior.interval(0.9) == pytest.approx((posterior.quantile(0.05), posterior.quantile(0.95)))


@pytest.mark.parametrize("posterior", POSTERIORS, ids=repr)
def test_moments_are_those_of_the_density(posterior: Posterior) -> None:
    """Mean, variance and sd are the moments of the textbook density."""
    is_positive = isinstance(posterior, BetaPosterior | GammaPosterior)
    start = 0 if is_positive else -mpmath.inf
    stop = 1 if isinstance(posterior, BetaPosterior) else mpmath.inf
    cuts = [start, posterior.mean, stop]
    mean = mpmath.quad(lambda x: x * density(posterior, x), cuts)
    variance = mpmath.quad(lambda x: (x - mean) ** 2 * density(posterior, x), cuts)
    assert posterior.mean == pytest.approx(float(mean), rel=1e-8)
    assert posterior.variance == pytest.approx(float(variance), rel=1e-6)
    assert posterior.sd == pytest.approx(math.sqrt(posterior.variance), rel=1e-12)


def test_heavy_tails_have_no_moments() -> None:
    """The variance of a Student-t is infinite for df in (1, 2], and NaN for df <= 1."""
    assert StudentTPosterior(0, 1, 2.0).variance == math.inf
    assert math.isnan(StudentTPosterior(0, 1, 1.0).variance)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BetaPosterior(-1, 1), "alpha must be positive and finite, got -1.0"),
        (lambda: BetaPosterior(1, math.inf), "beta must be positive and finite, got inf"),
        (lambda: NormalPosterior(math.nan, 1), "mean must be finite, got nan"),
        (lambda: NormalPosterior(0, 0), "sd must be positive and finite, got 0.0"),
        (lambda: StudentTPosterior(0, 1, 0), "df must be positive and finite, got 0.0"),
        (lambda: StudentTPosterior(math.inf, 1, 1), "mean must be finite, got inf"),
        (lambda: GammaPosterior(1, math.nan), "rate must be positive and finite, got nan"),
        (lambda: BetaPrior(alpha=0), "alpha must be positive and finite, got 0"),
        (lambda: GammaPrior(shape=-2), "shape must be positive and finite, got -2"),
        (lambda: NormalInverseGammaPrior(0.0, 0.0, 1.0, 1.0), "pseudo_observations must be positive"),
        (lambda: NormalInverseGammaPrior(math.nan, 1.0, 1.0, 1.0), "mean must be finite, got nan"),
        (lambda: BetaPosterior(1, 1).quantile(1.0), r"q must be in \(0, 1\), got 1.0"),
        (lambda: BetaPosterior(1, 1).interval(0.0), r"level must be in \(0, 1\), got 0.0"),
        (lambda: OutcomeMoments(n=-1.0), "n must be finite and not negative, got -1.0"),
        (lambda: OutcomeMoments(1.0, math.inf), "mean must be finite, got inf"),
        (lambda: OutcomeMoments(1.0, 0.0, -1.0), "centred_squares must be finite and not negative"),
        (lambda: OutcomeMoments(1.0).weighted(-0.1), "weight must be finite and not negative, got -0.1"),
        (lambda: OutcomeMoments.from_integers(2, 3, 1), "no 2 integers have the sum 3"),
        (lambda: OutcomeMoments.from_integers(0, 0, 1), "no 0 integers"),
        (lambda: OutcomeMoments.from_integers(-1, 0, 0), "n must not be negative, got -1"),
        (lambda: OutcomeMoments.from_integers(1, 1, 1, quantum=0.0), "quantum must be positive"),
        (lambda: OutcomeMoments.from_successes(3, 4), r"successes must be in \[0, 3\], got 4"),
        (lambda: BetaPrior().update(OutcomeMoments(2.0, 1.5)), r"must be in \[0, 1\], got 1.5"),
        (lambda: GammaPrior().update(OutcomeMoments(2.0, -1.0)), "must not be negative, got -1.0"),
    ],
)
def test_impossible_numbers_are_refused(build: type[object], message: str) -> None:
    """Impossible numbers are refused, and the error names them."""
    with pytest.raises(ValueError, match=message):
        build()


@given(values=outcomes)
def test_integer_sums_are_exact(values: list[int]) -> None:
    """Centred squares from integer sums suffer no cancellation, however small the spread."""
    shift = 2**30
    sums = sums_of([shift + value for value in values])
    mean = Fraction(sum(values), len(values))
    centred = sum((value - mean) ** 2 for value in values)
    assert sums.mean == float(shift + mean)
    assert sums.centred_squares == pytest.approx(float(centred), rel=1e-15)


@given(first=outcomes, second=outcomes, third=outcomes)
def test_sums_merge_in_any_order(first: list[int], second: list[int], third: list[int]) -> None:
    """Merging yields the sums of all outcomes together, in whatever order."""
    a, b, c = sums_of(first), sums_of(second), sums_of(third)
    together = sums_of(first + second + third)
    for merged in (a.merge(b).merge(c), c.merge(a.merge(b)), OutcomeMoments().merge(b.merge(c)).merge(a)):
        assert merged.n == together.n
        # Relative to the size of the outcomes, 2**20.
        assert merged.mean == pytest.approx(together.mean, abs=1e-9)
        assert merged.centred_squares == pytest.approx(together.centred_squares, rel=1e-9, abs=1e-9)


@given(values=outcomes, weight=st.integers(0, 5))
def test_a_weight_counts_outcomes_that_often(values: list[int], weight: int) -> None:
    """Sums weighted by an integer equal those of the repeated outcomes."""
    weighted = sums_of(values).weighted(weight)
    if weight == 0:
        assert (weighted.n, weighted.centred_squares) == (0, 0)
        return
    repeated = sums_of(values * weight)
    assert weighted.n == repeated.n
    assert weighted.mean == pytest.approx(repeated.mean, rel=1e-15)
    assert weighted.centred_squares == pytest.approx(repeated.centred_squares, rel=1e-12)


def test_quantum_and_offset_scale_outcomes() -> None:
    """Integers stand for offset + quantum * integer."""
    sums = sums_of([0, 2, 4], quantum=0.25, offset=10.0)
    assert (sums.n, sums.mean, sums.centred_squares, sums.total) == (3.0, 10.5, 0.5, 31.5)


def test_successes_are_outcomes_of_zero_and_one() -> None:
    """Yes/no sums equal the integer sums of zeros and ones."""
    assert OutcomeMoments.from_successes(5, 2) == OutcomeMoments.from_integers(5, 2, 2)
    assert OutcomeMoments.from_successes(0, 0) == OutcomeMoments()


PRIORS = [
    BetaPrior(2.0, 3.0),
    GammaPrior(0.5, 2.0),
    NormalInverseGammaPrior(mean=0.3, pseudo_observations=0.5, shape=1.5, scale=0.2),
]


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_no_outcome_leaves_the_prior(prior: BetaPrior | GammaPrior | NormalInverseGammaPrior) -> None:
    """Without outcomes, the posterior's parameters are the prior's."""
    expected = {
        BetaPrior: BetaPosterior(2.0, 3.0),
        GammaPrior: GammaPosterior(0.5, 2.0),
        NormalInverseGammaPrior: StudentTPosterior(0.3, math.sqrt(0.2 / (1.5 * 0.5)), 3.0),
    }
    assert prior.update(OutcomeMoments()) == expected[type(prior)]


def test_the_normal_update_is_that_of_plain_sums() -> None:
    """The update from centred sums equals the textbook's from exact plain sums."""
    m0, k0, a0, b0 = (Fraction(1, 4), Fraction(2), Fraction(3, 2), Fraction(1, 2))
    values = [Fraction(3), Fraction(-1), Fraction(5), Fraction(2)]
    n, s, ss = len(values), sum(values, Fraction()), sum((value**2 for value in values), Fraction())
    kappa, alpha = k0 + n, a0 + Fraction(n, 2)
    mean = (k0 * m0 + s) / kappa
    beta = b0 + (ss + k0 * m0**2 - kappa * mean**2) / 2
    posterior = NormalInverseGammaPrior(float(m0), float(k0), float(a0), float(b0)).update(
        sums_of([3, -1, 5, 2])
    )
    assert posterior.mean == pytest.approx(float(mean), rel=1e-15)
    assert posterior.scale == pytest.approx(math.sqrt(beta / (alpha * kappa)), rel=1e-15)
    assert posterior.df == 2 * alpha


def test_a_small_spread_far_from_zero_survives() -> None:
    """With a million outcomes of 1e9 +- 1, the posterior's scale equals that of outcomes around 0."""
    n = 1_000_000
    prior = NormalInverseGammaPrior(1e9, 1.0, 1.0, 1.0)
    far = OutcomeMoments.from_integers(n, n * 10**9, n * (10**18 + 1))
    near = NormalInverseGammaPrior(0.0, 1.0, 1.0, 1.0).update(OutcomeMoments.from_integers(n, 0, n))
    assert prior.update(far).scale == pytest.approx(near.scale, rel=1e-14)


def test_posteriors_cover_the_truth() -> None:
    """For arms drawn from the prior, a 90 % interval holds the truth in 90 % of cases."""
    rng = np.random.default_rng(7)
    prior = NormalInverseGammaPrior(mean=1.0, pseudo_observations=2.0, shape=3.0, scale=4.0)
    n_runs = 4_000
    hits = 0
    for _ in range(n_runs):
        variance = 4.0 / rng.gamma(3.0)
        truth = rng.normal(1.0, math.sqrt(variance / 2.0))
        sample = rng.normal(truth, math.sqrt(variance), 5)
        sums = OutcomeMoments(5.0, float(sample.mean()), float(((sample - sample.mean()) ** 2).sum()))
        low, high = prior.update(sums).interval(0.9)
        hits += low < truth < high
    # Five binomial standard errors: a false alarm in fewer than 1e-6 of seeds.
    assert abs(hits / n_runs - 0.9) < 5 * math.sqrt(0.9 * 0.1 / n_runs)
