"""Centred odds: an exact martingale under every hypothesis, and intervals that invert it."""

from collections.abc import Sequence
from math import inf, log

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.inference.data.pairs import Pair
from bandit.inference.data.table import FloatArray
from bandit.inference.sequential.centred_odds import (
    BETS,
    WEIGHTS,
    CentredOdds,
    difference_interval,
    ratio_interval,
)
from bandit.inference.sequential.odds import Events, ratio_process
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.search import Sign
from tests.bandit.inference.tables import draw_table, make_table, pair_in

SIGNS: tuple[Sign, Sign] = (1, -1)
LEVEL = log(40)


def one_row(part: float, centre: float, n: Sequence[int], wins: Sequence[int]) -> Pair:
    """Return a pair of one row with this centre; n and wins are of champion and challenger."""
    return rows_of([part], [centre], np.array([n]).T, np.array([wins]).T)


def rows_of(
    parts: Sequence[float] | FloatArray,
    centres: Sequence[float] | FloatArray,
    n: NDArray[np.generic],
    wins: NDArray[np.generic],
) -> Pair:
    """Return a pair of rows that all count; n and wins have the shape (2, n_rows)."""
    n_rows = len(parts)
    return Pair(
        arm=1,
        champion=0,
        rows=np.arange(n_rows),
        part=np.array(parts),
        n=n.astype(float),
        sums=wins.astype(float),
        squares=wins.astype(float),
        centre=np.array(centres),
        centres=np.tile(np.array(centres), (2, 1)),
        is_tested=np.ones(n_rows, dtype=bool),
    )


def factors_of(part: float, centre: float, value: float, sign: Sign, *, is_ratio: bool) -> FloatArray:
    """Return E of one decision: rows are champion and challenger, columns failure and success."""
    found = np.zeros((2, 2))
    for arm in (0, 1):
        for outcome in (0, 1):
            n, wins = [0, 0], [0, 0]
            n[arm], wins[arm] = 1, outcome
            odds = CentredOdds(one_row(part, centre, n, wins))
            log_e = odds.log_e_value_of_ratio if is_ratio else odds.log_e_value
            found[arm, outcome] = np.exp(log_e(value, sign))
    return found


def expected(factors: FloatArray, part: float, p_0: float, p_k: float) -> float:
    """Return the expectation of a decision's factor at these rates."""
    chances = np.array([[1 - p_0, p_0], [1 - p_k, p_k]]) * np.array([[1 - part], [part]])
    return float((chances * factors).sum())


@pytest.mark.parametrize("is_ratio", [False, True])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_decisions_factor_has_expectation_1_under_the_hypothesis(sign: Sign, is_ratio: bool) -> None:  # noqa: FBT001 - a case
    """Along the whole line of rates it is 1; beyond, it is above 1 on the side of the bet and below opposite.

    E is a mean over all bets.
    """
    rng = np.random.default_rng(3 + sign + 10 * is_ratio)
    for _ in range(120):
        part, centre = rng.uniform(0.01, 0.99), rng.uniform(0, 1) ** 2
        value = float(np.exp(rng.uniform(-2, 2))) if is_ratio else float(rng.uniform(-0.95, 0.95))
        factors = factors_of(part, centre, value, sign, is_ratio=is_ratio)
        low, high = (0, min(1, 1 / value)) if is_ratio else (max(0, -value), min(1, 1 - value))
        on_line = [(p_0, value * p_0 if is_ratio else p_0 + value) for p_0 in np.linspace(low, high, 7)]
        means = [expected(factors, part, p_0, p_k) for p_0, p_k in on_line]
        assert max(abs(mean - 1) for mean in means) <= 1e-12
        for p_0, p_k in on_line:
            more, fewer = p_k + (1 - p_k) * rng.uniform(), p_k * rng.uniform()
            assert sign * (expected(factors, part, p_0, more) - 1) >= -1e-12
            assert sign * (expected(factors, part, p_0, fewer) - 1) <= 1e-12


def naive_factors(
    part: FloatArray, centre: FloatArray, bet: FloatArray, delta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return u_1 and u_0 times the tilts for settings of a difference, by a solver; shape (2, 2, n_settings).

    The second result is whether both normalisers are positive.
    """
    m_0, m_k = np.clip([centre - part * delta, centre + (1 - part) * delta], 0, 1)
    tilts = np.exp(
        np.array(
            [
                [bet * part * m_0, -bet * part * (1 - m_0)],
                [-bet * (1 - part) * m_k, bet * (1 - part) * (1 - m_k)],
            ]
        )
    )
    lines = []
    for p_0 in (np.maximum(0, -delta), np.minimum(1, 1 - delta)):
        p_k = p_0 + delta
        won = part * p_k * tilts[1, 1] + (1 - part) * p_0 * tilts[0, 1]
        lost = part * (1 - p_k) * tilts[1, 0] + (1 - part) * (1 - p_0) * tilts[0, 0]
        lines.append([won, lost])
    matrices = np.moveaxis(np.array(lines), -1, 0)
    u = np.linalg.solve(matrices, np.ones((len(part), 2, 1)))[..., 0].T
    return tilts * u[::-1][np.newaxis], np.asarray(np.all(u > 0, axis=0))


def test_the_formula_is_exact_for_every_bet() -> None:
    """For 20,000 settings of share, centre, bet and difference the expectation is 1 on the line."""
    rng, n = np.random.default_rng(8), 20_000
    part, centre, delta = rng.uniform(0.001, 0.999, n), rng.uniform(0, 1, n), rng.uniform(-0.95, 0.95, n)
    bet = rng.choice(BETS, n) * rng.choice([-1, 1], n)
    factors, is_kept = naive_factors(part, centre, bet, delta)
    p_0 = np.maximum(0, -delta) + rng.uniform(0, 1, n) * (1 - np.abs(delta))

    def mean(p_k: FloatArray) -> FloatArray:
        chances = np.array([[1 - p_0, p_0], [1 - p_k, p_k]]) * np.array([[1 - part], [part]])
        return np.asarray((chances * factors).sum(axis=(0, 1)))

    assert np.abs(mean(p_0 + delta) - 1).max() <= 1e-12
    assert np.all(is_kept)
    rise = np.sign(bet) * (mean(np.minimum(p_0 + delta + 0.05, 1)) - mean(p_0 + delta))
    assert np.all(rise >= -1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_no_difference_and_a_ratio_of_1_are_one_hypothesis(seed: int) -> None:
    """E against a difference of 0 is E against a ratio of 1, and the last value of the process."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 500, (2, 9))
    pair = rows_of(rng.uniform(0.02, 0.98, 9), rng.uniform(0, 1, 9), n, rng.binomial(n, 0.3))
    odds = CentredOdds(pair)
    for sign in SIGNS:
        exact = pytest.approx(odds.process(sign).log_value, rel=1e-9, abs=1e-9)
        assert odds.log_e_value(0.0, sign) == exact
        assert odds.log_e_value_of_ratio(1.0, sign) == exact


@pytest.mark.parametrize("sign", SIGNS)
def test_a_centre_of_0_gives_conditional_odds(sign: Sign) -> None:
    """With c = 0 each bet is the conditional-odds process of the ratio e^lambda: failures say nothing."""
    rng = np.random.default_rng(5)
    parts, n = rng.uniform(0.05, 0.95, 8), rng.integers(5, 400, (2, 8))
    wins = rng.binomial(n, 0.1)
    process = CentredOdds(rows_of(parts, np.zeros(8), n, wins)).process(sign)
    events = Events(
        odds=parts / (1 - parts), challenger=wins[1].astype(float), champion=wins[0].astype(float)
    )
    each = [ratio_process(events, [float(np.exp(sign * bet))]).log_values() for bet in BETS]
    by_odds = np.log(np.exp(np.array(each)).T @ WEIGHTS)
    assert process.log_values == pytest.approx(by_odds.tolist(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("part", [1e-9, 0.3, 1 - 1e-9])
@pytest.mark.parametrize("centre", [0.0, 0.4, 1.0])
def test_no_bet_is_ever_lost(part: float, centre: float) -> None:
    """Normalisers are positive up to differences next to 1; at 1 itself, a line of one point, E is the limit.

    With a solver that takes differences of nearly equal numbers it would not be.
    """
    deltas = np.array([0.0, 0.5, 0.99, 1 - 1e-6])
    for bet in (*BETS, *-BETS):
        settings = (np.full(4, part), np.full(4, centre), np.full(4, bet), deltas)
        assert np.all(naive_factors(*settings)[1])
    odds = CentredOdds(one_row(part, centre, [10, 10], [9, 9]))
    for sign in SIGNS:
        for end in (-1.0, 1.0):
            limit = odds.log_e_value(end * (1 - 1e-12), sign)
            assert odds.log_e_value(end, sign) == pytest.approx(limit, abs=1e-8)


@pytest.mark.parametrize("delta", [0.9, 1 - 1e-9, 1e-9 - 1])
def test_differences_next_to_1_are_exact(delta: float) -> None:
    """Ln E next to the ends of the range equals that of arithmetic with 60 digits, over 1e6 decisions."""
    n, wins, part, centre = [400_000, 600_000], [10, 599_000], 0.2, 0.7
    with mpmath.workdps(60):
        total = sum(
            weight * mpmath.exp(exact_log_e_value(part, centre, delta, bet, n, wins))
            for weight, bet in zip(WEIGHTS, BETS, strict=True)
        )
        exact = float(mpmath.log(total))
    found = CentredOdds(one_row(part, centre, n, wins)).log_e_value(delta, 1)
    assert found == pytest.approx(exact, rel=1e-9)


def exact_log_e_value(
    part: float, centre: float, delta: float, bet: float, n: Sequence[int], wins: Sequence[int]
) -> mpmath.mpf:
    """Return ln E of one row for one bet, by Cramer's rule."""
    pi, c, d, rate = (mpmath.mpf(value) for value in (part, centre, delta, bet))
    m_0, m_k = (min(max(m, mpmath.mpf(0)), mpmath.mpf(1)) for m in (c - pi * d, c + (1 - pi) * d))
    logs = [[rate * pi * m_0, -rate * pi * (1 - m_0)], [-rate * (1 - pi) * m_k, rate * (1 - pi) * (1 - m_k)]]
    (t_00, t_01), (t_k0, t_k1) = ([mpmath.exp(log_t) for log_t in arm] for arm in logs)
    (a, b), (e, f) = (
        (pi * p_k * t_k1 + (1 - pi) * p_0 * t_01, pi * (1 - p_k) * t_k0 + (1 - pi) * (1 - p_0) * t_00)
        for p_0, p_k in ((max(0, -d), max(0, d)), (min(1, 1 - d), min(1, 1 + d)))
    )
    u_1, u_0 = (f - b) / (a * f - b * e), (a - e) / (a * f - b * e)
    return sum(
        wins[arm] * (mpmath.log(u_1) + logs[arm][1]) + (n[arm] - wins[arm]) * (mpmath.log(u_0) + logs[arm][0])
        for arm in (0, 1)
    )


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_intervals_hold_what_is_not_refuted_and_nothing_else(seed: int) -> None:
    """Between the ends of both intervals no scanned value is refuted, and outside every one is."""
    table = draw_table(seed)
    if not table.scale.is_binary or np.any(table.n[:, :2].sum(axis=0) == 0):
        table = make_table([[0.3, 0.7]] * 3, [[30, 90]] * 3, [[3, 9 + seed]] * 3)
    pair = pair_in(table)
    odds, (champion, challenger) = CentredOdds(pair.tested()), pair.means
    spread = max(pair.standard_error, 1 / pair.n_decisions)
    found = difference_interval(odds, challenger - champion, spread, LEVEL)
    for delta in np.linspace(-0.99, 0.99, 34):
        if min(abs(delta - found.lower), abs(delta - found.upper)) > 0.002 * spread:
            is_inside = found.lower <= delta <= found.upper
            assert is_inside == all(odds.log_e_value(delta, sign) < LEVEL for sign in SIGNS)
    if champion > 0:
        ratios = ratio_interval(odds, pair.means, spread / champion, LEVEL)
        for log_ratio in np.linspace(-6, 6, 24):
            ratio = float(np.exp(log_ratio))
            if min(abs(ratio / (1 + end) - 1) for end in (ratios.lower + 1e-12, ratios.upper)) > 1e-2:
                is_inside = ratios.lower <= ratio - 1 <= ratios.upper
                assert is_inside == all(odds.log_e_value_of_ratio(ratio, sign) < LEVEL for sign in SIGNS)


def test_without_rows_nothing_is_refuted() -> None:
    """A pair whose rows only serve as centre has E = 1 and the widest intervals."""
    pair = pair_in(make_table([[0.5, 0.5]], [[5, 5]], [[1, 4]])).tested()
    odds = CentredOdds(pair)
    assert (odds.process(1).log_values, odds.process(1).log_value) == (odds.process(-1).log_values, 0.0)
    assert (odds.log_e_value(0.3, 1), odds.log_e_value_of_ratio(2.0, -1)) == pytest.approx((0.0, 0.0))
    assert difference_interval(odds, 0.6, 0.1, LEVEL) == Interval(-1, 1)
    assert ratio_interval(odds, (0.2, 0.8), 0.1, LEVEL) == Interval(-1, inf)


def test_the_weights_of_the_bets_sum_to_1() -> None:
    """E begins at 1, so the weights sum to 1, and there is one of each bet."""
    assert WEIGHTS.sum() == pytest.approx(1.0, abs=1e-15)
    assert len(set(BETS.tolist())) == len(WEIGHTS)
