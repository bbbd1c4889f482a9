"""Means by overlap weights: each look is the estimate of its time, and bounds are on the safe side."""

from math import log

import numpy as np
import pytest
from scipy import special

from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.centred_odds import BETS, WEIGHTS
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import MeanEstimate, estimate_mean, look_at_mean, overlap_weights
from tests.bandit.inference.tables import draw_table, first_rows, make_table

DESIGN = Design(floors={0: 0.2, 1: 0.05})
N_ROWS = 24


def table(*, is_binary: bool = True) -> EvidenceTable:
    """Return moving shares; the second arm comes late, and in two rows its share is tiny."""
    rng = np.random.default_rng(5)
    share = rng.uniform(0.05, 0.7, N_ROWS)
    share[[3, 9]] = 0.001
    shares = np.stack([1 - share, share], axis=1)
    n = rng.poisson(100 * shares).astype(float)
    n[:2, 1] = 0
    wins = rng.binomial(n.astype(int), 0.1).astype(float)
    return make_table(shares, n, wins, scale=ValueScale(is_binary=is_binary))


def estimated(made: EvidenceTable, arm: int, design: Design = DESIGN) -> MeanEstimate:
    """Return the mean, which must not be missing."""
    found = estimate_mean(made, arm, 0, design)
    assert isinstance(found, MeanEstimate)
    return found


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("arm", [0, 1])
def test_every_look_is_the_estimate_of_its_moment(arm: int, is_binary: bool) -> None:  # noqa: FBT001 - a case
    """Every look equals the estimate from a table that ends there."""
    made = table(is_binary=is_binary)
    path = look_at_mean(made, arm, 0, DESIGN, 60)
    assert len(path) == (N_ROWS if arm == 0 else N_ROWS - 2)
    for look in path:
        then = estimated(first_rows(made, look.row + 1), arm)
        assert look.mean == pytest.approx(then.mean)
        assert look.interval.lower == pytest.approx(then.interval.lower)
        assert look.interval.upper == pytest.approx(then.interval.upper)


def test_a_path_is_thinned_and_ends_now() -> None:
    """A path has at most the given number of looks, the last one included."""
    path = look_at_mean(table(), 0, 0, DESIGN, 7)
    assert len(path) == 7
    assert path[-1].row == N_ROWS - 1


def test_an_arm_without_a_decision_has_no_path() -> None:
    """An arm that was never chosen has no look, and its mean is missing with the reason."""
    made = make_table([[0.9, 0.1]] * 2, [[40, 0]] * 2, [[4, 0]] * 2)
    assert look_at_mean(made, 1, 0, DESIGN, 60) == ()
    assert estimate_mean(made, 1, 0, DESIGN) == CannotSay(Reason.ARM_WITHOUT_OUTCOMES)
    nothing = np.zeros((0, 2))
    empty = make_table(nothing, nothing, nothing)
    assert look_at_mean(empty, 0, 0, DESIGN, 60) == ()
    assert estimate_mean(empty, 0, 0, DESIGN) == CannotSay(Reason.NO_CLOSED_EPOCH)


def test_an_arm_that_was_never_compared_weighs_1() -> None:
    """A champion alone, or an arm that never ran beside the champion, has its plain mean."""
    alone = make_table(
        [[1.0], [1.0]],
        [[30], [70]],
        [
            [
                3,
            ],
            [14],
        ],
    )
    assert overlap_weights(alone, 0, 0).tolist() == [1, 1]
    assert estimated(alone, 0).mean == pytest.approx(0.17)
    apart = make_table([[1, 0], [0, 1], [0, 1]], [[9, 0], [0, 9], [0, 90]], [[1, 0], [0, 1], [0, 32]])
    assert overlap_weights(apart, 1, 0).tolist() == [1, 1, 1]
    assert estimated(apart, 1).mean == pytest.approx(33 / 99)


def test_weights_are_the_others_part_of_both_shares() -> None:
    """A challenger weighs by the champion's part of both shares, the champion by all others' part."""
    made = make_table([[0.5, 0.3, 0.2], [0.2, 0.0, 0.8]], [[9, 9, 9], [9, 0, 9]], [[1, 2, 3], [3, 0, 1]])
    assert overlap_weights(made, 0, 0).tolist() == pytest.approx([0.5, 0.8])
    assert overlap_weights(made, 1, 0).tolist() == pytest.approx([0.5 / 0.8, 0.0])
    assert overlap_weights(made, 2, 0).tolist() == pytest.approx([0.5 / 0.7, 0.2])


def ungathered(made: EvidenceTable, arm: int, rate: float, sign: int) -> float:
    """Return ln E against "the rate is `rate`" with each row at its own weight."""
    weights, n, sums = overlap_weights(made, arm, 0), made.n[:, arm], made.sums[:, arm]
    bets: FloatArray = sign * BETS[:, np.newaxis]
    logs = bets * weights * sums - n * np.log1p(rate * np.expm1(bets * weights))
    return float(special.logsumexp(logs.sum(axis=1), b=WEIGHTS))


@pytest.mark.parametrize("arm", [0, 1])
def test_gathering_rows_at_few_weights_errs_on_the_safe_side(arm: int) -> None:
    """Where the interval ends, E of rows at their own weights has reached the level, and not by much."""
    made, level = table(), log(2 / 0.05)
    interval = estimated(made, arm).interval
    for rate, sign in ((interval.lower, 1), (interval.upper, -1)):
        assert level - 1e-6 <= ungathered(made, arm, rate, sign) <= level + 0.05


def test_an_end_is_the_first_refuted_rate() -> None:
    """Under an even split nothing is gathered: the ends are refuted, and a hair inside is not."""
    n = np.full((3, 2), 200.0)
    made = make_table(np.full((3, 2), 0.5), n, 0.1 * n)
    interval = estimated(made, 1).interval
    for rate, sign in ((interval.lower, 1), (interval.upper, -1)):
        assert (
            ungathered(made, 1, rate, sign) >= log(2 / 0.05) > ungathered(made, 1, rate + sign * 1e-8, sign)
        )


@pytest.mark.parametrize("first", [0, 15])
def test_the_mean_is_never_refuted(first: int) -> None:
    """In any table the interval holds the mean, is within the range, and is not a point."""
    for seed in range(first, first + 15):
        made = draw_table(seed)
        for arm in range(len(made.arms)):
            found = estimate_mean(made, arm, 0, Design(floors={0: 0.02}))
            if isinstance(found, MeanEstimate):
                lower, upper = made.scale.minimum, made.scale.maximum
                assert lower <= found.interval.lower <= found.mean <= found.interval.upper <= upper
                assert found.interval.lower < found.interval.upper


def test_a_common_drift_moves_both_means_alike() -> None:
    """Under moving shares and a drift, an arm's mean is that of decisions weighed by the overlap."""
    shares = np.array([[0.1, 0.9], [0.9, 0.1]])
    made = make_table(shares, 1000 * shares, 1000 * shares * [[0.1, 0.1], [0.5, 0.5]])
    assert estimated(made, 0).mean == pytest.approx(0.3)
    assert estimated(made, 1).mean == pytest.approx(0.3)


def test_few_first_amounts_say_nothing_of_the_range() -> None:
    """Amounts that only serve as centre have a mean, and the whole range for an interval."""
    scale = ValueScale(minimum=-5.0, maximum=15.0, is_binary=False)
    found = estimated(make_table([[0.5, 0.5]], [[20, 20]], [[5, 10]], scale=scale), 1)
    assert (found.mean, found.interval.lower, found.interval.upper) == (5.0, -5.0, 15.0)
