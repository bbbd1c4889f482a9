"""Many arms estimated and compared together: each has the numbers that it has alone."""

import numpy as np
import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.columns import exact_sums
from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import (
    Comparison,
    compare_each,
    compare_means,
    estimate_mean,
    estimate_means,
)
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.lift import relative_lift, relative_lifts
from bandit.inference.sequential.odds import OddsComparison, compare_odds, compare_odds_each
from bandit.inference.sequential.results import Interval

N_ARMS, N_EPOCHS = 12, 30
DESIGN = Design(floors={0: 0.2} | dict.fromkeys(range(1, N_ARMS, 2), 0.03))


def table() -> EvidenceTable:
    """Return a table of a champion and challengers with two floors; one never had a share, one no event."""
    rng = np.random.default_rng(4)
    shares = np.tile(np.r_[0.25, np.full(N_ARMS - 2, 0.75 / (N_ARMS - 2)), 0.0], (N_EPOCHS, 1))
    shares[::3, 1] /= 10
    n = rng.poisson(400 * shares).astype(float)
    wins = rng.binomial(n.astype(int), rng.uniform(0.05, 0.5, N_ARMS)).astype(float)
    wins[:, 2] = wins[:15, 0] = wins[5:, 3] = 0  # arms have events in different epochs
    predictions = rng.uniform(0, 0.5, (N_EPOCHS, N_ARMS))
    return EvidenceTable(
        arms=tuple(range(N_ARMS)),
        shares=shares,
        predictions=predictions,
        n=n,
        sums=wins,
        squares=wins,
        scale=ValueScale(),
    )


def ends(found: Interval | CannotSay) -> object:
    """Return both ends to nine digits, or the reason."""
    return pytest.approx((found.lower, found.upper), rel=1e-9) if isinstance(found, Interval) else found


def test_each_of_many_arms_has_the_numbers_that_it_has_alone() -> None:
    """Means, differences, odds and lifts, or the reasons for missing ones, equal those of each arm alone."""
    made, arms = table(), range(1, N_ARMS)
    means, differences = estimate_means(made, arms, DESIGN), compare_each(made, arms, 0, DESIGN)
    odds, lifts = compare_odds_each(made, arms, 0), relative_lifts(made, arms, 0, DESIGN)
    kinds = set()
    for arm in arms:
        kinds.add(type(differences[arm]))
        assert means[arm] == estimate_mean(made, arm, DESIGN)
        alone, together = compare_means(made, arm, 0, DESIGN), differences[arm]
        if isinstance(alone, Comparison) and isinstance(together, Comparison):
            assert (together.difference, together.better, together.worse) == (
                alone.difference,
                alone.better,
                alone.worse,
            )
            assert (together.interval.lower, together.interval.upper) == ends(alone.interval)
        else:
            assert alone == together
        one, lift = compare_odds(made, arm, 0), lifts[arm]
        each = odds[arm]
        if isinstance(one, OddsComparison) and isinstance(each, OddsComparison):
            assert (each.lift.lower, each.lift.upper) == ends(one.lift)
            assert (each.better, each.worse) == (one.better, one.worse)
        else:
            assert one == each
        if isinstance(lift, Interval):
            assert (lift.lower, lift.upper) == ends(relative_lift(made, arm, 0, DESIGN))
        else:
            assert lift == relative_lift(made, arm, 0, DESIGN)
    assert kinds == {Comparison, CannotSay}


def test_facts_from_rows_are_facts_from_mappings() -> None:
    """Facts from rows of whole numbers have the same mapping and the same columns."""
    decisions = {DecisionKey(1, 2, 0, arm, Basis.POLICY): 10 + arm for arm in range(3)}
    outcomes = {OutcomeKey(1, 2, 0, 1, Basis.RESTRICTED, 4): Tally(3, 2, 2, 1, 1, 1)}
    rows = np.array([(*key[1:], count) for key, count in decisions.items()])
    sums = np.array([(*key[1:], *tally) for key, tally in outcomes.items()])
    made = Facts.of_rows(1, rows, sums)
    assert made == Facts(decisions=decisions, outcomes=outcomes)
    assert made.count_decisions() == {(arm, Basis.POLICY): 10 + arm for arm in range(3)}
    assert made.outcome_columns[4].tallies.tolist() == [[3, 2, 2, 1, 1, 1]]


def test_sums_beyond_64_bits_are_exact() -> None:
    """The sum over a thousand epochs full of the largest squares is exact."""
    assert exact_sums(np.full((1000, 1), 2**62)) == [1000 * 2**62]
