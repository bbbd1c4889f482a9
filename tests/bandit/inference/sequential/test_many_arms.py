"""Many arms estimated and compared from one table: each has the numbers that it has alone."""

import numpy as np

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.columns import exact_sums
from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import estimate_mean, look_at_mean
from tests.bandit.inference.tables import make_table

N_ARMS, N_ROWS = 6, 30
DESIGN = Design(floors={0: 0.2} | dict.fromkeys(range(1, N_ARMS, 2), 0.03), n_challengers=N_ARMS - 1)


def table() -> EvidenceTable:
    """Return a table of a champion and challengers with two floors; one never had a share, one no event."""
    rng = np.random.default_rng(4)
    shares = np.tile(np.r_[0.25, np.full(N_ARMS - 2, 0.75 / (N_ARMS - 2)), 0.0], (N_ROWS, 1))
    shares[::3, 1] /= 10
    n = rng.poisson(400 * shares).astype(float)
    wins = rng.binomial(n.astype(int), rng.uniform(0.05, 0.5, N_ARMS)).astype(float)
    wins[:, 2] = wins[:15, 0] = wins[5:, 3] = 0  # arms have events in different epochs
    return make_table(shares, n, wins)


def test_each_of_many_arms_has_the_numbers_that_it_has_alone() -> None:
    """A table that was read for other arms before gives what a fresh one gives."""
    made = table()
    kinds = set()
    for arm in range(1, N_ARMS):
        found, alone = compare(made, arm, 0, DESIGN), table()
        kinds.add(type(found))
        assert found == compare(alone, arm, 0, DESIGN)
        assert estimate_mean(made, arm, 0, DESIGN) == estimate_mean(alone, arm, 0, DESIGN)
        assert look_at_mean(made, arm, 0, DESIGN, 5) == look_at_mean(alone, arm, 0, DESIGN, 5)
    assert kinds == {Comparison, CannotSay}
    assert compare(made, N_ARMS - 1, 0, DESIGN) == CannotSay(Reason.ARM_WITHOUT_SHARE)


def test_other_arms_only_move_the_centre() -> None:
    """An arm beside the two compared changes no mean, whatever its outcomes; the test's centre has them."""
    made = table()
    sums = made.sums.copy()
    sums[:, 4] = made.n[:, 4]
    changed = make_table(made.shares, made.n, sums)
    before, after = (compare(each, 1, 0, DESIGN) for each in (made, changed))
    assert isinstance(before, Comparison)
    assert isinstance(after, Comparison)
    assert (before.mean, before.champion_mean) == (after.mean, after.champion_mean)
    assert before.better != after.better


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
