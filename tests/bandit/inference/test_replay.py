"""Estimates from sums equal a replay of the stream, decision by decision, by definition."""

from collections.abc import Callable
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import compare_means, estimate_mean
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.multiplicity import mean_process
from bandit.inference.sequential.odds import GUARDRAIL_GRID, PROMOTION_GRID, compare_odds
from bandit.inference.sequential.off_policy import value_of_split
from bandit.inference.sequential.scores import Scores, score
from bandit.metric import Direction
from tests.bandit.inference.tables import Event, Stream, draw_stream, make_table

FLOORS = {0: 0.1, 1: 0.1, 2: 0.1}
DESIGN = Design(floors=FLOORS, planned_decisions=300.0, planned_variance=0.2)
SEEDS = st.integers(0, 10_000)
EXACTLY = 1e-9


def require_result(result: object) -> None:
    """Fail if the result is missing."""
    assert not isinstance(result, CannotSay), result


def arm_score(stream: Stream, event: Event, arm: int, cap: float) -> tuple[float, float]:
    """Return the AIPW score of an arm at one decision, and its distance from the prediction."""
    predicted = min(float(stream.predictions[event.epoch, arm]), cap)
    weight = 1 / float(stream.shares[event.epoch, arm]) if event.arm == arm else 0.0
    distance = weight * (event.outcome - predicted)
    return predicted + distance, distance


@settings(max_examples=8)
@given(SEEDS, st.booleans(), st.sampled_from([0.3, 1.0]))
def test_scores_are_a_replay(seed: int, is_binary: bool, cap: float) -> None:  # noqa: FBT001 - drawn
    """S, V and n of every arm are sums over single decisions."""
    stream = draw_stream(seed, is_binary=is_binary)
    scores = score(stream.table(), [0, 2], DESIGN, cap)
    assert isinstance(scores, Scores)
    for column, arm in enumerate((0, 2)):
        replayed = np.array([arm_score(stream, event, arm, cap) for event in stream.events])
        assert scores.sums[-1, column] == pytest.approx(replayed[:, 0].sum(), rel=EXACTLY)
        assert scores.variances[-1, column] == pytest.approx(
            (replayed[:, 1] ** 2).sum(), rel=EXACTLY, abs=1e-7
        )
    assert scores.n[-1] == len(stream.events)


@settings(max_examples=8)
@given(SEEDS)
def test_the_path_is_evaluated_at_the_ends_of_epochs(seed: int) -> None:
    """Each value of the e-process is that of the stream up to the epoch's end; its maximum gives p."""
    stream = draw_stream(seed)
    result = compare_means(stream.table(), 1, 0, DESIGN)
    require_result(result)
    mixture, cap = DESIGN.contrast_mixture(1, 0, DESIGN.alpha), DESIGN.cap(1, 0)
    logs = []
    for last in range(len(stream.shares)):
        total = variance = 0.0
        for event in stream.events:
            if event.epoch <= last:
                challenger, champion = (arm_score(stream, event, arm, cap) for arm in (1, 0))
                total += challenger[0] - champion[0]
                variance += (challenger[1] - champion[1]) ** 2
        logs.append(float(mixture.log_e_value(total, variance)))
    assert not isinstance(result, CannotSay)
    assert result.better.log_values == pytest.approx(logs, rel=1e-7, abs=1e-9)
    assert result.better.p_value == pytest.approx(min(1.0, exp(-max(logs))), rel=1e-7)


@settings(max_examples=8)
@given(SEEDS, st.sampled_from([Direction.MAXIMIZE, Direction.MINIMIZE]))
def test_odds_are_a_replay(seed: int, direction: Direction) -> None:
    """E is the mixture of products over events, with one factor per event."""
    stream = draw_stream(seed)
    result = compare_odds(stream.table(ValueScale(direction=direction)), 2, 0)
    assert not isinstance(result, CannotSay)
    grids = (PROMOTION_GRID, tuple(1 / r for r in GUARDRAIL_GRID))
    if direction is Direction.MINIMIZE:
        grids = (tuple(1 / r for r in PROMOTION_GRID), GUARDRAIL_GRID)
    for process, grid in zip((result.better, result.worse), grids, strict=True):
        assert process.log_value == pytest.approx(replay_odds(stream, 2, 0, grid), rel=EXACTLY, abs=EXACTLY)


def replay_odds(stream: Stream, arm: int, champion: int, grid: tuple[float, ...]) -> float:
    """Return ln of the mean over r of the product over events of P(event's arm | r) / P(event's arm | 1)."""
    products = [1.0] * len(grid)
    for event in stream.events:
        if event.outcome == 1 and event.arm in (arm, champion):
            own, other = stream.shares[event.epoch, arm], stream.shares[event.epoch, champion]
            part = own / (own + other)
            for j, ratio in enumerate(grid):
                tilted = part * ratio / (1 - part + part * ratio)
                products[j] *= tilted / part if event.arm == arm else (1 - tilted) / (1 - part)
    return log(sum(products) / len(grid))


@settings(max_examples=8)
@given(SEEDS)
def test_split_values_are_a_replay(seed: int) -> None:
    """Doubly robust and IPS values, gain, standard errors and effective sample size equal a replay."""
    stream, split, cap = draw_stream(seed, is_binary=False), {0: 0.5, 1: 0.3, 2: 0.2}, 1.0
    result = value_of_split(stream.table(ValueScale(is_binary=False)), split, DESIGN)
    assert not isinstance(result, CannotSay)
    n, values, value_squares, gain_squares, ips, weights = len(stream.events), [], 0.0, 0.0, [], []
    for event in stream.events:
        scores = {arm: arm_score(stream, event, arm, cap) for arm in split}
        values.append(sum(split[arm] * scores[arm][0] for arm in split))
        value_squares += sum(split[arm] ** 2 * scores[arm][1] ** 2 for arm in split)
        shares, predicted = stream.shares[event.epoch], np.minimum(stream.predictions[event.epoch], cap)
        foreseen = float(shares @ predicted) - sum(split[arm] * float(predicted[arm]) for arm in split)
        gain_squares += (event.outcome - values[-1] - foreseen) ** 2
        weights.append(split[event.arm] / float(shares[event.arm]))
        ips.append(weights[-1] * event.outcome)
    earned = sum(event.outcome for event in stream.events) / n
    assert result.value == pytest.approx(min(max(sum(values) / n, 0.0), 1.0), rel=EXACTLY)
    assert result.standard_error == pytest.approx(sqrt(value_squares) / n, rel=1e-7)
    assert result.earned == pytest.approx(earned, rel=EXACTLY)
    assert result.gain == pytest.approx(earned - sum(values) / n, rel=EXACTLY, abs=1e-12)
    assert result.gain_standard_error == pytest.approx(sqrt(gain_squares) / n, rel=1e-7)
    assert result.ips_value == pytest.approx(sum(ips) / n, rel=EXACTLY)
    assert result.ips_standard_error == pytest.approx(float(np.std(ips)) / sqrt(n), rel=1e-7)
    assert result.effective_sample_size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))


@settings(max_examples=8)
@given(SEEDS, st.floats(0.1, 0.9))
def test_splitting_an_epoch_changes_nothing(seed: int, part: float) -> None:
    """Splitting an epoch in two with the same shares and predictions does not change any result."""
    table = draw_stream(seed).table()
    halves = [split_rows(values, part) for values in (table.n, table.sums, table.squares)]
    cut = make_table(
        np.repeat(table.shares, 2, axis=0),
        halves[0],
        halves[1],
        squares=halves[2],
        predictions=np.repeat(table.predictions, 2, axis=0),
    )
    for summary in SUMMARIES:
        assert summary(cut) == pytest.approx(summary(table), rel=EXACTLY, abs=1e-9)


def split_rows(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], part: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return each row as two rows that sum to it."""
    return np.stack([values * part, values * (1 - part)], axis=1).reshape(-1, values.shape[1])


@settings(max_examples=8)
@given(SEEDS, st.permutations([0, 1, 2]))
def test_permuting_arms_permutes_results(seed: int, order: list[int]) -> None:
    """The order of the table's columns does not matter."""
    table = draw_stream(seed).table()
    permuted = EvidenceTable(
        arms=tuple(order),
        shares=table.shares[:, order],
        predictions=table.predictions[:, order],
        n=table.n[:, order],
        sums=table.sums[:, order],
        squares=table.squares[:, order],
        scale=table.scale,
    )
    for summary in SUMMARIES:
        assert summary(permuted) == pytest.approx(summary(table), rel=EXACTLY, abs=1e-9)


def summarise_means(table: EvidenceTable) -> list[float]:
    """Return both ends of every AIPW interval."""
    means = [estimate_mean(table, arm, DESIGN) for arm in (0, 1, 2)]
    contrasts = [compare_means(table, arm, 0, DESIGN) for arm in (1, 2)]
    numbers: list[float] = []
    for mean in means:
        assert not isinstance(mean, CannotSay)
        numbers += [mean.mean, mean.interval.lower, mean.interval.upper]
    for contrast in contrasts:
        assert not isinstance(contrast, CannotSay)
        numbers += [contrast.difference, contrast.interval.lower, contrast.better.log_value]
    return numbers


def summarise_odds(table: EvidenceTable) -> list[float]:
    """Return the current e-value and the lower bound of odds."""
    result = compare_odds(table, 1, 0)
    return [] if isinstance(result, CannotSay) else [result.better.log_value, result.lift.lower]


def summarise_split(table: EvidenceTable) -> list[float]:
    """Return the numbers of a static split."""
    result = value_of_split(table, {0: 1.0, 1: 1.0, 2: 1.0}, DESIGN)
    assert not isinstance(result, CannotSay)
    return [result.value, result.gain, result.ips_value, result.effective_sample_size, result.interval.upper]


SUMMARIES: tuple[Callable[[EvidenceTable], list[float]], ...] = (
    summarise_means,
    summarise_odds,
    summarise_split,
)


def test_mean_of_e_processes_is_their_mean() -> None:
    """The mean of the AIPW and the odds process is the mean of their values in every epoch."""
    table = draw_stream(3).table()
    means, odds = compare_means(table, 1, 0, DESIGN), compare_odds(table, 1, 0)
    assert not isinstance(means, CannotSay)
    assert not isinstance(odds, CannotSay)
    both = mean_process([means.better, odds.better])
    expected = (np.exp(means.better.log_values) + np.exp(odds.better.log_values)) / 2
    assert np.exp(both.log_values) == pytest.approx(expected)
