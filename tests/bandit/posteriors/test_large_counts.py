"""Gamma posteriors after millions and billions of events, for which SciPy's incomplete gamma loses digits."""

import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest

from bandit.posteriors import GammaPosterior
from bandit.posteriors.best_arm import best_arm_probabilities
from bandit.posteriors.curves.gamma import _gamma_tails


@pytest.mark.parametrize("shape", [1e5, 1e7, 1e9])
@pytest.mark.parametrize("score", [-5.0, -1.0, -0.1, 0.0, 0.5, 2.0, 4.0])
def test_tails_of_large_shapes_are_exact(shape: float, score: float) -> None:
    """Both tails agree with the integral of the density within 1e-10."""
    log_x = math.log(shape) + score / math.sqrt(shape)
    with mpmath.workdps(40):
        start = mpmath.log(shape) - 14 / mpmath.sqrt(shape)
        end = mpmath.mpf(log_x)
        expected = mpmath.quad(
            lambda z: mpmath.exp(shape * z - mpmath.exp(z) - mpmath.loggamma(shape)),
            [start, (start + end) / 2, end],
        )
    below, above = _gamma_tails(np.array([shape]), np.array([log_x]))
    assert below[0] == pytest.approx(float(expected), abs=1e-10)
    assert above[0] == pytest.approx(1 - float(expected), abs=1e-10)


@pytest.mark.parametrize("shape", [1e7, 1e9, 1e12])
def test_arms_after_billions_of_events_have_shares(shape: float) -> None:
    """P(best) of two nearly normal posteriors is the normal one, up to the order of their skewness."""
    gap = 1 / math.sqrt(shape)
    better, worse = GammaPosterior(shape, shape / (1 + gap)), GammaPosterior(shape, shape)
    expected = 0.5 * math.erfc(-1 / math.sqrt(2) / math.sqrt(2))
    share = best_arm_probabilities([worse, better])[1]
    assert share == pytest.approx(expected, abs=1 / math.sqrt(shape) + 1e-9)
