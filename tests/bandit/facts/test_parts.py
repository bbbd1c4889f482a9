"""Parts of a first epoch: which decision is in which, and the rows that evidence reads."""

import random
from collections import Counter

import numpy as np
import pytest

from bandit.decision_id import Basis, IdBits, new_id
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.grid import FactGrid
from bandit.facts.parts import N_PARTS, part_of, part_of_nibble
from tests.bandit.builders import START, binary_tally, decision_key, make_epoch, outcome_key

PARTS = (0.0625, 0.0625, 0.125, 0.25, 0.5)


def test_a_part_is_that_of_the_first_four_bits_of_the_lot() -> None:
    """The part follows from the top four bits of the lot, whatever the other bits of the id."""
    generator = random.Random(5)
    for _ in range(500):
        decision_id = new_id(generator.getrandbits(48), generator.getrandbits(74))
        assert part_of(decision_id) == part_of_nibble(IdBits.of(decision_id).lot >> 16)


def test_parts_double() -> None:
    """Of random ids, parts get 1/16, 1/16, 1/8, 1/4 and 1/2: each but the first as many as all before it."""
    n, generator = 40_000, random.Random(7)
    counts = Counter(part_of(new_id(1, generator.getrandbits(74))) for _ in range(n))
    for part, share in enumerate(PARTS):
        # Five standard errors: a false alarm of 3e-6 over the five parts.
        assert counts[part] == pytest.approx(n * share, abs=5 * (n * share * (1 - share)) ** 0.5)


def facts_in_parts(*, other: Basis = Basis.RESTRICTED) -> Facts:
    """Return facts of three epochs and two arms, of which the first is known by part."""
    parts = [
        Facts(
            decisions={decision_key(1, arm): 10 * (part + 1) + arm for arm in (0, 1)},
            outcomes={outcome_key(1, arm): binary_tally(part + 5, part + arm) for arm in (0, 1)},
        )
        for part in range(N_PARTS)
    ]
    decisions, outcomes = Counter[DecisionKey](), dict[OutcomeKey, Tally]()
    for part in parts:
        decisions.update(part.decisions)
        for key, tally in part.outcomes.items():
            outcomes[key] = outcomes.get(key, Tally()).plus(tally)
    decisions.update({decision_key(epoch, arm): 100 * epoch + arm for epoch in (2, 3) for arm in (0, 1)})
    decisions[decision_key(1, 0, other)] = 1000
    outcomes[outcome_key(2, 1)] = binary_tally(7, 3)
    return Facts(decisions=dict(decisions), outcomes=outcomes, parts=tuple(parts))


EPOCHS = [make_epoch(number, START, shares={0: 1 - number / 10, 1: number / 10}) for number in (1, 2, 3)]
EPOCHS[0] = make_epoch(1, START, shares={0: 0.9, 1: 0.1}, means={0: {0: 0.3, 1: 0.4}})


@pytest.mark.parametrize("is_exact", [False, True])
def test_a_split_first_epoch_is_five_rows(*, is_exact: bool) -> None:
    """Shares, decisions, moments and means have the parts as rows, in order, and then the other epochs."""
    grid = FactGrid(facts_in_parts(), EPOCHS, [0, 1], is_exact=is_exact, splits_first=True)
    assert (grid.shape, grid.n_rows, [grid.rows_of(n) for n in range(4)]) == ((7, 2), 7, [0, 5, 6, 7])
    assert grid.shares[:, 1].tolist() == [0.1] * 5 + [0.2, 0.3]
    assert grid.decided[:, 1].tolist() == [11, 21, 31, 41, 51, 201, 301]
    assert grid.moments(0)[:, :, 1].tolist() == [[5, 6, 7, 8, 9, 7, 0], *[[1, 2, 3, 4, 5, 3, 0]] * 2]
    assert grid.moments(3).shape == (3, 7, 2)
    assert grid.means(0, 2, missing=0.5)[:, 0].tolist() == [0.3] * 5 + [0.5]
    assert grid.means(0, 0, missing=0.5).shape == (0, 2)
    assert grid.row_epochs == (*EPOCHS[:1] * 5, *EPOCHS[1:])


@pytest.mark.parametrize("is_exact", [False, True])
def test_the_parts_sum_to_the_row_of_the_whole_epoch(*, is_exact: bool) -> None:
    """Split or not, an epoch has the same decisions and outcomes."""
    split = FactGrid(facts_in_parts(), EPOCHS, [1, 0], is_exact=is_exact, splits_first=True)
    whole = FactGrid(facts_in_parts(), EPOCHS, [1, 0], is_exact=is_exact)
    assert (whole.n_rows, whole.rows_of(2)) == (3, 2)
    assert np.array_equal(split.decided[:5].sum(axis=0), whole.decided[0])
    assert np.array_equal(split.decided[5:], whole.decided[1:])
    assert np.array_equal(split.moments(0)[:, :5].sum(axis=1), whole.moments(0)[:, 0])


def test_only_a_first_epoch_known_by_part_is_split() -> None:
    """Without parts, from a later epoch, or where other decisions count as well, every epoch is a row."""
    facts = facts_in_parts()
    unknown = Facts(decisions=facts.decisions, outcomes=facts.outcomes)
    every = (Basis.POLICY, Basis.RESTRICTED)
    assert FactGrid(unknown, EPOCHS, [0, 1], splits_first=True).n_rows == 3
    assert FactGrid(unknown, EPOCHS, [0, 1], splits_first=True).row_epochs == tuple(EPOCHS)
    assert FactGrid(facts, EPOCHS[1:], [0, 1], splits_first=True).n_rows == 2
    assert FactGrid(facts, [], [0, 1], splits_first=True).n_rows == 0
    assert FactGrid(facts, EPOCHS, [0, 1], bases=every, splits_first=True).decided.tolist()[0][0] == 1150
