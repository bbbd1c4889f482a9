"""The cells whose assumptions are broken: they break what they name, and nothing else."""

import numpy as np

from benchmarks.validity.shapings import FLOORS
from benchmarks.validity.studies.broken_assumptions import (
    arms_better_in_turns,
    successive_challengers,
    unequal_report_delay,
    unposted_failures,
)
from benchmarks.validity.worlds.layouts import even, growing
from benchmarks.validity.worlds.rates import still, turning

N_RUNS, N_EPOCHS, SIZE = 20, 40, 500
MOST = 8
"""In this many runs, an error rate of .05 gives more than these less than once in 10^6 tests."""
LAYOUT = growing(20_000)
SHAPING = FLOORS["floors 20/5"]


def test_turns_change_once() -> None:
    """The rates before and after a turn are those that are asked for."""
    truth = turning((0.1, 0.2), (0.3, 0.4), even(5, 100).times, at=0.4)
    assert truth[:, 0].tolist() == [0.1, 0.1, 0.3, 0.3, 0.3]
    assert truth[:, 1].tolist() == [0.2, 0.2, 0.4, 0.4, 0.4]


def test_what_wears_off_is_found_and_does_not_stand() -> None:
    """Twice the rate at first and a fifth of it after is found in every run, and upheld in none."""
    truth = turning((0.1, 0.2), (0.1, 0.02), LAYOUT.times, at=0.3)
    sample = arms_better_in_turns(truth, LAYOUT, SHAPING, np.random.default_rng(1), N_RUNS)
    assert sample["found"].all()
    assert not sample["stands"].any()
    lasting = arms_better_in_turns(
        still((0.1, 0.2), len(LAYOUT.times)), LAYOUT, SHAPING, np.random.default_rng(1), N_RUNS
    )
    assert lasting["stands"].all()


def test_with_every_outcome_answered_nothing_is_broken() -> None:
    """With every failure posted nothing is found; with half of one arm's, in every run, and noticed."""
    whole = unposted_failures(0.5, 1.0, LAYOUT, np.random.default_rng(3), N_RUNS)
    half = unposted_failures(0.5, 0.5, LAYOUT, np.random.default_rng(3), N_RUNS)
    assert whole["found"].sum() <= MOST
    assert half["found"].all()
    assert half["alarm"].all()
    assert not half["stands"].any()


def test_only_open_epochs_mistake_what_is_reported_sooner() -> None:
    """Without a delay open and closed epochs agree; with eight epochs' delay open ones always fire."""
    at_once = unequal_report_delay(0.02, 0, N_EPOCHS, SIZE, np.random.default_rng(4), N_RUNS)
    later = unequal_report_delay(0.02, 8, N_EPOCHS, SIZE, np.random.default_rng(4), N_RUNS)
    assert at_once["found"].tolist() == at_once["stands"].tolist()
    assert later["found"].all()
    assert later["stands"].sum() <= MOST


def test_a_challenger_that_differs_is_found_wherever_it_comes() -> None:
    """The third of three is found, at the level of six tests; equal ones seldom are."""
    layout = growing(5_000)
    equal, apart = (still(rates, len(layout.times)) for rates in ((0.1, 0.1), (0.1, 0.3)))
    assert successive_challengers(apart, layout, 3, np.random.default_rng(5), N_RUNS)["found"].all()
    assert successive_challengers(equal, layout, 3, np.random.default_rng(5), N_RUNS)["found"].sum() <= MOST
