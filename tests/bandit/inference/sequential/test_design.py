"""Designs: levels, and the largest weights that declared floors allow."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.sequential.design import UNDECLARED_FLOOR, Design


def test_the_level_is_bonferronis() -> None:
    """Both directions of every challenger share alpha."""
    assert Design(alpha=0.05).log_level == pytest.approx(log(40))
    assert Design(alpha=0.02, n_challengers=7).log_level == pytest.approx(log(700))


def test_floors_bound_weights() -> None:
    """With floors of 20 % and 5 % of two arms a challenger has at most .8, and a third arm's floor is off."""
    assert Design(floors={0: 0.2, 1: 0.05}).largest_weight(1, 0) == pytest.approx(0.95, rel=1e-5)
    assert Design(floors={0: 0.4, 1: 0.4}).largest_weight(1, 0) == pytest.approx(0.6, rel=1e-5)
    three = Design(floors={0: 0.4, 1: 0.2, 2: 0.2})
    assert three.largest_weight(1, 0) == pytest.approx(0.75, rel=1e-5)
    assert three.largest_weight_of(1, 0) == pytest.approx(0.75, rel=1e-5)
    assert three.largest_weight_of(0, 0) == pytest.approx(0.6, rel=1e-5)


@pytest.mark.parametrize("floors", [{}, {0: 0.0, 1: 0.0}])
def test_without_floors_a_weight_may_be_1(floors: dict[int, float]) -> None:
    """Without floors any weight is possible, and no share counts that is below 1 %."""
    design = Design(floors=floors)
    assert design.largest_weight(1, 0) == pytest.approx(1.0, abs=2e-6)
    assert design.largest_weight_of(0, 0) == pytest.approx(1.0, abs=2e-6)
    assert design.floor(1) == pytest.approx(UNDECLARED_FLOOR)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_no_share_above_the_floors_exceeds_the_weight(seed: int, n_arms: int) -> None:
    """Whatever the shares, as long as all floors hold, no overlap weight is larger than the bound."""
    rng = np.random.default_rng(seed)
    floors = rng.dirichlet(np.ones(n_arms)) * rng.uniform(0, 1)
    shares = floors + (1 - floors.sum()) * rng.dirichlet(np.full(n_arms, 0.2))
    design = Design(floors=dict(enumerate(floors.tolist())))
    part = shares[1] / (shares[0] + shares[1])
    assert max(part, 1 - part) <= design.largest_weight(1, 0)
    assert 1 - part <= design.largest_weight_of(1, 0)
    assert 1 - shares[0] <= design.largest_weight_of(0, 0)


@pytest.mark.parametrize(
    "constants",
    [
        {"alpha": 0.5},
        {"alpha": 0.0},
        {"planned_decisions": 0.0},
        {"planned_variance": -1.0},
        {"floors": {0: 1.5}},
        {"floors": {0: -0.1}},
    ],
)
def test_impossible_designs_are_refused(constants: dict[str, float]) -> None:
    """A design outside its range is refused when it is created."""
    with pytest.raises(ValueError, match=r"alpha|planned|floors"):
        Design(**constants)  # type: ignore[arg-type]  # each is a number, or floors
