"""The value remaining: P(some other arm is better than this one by more than a margin)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior
from bandit.posteriors.best_arm import best_arm_probabilities, value_remaining_probability
from tests.bandit.posteriors.best_arm_reference import TOLERANCE, Reference, cdf


@given(margin=st.floats(0, 0.9), is_max=st.booleans())
def test_value_remaining_of_gamma_arms_is_a_rescaled_duel(margin: float, *, is_max: bool) -> None:
    """For Gamma arms a relative margin is a change of rate, so the value remaining is another P(best)."""
    arms = [GammaPosterior(40, 20), GammaPosterior(30, 16), GammaPosterior(3, 2)]
    reach = 1 + margin if is_max else 1 - margin
    handicapped = [GammaPosterior(40, 20 / reach), *arms[1:]]
    expected = 1 - best_arm_probabilities(handicapped, maximize=is_max)[0]
    remaining = value_remaining_probability(arms, margin, arm=0, maximize=is_max)
    assert remaining == pytest.approx(expected, abs=1e-10)


def test_value_remaining_when_minimising_beta_arms() -> None:
    """P(other < (1 - margin) * arm) equals the fine grid's for error rates, and Phi for two Normals."""
    arms = [BetaPosterior(30, 70), BetaPosterior(27, 80), BetaPosterior(2, 4)]
    grid = Reference(arms)
    above = np.prod([1 - cdf(other, grid.values * 0.9) for other in arms[1:]], axis=0)
    expected = (grid.density[0] * (1 - above)).sum() * grid.step
    remaining = value_remaining_probability(arms, 0.1, arm=0, maximize=False)
    assert remaining == pytest.approx(expected, abs=TOLERANCE)
    duel = [NormalPosterior(1000.0, 2.0), NormalPosterior(1003.0, 0.001)]
    above_margin = special.ndtr((1003 - 1000 * 1.002) / math.hypot(2 * 1.002, 0.001))
    assert value_remaining_probability(duel, 0.002, arm=0) == pytest.approx(above_margin, abs=TOLERANCE)


def test_value_remaining_without_margin_is_the_chance_of_being_wrong() -> None:
    """With margin 0 the value remaining is 1 - P(best); with one arm it is 0."""
    arms = [BetaPosterior(1, 1), BetaPosterior(1e6, 3e6), BetaPosterior(9, 3)]
    for arm, probability in enumerate(best_arm_probabilities(arms)):
        assert value_remaining_probability(arms, 0.0, arm=arm) == pytest.approx(1 - probability, abs=1e-10)
    assert value_remaining_probability(arms[:1], 0.0, arm=0) == 0.0


@pytest.mark.parametrize(("margin", "maximize"), [(-0.1, True), (math.nan, True), (1.0, False)])
def test_a_margin_outside_its_range_is_refused(margin: float, maximize: bool) -> None:  # noqa: FBT001
    """A margin that is negative, or not below 1 when small values are good, is refused."""
    with pytest.raises(ValueError, match="margin must be in"):
        value_remaining_probability([BetaPosterior(1, 1)] * 2, margin, arm=0, maximize=maximize)
