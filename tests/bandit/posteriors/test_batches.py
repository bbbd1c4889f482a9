"""Posteriors of many runs at once equal the posteriors of each run."""

from dataclasses import astuple

import numpy as np
import pytest

from bandit.posteriors.batches import NormalBatch, SumsBatch, repeated, updated
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior

PRIORS: list[Prior] = [
    BetaPrior(2.0, 5.0),
    GammaPrior(1.5, 0.5),
    NormalInverseGammaPrior(mean=3.0, pseudo_observations=0.5, shape=2.0, scale=4.0),
]
N = np.array([[0.0, 1.0, 7.0], [2.0, 40.0, 0.5]])
MEAN = np.array([[0.0, 1.0, 0.3], [0.5, 0.2, 0.0]])
SQUARES = np.array([[0.0, 0.0, 2.5], [0.5, 6.0, 0.0]])


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_updated_is_update_for_every_run_and_arm(prior: Prior) -> None:
    """Every parameter equals that of `prior.update` one by one, even without outcomes."""
    batch = updated(prior, SumsBatch(N, N * MEAN, SQUARES))
    parameters = [np.broadcast_to(column, N.shape) for column in astuple(batch)]  # type: ignore[call-overload]
    for cell in np.ndindex(N.shape):
        sums = OutcomeMoments(float(N[cell]), float(MEAN[cell]), float(SQUARES[cell]))
        found = [float(column[cell]) for column in parameters]
        assert found == pytest.approx(astuple(prior.update(sums)), rel=1e-12)


def test_real_outcomes_need_their_squares() -> None:
    """A prior with unknown variance can't be updated with counts and totals alone."""
    with pytest.raises(ValueError, match="need"):
        updated(PRIORS[2], SumsBatch(N, N * MEAN))


def test_repeated_posteriors_are_drawn_independently_in_each_round() -> None:
    """Rounds share posteriors but not draws, even if parameters broadcast."""
    batch = repeated(NormalBatch(np.array([[1.0, 2.0]]), np.array(0.5)), 4)
    draws = batch.sample(np.random.default_rng(1))
    assert batch.means.tolist() == [[[1.0, 2.0]]] * 4
    assert draws.shape == (4, 1, 2)
    assert len(np.unique(draws)) == 8
