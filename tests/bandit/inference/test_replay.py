"""Estimates from sums equal a replay of the stream, decision by decision, by definition."""

from collections.abc import Callable, Sequence
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.data.pairs import CHALLENGER, CHAMPION
from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import BETS, WEIGHTS, CentredOdds
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import MeanEstimate, estimate_mean
from bandit.inference.sequential.odds import GUARDRAIL_GRID, harm_process
from bandit.inference.sequential.off_policy import Gain, SplitValue, value_of_split
from bandit.inference.sequential.scores import Scores, score
from bandit.metric import Direction
from tests.bandit.inference.tables import AMOUNT, Event, Stream, draw_stream, make_table, pair_in, split_rows

FLOORS = {0: 0.1, 1: 0.1, 2: 0.1}
DESIGN = Design(floors=FLOORS, planned_decisions=300.0, planned_variance=0.2)
SEEDS = st.integers(0, 10_000)
EXACTLY = 1e-9


def compared(table: EvidenceTable, arm: int = 1) -> Comparison:
    """Return the comparison, which must not be missing."""
    found = compare(table, arm, 0, DESIGN)
    assert isinstance(found, Comparison)
    return found


def pooled_centre(stream: Stream, epoch: int) -> float:
    """Return the mean of all decisions of earlier epochs, which must be at least 32."""
    outcomes = [event.outcome for event in stream.before(epoch)]
    assert len(outcomes) >= 32
    return sum(outcomes) / len(outcomes)


def own_centre(stream: Stream, epoch: int, arm: int) -> float:
    """Return an arm's mean in earlier epochs, with fifty decisions at the pooled mean."""
    outcomes = [event.outcome for event in stream.before(epoch) if event.arm == arm]
    return (sum(outcomes) + 50 * pooled_centre(stream, epoch)) / (len(outcomes) + 50)


def judged(stream: Stream, arms: Sequence[int]) -> list[Event]:
    """Return the decisions of these arms in epochs with at least 32 decisions before."""
    return [event for event in stream.events if event.arm in arms and len(stream.before(event.epoch)) >= 32]


@settings(max_examples=8)
@given(SEEDS, st.booleans(), st.sampled_from([1, 2]))
def test_means_by_overlap_weights_are_a_replay(seed: int, is_binary: bool, arm: int) -> None:  # noqa: FBT001 - drawn
    """Each decision weighs by the other arm's part of both shares; the spread follows the squares."""
    stream, scale = draw_stream(seed, is_binary=is_binary), ValueScale(is_binary=is_binary)
    found, means, variance = compared(stream.table(scale), arm), [], 0.0
    for each in (0, arm):
        own = [event for event in stream.events if event.arm == each]
        parts = [stream.part(event.epoch, arm) for event in own]
        weights = [part if each == 0 else 1 - part for part in parts]
        weighed = list(zip(weights, own, strict=True))
        means.append(sum(weight * event.outcome for weight, event in weighed) / sum(weights))
        squares = sum((weight * (event.outcome - means[-1])) ** 2 for weight, event in weighed)
        variance += squares / sum(weights) ** 2
    assert (found.champion_mean, found.mean) == pytest.approx(tuple(means), rel=EXACTLY)
    assert found.difference == pytest.approx(means[1] - means[0], rel=EXACTLY, abs=1e-12)
    assert found.standard_error == pytest.approx(sqrt(variance), rel=1e-7)


def naive_log_factor(event: Event, part: float, predictions: tuple[float, float], bet: float) -> float:
    """Return ln of a decision's factor against "the difference is m_k - m_0 at most", for one bet.

    Both normalisers solve the two equations at the ends of the hypothesis' line of rates.
    """
    m_0, m_k = predictions
    tilts = {
        (1, 1): exp(bet * (1 - part) * (1 - m_k)),
        (1, 0): exp(-bet * (1 - part) * m_k),
        (0, 1): exp(-bet * part * (1 - m_0)),
        (0, 0): exp(bet * part * m_0),
    }
    delta = m_k - m_0
    ends = [(p_0, p_0 + delta) for p_0 in (max(0, -delta), min(1, 1 - delta))]
    equations = [
        [
            part * p_k * tilts[1, 1] + (1 - part) * p_0 * tilts[0, 1],
            part * (1 - p_k) * tilts[1, 0] + (1 - part) * (1 - p_0) * tilts[0, 0],
        ]
        for p_0, p_k in ends
    ]
    u_1, u_0 = np.linalg.solve(equations, [1, 1])
    return log((u_1 if event.outcome else u_0) * tilts[int(event.arm != 0), int(event.outcome)])


def replay_centred_odds(stream: Stream, delta: float, sign: int, n_epochs: int) -> float:
    """Return ln E of arm 1 over the first epochs: the mean over bets of products over decisions.

    The difference is small enough for predictions within [0, 1].
    """
    logs = np.zeros(len(BETS))
    for event in judged(stream, (0, 1)):
        if event.epoch < n_epochs:
            part, centre = stream.part(event.epoch, 1), pooled_centre(stream, event.epoch)
            predictions = centre - part * delta, centre + (1 - part) * delta
            logs += [naive_log_factor(event, part, predictions, sign * bet) for bet in BETS]
    return float(np.log(np.exp(logs) @ WEIGHTS))


@settings(max_examples=4)
@given(SEEDS, st.sampled_from(list(Direction)))
def test_centred_odds_are_a_replay(seed: int, direction: Direction) -> None:
    """Each value of the process is the product over decisions up to the row's end, one factor each."""
    stream = draw_stream(seed)
    found = compared(stream.table(ValueScale(direction=direction)))
    more, less = found.better, found.worse
    if direction is Direction.MINIMIZE:
        more, less = less, more
    for process, sign in ((more, 1), (less, -1)):
        replayed = [replay_centred_odds(stream, 0.0, sign, row + 1) for row in found.rows]
        assert process.log_values == pytest.approx(replayed, rel=EXACTLY, abs=EXACTLY)
    assert set(found.rows).isdisjoint({0})
    assert found.n_tested == len(judged(stream, (0, 1)))
    assert found.n_decisions == sum(event.arm in (0, 1) for event in stream.events)


@settings(max_examples=4)
@given(SEEDS, st.floats(-0.08, 0.08), st.sampled_from([1, -1]))
def test_centred_odds_against_a_difference_are_a_replay(seed: int, delta: float, sign: int) -> None:
    """Against any difference, predictions are the centre, moved by each arm's overlap weight."""
    rng = np.random.default_rng(seed)
    stream = draw_stream(seed)
    events = tuple(Event(e.epoch, e.arm, float(rng.uniform() < 0.4)) for e in stream.events)
    stream = Stream(shares=stream.shares, events=events)
    odds = CentredOdds(pair_in(stream.table()).tested())
    replayed = replay_centred_odds(stream, delta, sign, len(stream.shares))
    assert odds.log_e_value(delta, 1 if sign > 0 else -1) == pytest.approx(replayed, rel=1e-8, abs=1e-8)


@settings(max_examples=8)
@given(SEEDS, st.sampled_from([1, 2]))
def test_bounded_scores_are_a_replay(seed: int, arm: int) -> None:
    """S and V of both arms, and W, are sums over single decisions, after every row."""
    stream = draw_stream(seed, is_binary=False)
    pair = pair_in(stream.table(AMOUNT), arm).tested()
    scores = BoundedScores(pair, 1.0, BoundedTest(1.0, 0.025))
    weight, sums, variances = 0.0, np.zeros(2), np.zeros(2)
    for column, row in enumerate(pair.rows):
        part, centres = stream.part(row, arm), [own_centre(stream, row, each) for each in (0, arm)]
        for event in stream.events:
            if event.epoch == row and event.arm in (0, arm):
                side = CHALLENGER if event.arm == arm else CHAMPION
                distance = (part, 1 - part)[side] * (event.outcome - centres[side])
                weight += part * (1 - part)
                sums += part * (1 - part) * np.array(centres)
                sums[side] += distance
                variances[side] += distance**2
        assert scores.weight[column] == pytest.approx(weight, rel=EXACTLY)
        assert scores.sums[:, column] == pytest.approx(sums, rel=EXACTLY, abs=1e-9)
        assert scores.variances[:, column] == pytest.approx(variances, rel=1e-7, abs=1e-9)


def arm_score(stream: Stream, event: Event, arm: int) -> tuple[float, float]:
    """Return the AIPW score of an arm at one decision, and its distance from the arm's centre."""
    centre = own_centre(stream, event.epoch, arm)
    weight = 1 / float(stream.shares[event.epoch, arm]) if event.arm == arm else 0.0
    distance = weight * (event.outcome - centre)
    return centre + distance, distance


@settings(max_examples=8)
@given(SEEDS, st.booleans())
def test_scores_are_a_replay(seed: int, is_binary: bool) -> None:  # noqa: FBT001 - drawn
    """S, V and n of every arm are sums over single decisions."""
    stream = draw_stream(seed, is_binary=is_binary)
    scores = score(stream.table(), [0, 2], DESIGN)
    assert isinstance(scores, Scores)
    counted = judged(stream, (0, 1, 2))
    for column, arm in enumerate((0, 2)):
        replayed = np.array([arm_score(stream, event, arm) for event in counted])
        assert scores.sums[-1, column] == pytest.approx(replayed[:, 0].sum(), rel=EXACTLY)
        assert scores.variances[-1, column] == pytest.approx(
            (replayed[:, 1] ** 2).sum(), rel=EXACTLY, abs=1e-7
        )
    assert scores.n[-1] == len(counted)
    assert scores.n_centre == len(stream.events) - len(counted)


@settings(max_examples=8)
@given(SEEDS, st.sampled_from(list(Direction)))
def test_odds_of_harm_are_a_replay(seed: int, direction: Direction) -> None:
    """E is the mixture of products over events, with one factor per event, from the first one on."""
    stream = draw_stream(seed)
    process = harm_process(stream.table(ValueScale(direction=direction)), 2, 0)
    assert not isinstance(process, CannotSay)
    is_fewer = direction is Direction.MAXIMIZE
    grid = tuple(1 / ratio if is_fewer else ratio for ratio in GUARDRAIL_GRID)
    assert process.log_value == pytest.approx(replay_odds(stream, 2, grid), rel=EXACTLY, abs=EXACTLY)


def replay_odds(stream: Stream, arm: int, grid: tuple[float, ...]) -> float:
    """Return ln of the mean over r of the product over events of P(event's arm | r) / P(event's arm | 1)."""
    products = [1.0] * len(grid)
    for event in stream.events:
        if event.outcome == 1 and event.arm in (arm, 0):
            part = stream.part(event.epoch, arm)
            for j, ratio in enumerate(grid):
                tilted = part * ratio / (1 - part + part * ratio)
                products[j] *= tilted / part if event.arm == arm else (1 - tilted) / (1 - part)
    return log(sum(products) / len(grid))


@settings(max_examples=8)
@given(SEEDS)
def test_split_values_are_a_replay(seed: int) -> None:
    """Doubly robust and IPS values, gain, standard errors and effective sample size equal a replay."""
    stream, split = draw_stream(seed, is_binary=False), {0: 0.5, 1: 0.3, 2: 0.2}
    result = value_of_split(stream.table(AMOUNT), split, DESIGN)
    assert isinstance(result, SplitValue)
    counted, values, value_squares, gain_squares = judged(stream, (0, 1, 2)), [], 0.0, 0.0
    n, ips, weights = len(counted), [], []
    for event in counted:
        scores = {arm: arm_score(stream, event, arm) for arm in split}
        values.append(sum(split[arm] * scores[arm][0] for arm in split))
        value_squares += sum(split[arm] ** 2 * scores[arm][1] ** 2 for arm in split)
        shares = stream.shares[event.epoch]
        centres = [own_centre(stream, event.epoch, arm) for arm in split]
        foreseen = sum((shares[arm] - split[arm]) * centres[arm] for arm in split)
        gain_squares += (event.outcome - values[-1] - foreseen) ** 2
        weights.append(split[event.arm] / float(shares[event.arm]))
        ips.append(weights[-1] * event.outcome)
    earned = sum(event.outcome for event in counted) / n
    assert (result.n_decisions, result.n_omitted) == (n, len(stream.events) - n)
    assert result.value == pytest.approx(min(max(sum(values) / n, 0.0), 1.0), rel=EXACTLY)
    assert result.standard_error == pytest.approx(sqrt(value_squares) / n, rel=1e-7)
    assert result.earned == pytest.approx(earned, rel=EXACTLY)
    assert isinstance(result.gain, Gain)
    assert result.gain.value == pytest.approx(earned - sum(values) / n, rel=EXACTLY, abs=1e-12)
    assert result.gain.standard_error == pytest.approx(sqrt(gain_squares) / n, rel=1e-7)
    assert result.ips_value == pytest.approx(sum(ips) / n, rel=EXACTLY)
    assert result.ips_standard_error == pytest.approx(float(np.std(ips)) / sqrt(n), rel=1e-7)
    assert result.effective_sample_size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))


@settings(max_examples=4)
@given(SEEDS, st.integers(1, 5), st.floats(0.1, 0.9))
def test_a_row_is_only_judged_by_those_before(seed: int, row: int, part: float) -> None:
    """Outcomes of a row, or later ones, change no earlier value of a process, whenever they came in."""
    table = draw_stream(seed).table()
    later = table.sums.copy()
    later[row:] *= part
    changed = make_table(table.shares, table.n, later)
    before, after = compared(table), compared(changed)
    n_same = sum(each < row for each in before.rows)
    assert before.rows == after.rows
    assert list(after.better.log_values)[:n_same] == list(before.better.log_values)[:n_same]


@settings(max_examples=6)
@given(SEEDS, st.floats(0.1, 0.9))
def test_splitting_an_epoch_moves_no_estimate(seed: int, part: float) -> None:
    """Cut in two with the same shares, epochs have the same means, and odds of harm.

    Tests may change: the second half has the first in its centre.
    """
    table = draw_stream(seed).table()
    n, sums, squares = (split_rows(values, part) for values in (table.n, table.sums, table.squares))
    cut = make_table(np.repeat(table.shares, 2, axis=0), n, sums, squares=squares)
    for summary in (summarise_estimates, summarise_odds):
        assert summary(cut) == pytest.approx(summary(table), rel=EXACTLY, abs=1e-9)


@settings(max_examples=3)
@given(SEEDS, st.permutations([0, 1, 2]))
def test_permuting_arms_permutes_results(seed: int, order: list[int]) -> None:
    """The order of the table's columns does not matter."""
    table = draw_stream(seed).table()
    permuted = EvidenceTable(
        arms=tuple(order),
        shares=table.shares[:, order],
        n=table.n[:, order],
        sums=table.sums[:, order],
        squares=table.squares[:, order],
        scale=table.scale,
    )
    for summary in SUMMARIES:
        assert summary(permuted) == pytest.approx(summary(table), rel=1e-7, abs=1e-9)


def summarise_estimates(table: EvidenceTable) -> list[float]:
    """Return the means of arms and of comparisons."""
    means = [estimate_mean(table, arm, 0, DESIGN) for arm in (0, 1, 2)]
    numbers = [mean.mean for mean in means if isinstance(mean, MeanEstimate)]
    for arm in (1, 2):
        found = compared(table, arm)
        numbers += [found.mean, found.champion_mean, found.standard_error]
    return numbers


def summarise_tests(table: EvidenceTable) -> list[float]:
    """Return both ends of every interval, and e-values."""
    numbers: list[float] = []
    for arm in (0, 1, 2):
        mean = estimate_mean(table, arm, 0, DESIGN)
        assert isinstance(mean, MeanEstimate)
        numbers += [mean.interval.lower, mean.interval.upper]
    for arm in (1, 2):
        found = compared(table, arm)
        numbers += [found.interval.lower, found.interval.upper, found.better.log_value]
    return numbers


def summarise_odds(table: EvidenceTable) -> list[float]:
    """Return the current e-value of harm."""
    process = harm_process(table, 1, 0)
    return [] if isinstance(process, CannotSay) else [process.log_value]


def summarise_split(table: EvidenceTable) -> list[float]:
    """Return the numbers of a static split."""
    result = value_of_split(table, {0: 1.0, 1: 1.0, 2: 1.0}, DESIGN)
    assert isinstance(result, SplitValue)
    assert isinstance(result.gain, Gain)
    return [
        result.value,
        result.gain.value,
        result.ips_value,
        result.effective_sample_size,
        result.interval.upper,
    ]


SUMMARIES: tuple[Callable[[EvidenceTable], list[float]], ...] = (
    summarise_estimates,
    summarise_tests,
    summarise_odds,
    summarise_split,
)


def test_rows_before_which_there_were_fewer_than_32_decisions_are_only_centre() -> None:
    """The rule counts decisions of all arms, at exactly 32."""
    shares, sums = [[0.4, 0.4, 0.2]] * 3, [[1, 2, 0], [1, 2, 0], [1, 2, 0]]
    for last, rows in ((0, (2,)), (1, (1, 2))):
        n: FloatArray = np.array([[14, 14, 3 + last], [5, 5, 2], [5, 5, 2]], dtype=float)
        assert compared(make_table(shares, n, sums)).rows == rows
