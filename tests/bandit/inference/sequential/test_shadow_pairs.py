"""Pairs of a shadow and the champion: evidence that holds at any look, and that uses what they share."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import bdtrc

from bandit.facts.shadow_pairs import PairSums
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.shadow_pairs import LOG_QUANTA, pair_process, paired_means
from bandit.launch.claims import ShadowPairs
from bandit.metric import Direction, Metric, MetricKind

ERROR = Metric(name="error", direction=Direction.MINIMIZE, is_shadow=True)
ANSWERED = Metric(name="answered", is_shadow=True)
LATENCY = Metric(
    name="latency_ms", kind=MetricKind.REAL, direction=Direction.MINIMIZE, minimum=0.0, maximum=2000.0
)
FALSE_ALARM = 1e-6
"""A test of an error rate fails by chance once in a million; the seeds are fixed."""

N_RUNS = 2_000
LEVEL = log(40)


def process(
    rows: Sequence[PairSums], metric: Metric, *, ratio: float = 1.0, difference: float = 0.0
) -> EProcess:
    """Return the evidence that the shadow is worse than the edge."""
    found = pair_process(rows, metric, ratio=ratio, difference=difference)
    assert isinstance(found, EProcess)
    return found


def is_above(n: int, runs: int, rate: float) -> bool:
    """Return whether as many runs or more would have a false finding once in a million at this rate."""
    return float(bdtrc(n - 1, runs, rate)) < FALSE_ALARM if n else False


def joint(p_shadow: float, p_champion: float, correlation: float) -> NDArray[np.float64]:
    """Return the probabilities of no event, one of the champion, one of the shadow, and both."""
    spread = sqrt(p_shadow * (1 - p_shadow) * p_champion * (1 - p_champion))
    both = p_shadow * p_champion + correlation * spread
    return np.array([1 - p_shadow - p_champion + both, p_champion - both, p_shadow - both, both])


def counts_of(rows: NDArray[np.int64]) -> list[PairSums]:
    """Return sums of yes/no pairs by row of counts, in the order of `joint`."""
    return [
        PairSums(int(row.sum()), *(2 * (int(row[2] + row[3]),)), *(2 * (int(row[1] + row[3]),)), int(row[3]))
        for row in rows
    ]


def n_found(
    chances: NDArray[np.float64], looks: int, n: int, ratio: float = 1.0, level: float = LEVEL
) -> tuple[int, list[int]]:
    """Return in how many runs harm was found at any look, and the pairs that it took in each run."""
    generator = np.random.default_rng(20260301)
    pairs: list[int] = []
    for _ in range(N_RUNS):
        values = process(counts_of(generator.multinomial(n, chances, looks)), ERROR, ratio=ratio).log_values
        reached = np.flatnonzero(np.asarray(values) >= level)
        if len(reached):
            pairs.append(n * (int(reached[0]) + 1))
    return len(pairs), pairs


def test_pairs_add_up() -> None:
    """Rows are the pairs that came since, so a process ends where that of all pairs is."""
    rows = [PairSums.of(1, 0).plus(PairSums.of(1, 1)), PairSums(), PairSums.of(0, 1)]
    whole = rows[0].plus(rows[2])
    assert process(rows, ERROR).log_value == pytest.approx(process([whole], ERROR).log_value, abs=1e-12)
    assert len(process(rows, ERROR).log_values) == 3


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.1, 2.0])
def test_yes_no_evidence_is_the_mean_over_bets(ratio: float) -> None:
    """For any counts it is the closed formula, over twelve stakes from 0.02 to 0.9 / R."""
    n_10, n_01, n_11, n_00 = 40, 25, 30, 400
    sums = counts_of(np.array([[n_00, n_01, n_10, n_11]]))
    stakes = np.geomspace(0.02, 0.9 / ratio, 12)
    logs = n_10 * np.log1p(stakes) + n_11 * np.log1p(stakes * (1 - ratio)) + n_01 * np.log1p(-stakes * ratio)
    assert process(sums, ERROR, ratio=ratio).log_value == pytest.approx(log(np.exp(logs).mean()), abs=1e-9)


@pytest.mark.parametrize("metric", [ERROR, ANSWERED])
@pytest.mark.parametrize(("ratio", "difference"), [(1.0, 0.0), (1.2, 0.0), (0.8, 0.0), (1.0, 0.05)])
def test_a_pair_at_the_edge_is_a_fair_bet(metric: Metric, ratio: float, difference: float) -> None:
    """Whatever the rates and the dependence, E of one pair has the expectation 1; beyond the edge, more."""
    generator = np.random.default_rng(7)
    outcomes = [PairSums.of(0, 0), PairSums.of(0, 1), PairSums.of(1, 0), PairSums.of(1, 1)]
    values = [exp(process([each], metric, ratio=ratio, difference=difference).log_value) for each in outcomes]
    for p_champion in generator.uniform(0.06, 0.75, 50):
        p_shadow = ratio * p_champion + difference
        chances = joint(p_shadow, p_champion, generator.uniform(-0.05, 0.3))
        assert chances @ values == pytest.approx(1.0, abs=1e-12)
        worse = 0.03 if metric is ERROR else -0.03
        assert joint(p_shadow + worse, p_champion, 0.1) @ values > 1
        assert joint(p_shadow - worse, p_champion, 0.1) @ values < 1


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("ratio", [1.0, 1.2])
def test_harm_is_seldom_found_where_there_is_none(correlation: float, ratio: float) -> None:
    """At the edge, over 100 looks, in at most one run of 40."""
    n, _ = n_found(joint(0.05 * ratio, 0.05, correlation), looks=100, n=100, ratio=ratio)
    assert not is_above(n, N_RUNS, 0.025)


def test_the_test_of_error_rates_can_fail() -> None:
    """Against a smaller edge than the truth, the same test finds harm in most runs."""
    n, _ = n_found(joint(0.06, 0.05, 0.6), looks=100, n=100)
    assert is_above(n, N_RUNS, 0.025)


@pytest.mark.parametrize(("correlation", "most"), [(0.3, 5_500), (0.6, 3_400), (0.85, 1_000)])
def test_what_the_outcomes_share_cancels(correlation: float, most: int) -> None:
    """A quarter more errors shows in a median of this many pairs; unpaired, 6,800 at a correlation of .6."""
    n, pairs = n_found(joint(0.0625, 0.05, correlation), looks=200, n=100, level=log(20))
    assert n > 0.9 * N_RUNS
    assert np.median(pairs) <= most


def latencies(generator: np.random.Generator, n: int, factor: float) -> list[PairSums]:
    """Return pairs of latencies that depend on the request, the shadow's longer by a factor."""
    request = generator.normal(5.0, 0.5, n)
    own, other = (np.exp(request + generator.normal(0.0, 0.15, n)) for _ in range(2))
    quanta = [
        np.rint(np.minimum(ms, 2000.0) / 2000.0 * LOG_QUANTA).astype(np.int64) for ms in (own * factor, other)
    ]
    batches = zip(*(np.array_split(each, 50) for each in quanta), strict=True)
    return [
        PairSums(
            len(a), *(int(each) for each in (a.sum(), (a * a).sum(), b.sum(), (b * b).sum(), (a * b).sum()))
        )
        for a, b in batches
    ]


def test_amounts_are_seldom_found_worse_where_they_are_not() -> None:
    """At the edge of a ratio and of none, in at most one run of 40, over 50 looks."""
    for ratio in (1.0, 1.2):
        generator = np.random.default_rng(3)
        found = sum(
            process(latencies(generator, 2_000, ratio), LATENCY, ratio=ratio).log_maximum >= LEVEL
            for _ in range(400)
        )
        assert not is_above(found, 400, 0.025)


def test_longer_latencies_are_found() -> None:
    """Ten per cent, within 2,000 pairs of latencies that spread over a factor of seven."""
    generator = np.random.default_rng(3)
    found = [process(latencies(generator, 2_000, 1.1), LATENCY) for _ in range(20)]
    assert all(each.log_value >= LEVEL for each in found)
    shorter = pair_process(latencies(generator, 2_000, 1.1), LATENCY, is_worse=False)
    assert isinstance(shorter, EProcess)
    assert shorter.log_value < 0, "the other direction has none"


def test_a_difference_and_a_shifted_range_are_one_hypothesis() -> None:
    """Values that may be negative give the same evidence as the same values from 0 on."""
    generator = np.random.default_rng(5)
    rows = latencies(generator, 2_000, 1.1)
    moved = Metric(
        name="moved", kind=MetricKind.REAL, direction=Direction.MINIMIZE, minimum=-500.0, maximum=1500.0
    )
    for difference in (0.0, 5.0):
        own = process(rows, moved, difference=difference).log_value
        assert own == pytest.approx(process(rows, LATENCY, difference=difference).log_value)


def test_without_what_is_needed_there_is_a_reason() -> None:
    """No pair, no ratio scale, and no room beyond the edge."""
    negative = Metric(name="gain", kind=MetricKind.REAL, minimum=-1.0, maximum=1.0)
    rows = [PairSums.of(1, 0)]
    assert pair_process([PairSums()], ERROR) == CannotSay(Reason.NO_PAIRS)
    assert pair_process(rows, negative, ratio=1.1) == CannotSay(Reason.NO_RATIO_SCALE)
    assert pair_process(rows, ERROR, difference=1.0) == CannotSay(Reason.EDGE_OUT_OF_RANGE)


def bounds(rows: Sequence[PairSums], metric: Metric) -> ShadowPairs:
    """Return the bounds of the difference."""
    means = paired_means(rows, metric)
    assert isinstance(means, ShadowPairs)
    return means


def test_the_bounds_of_the_difference_hold_at_every_look() -> None:
    """Of shadows that are worse by .02, few runs have bounds that ever leave that out."""
    generator = np.random.default_rng(20260302)
    chances, n_runs, n_left_out = joint(0.06, 0.04, 0.5), 400, 0
    for _ in range(n_runs):
        rows = counts_of(generator.multinomial(400, chances, 5))
        found = [bounds(rows[: n + 1], ERROR) for n in range(len(rows))]
        n_left_out += any(not each.lower <= 0.02 <= each.upper for each in found)
    assert not is_above(n_left_out, n_runs, 0.05)


def test_the_bounds_are_the_edges_that_are_not_rejected() -> None:
    """An edge inside is not rejected in either direction, and one outside is, in its own."""
    rows = [PairSums(5000, 150, 150, 100, 100, 60)]
    found = bounds(rows, ERROR)
    assert found.lower < 0.01 < found.upper
    for edge, is_worse, is_rejected in (
        (found.lower - 1e-3, True, True),
        (found.lower + 1e-3, True, False),
        (found.upper + 1e-3, False, True),
        (found.upper - 1e-3, False, False),
    ):
        process = pair_process(rows, ERROR, difference=edge, is_worse=is_worse)
        assert isinstance(process, EProcess)
        assert process.rejects(0.025) == is_rejected


def test_paired_means_have_the_unit_of_the_metric() -> None:
    """Amounts have their offset, and the direction of the metric does not turn the bounds."""
    sums = PairSums()
    for _ in range(2_000):
        sums = sums.plus(PairSums.of(LOG_QUANTA // 4, LOG_QUANTA // 8))
    for direction in Direction:
        metric = replace(LATENCY, direction=direction, minimum=-1000.0, maximum=1000.0)
        means = paired_means([sums], metric)
        assert isinstance(means, ShadowPairs)
        assert (means.n, means.shadow, means.champion) == (2_000, -500.0, -750.0)
        assert 200 < means.lower < 250 < means.upper < 300


def test_without_pairs_there_is_no_difference() -> None:
    """The reason is that there are no pairs."""
    for rows in ([], [PairSums()]):
        assert paired_means(rows, ERROR) == CannotSay(Reason.NO_PAIRS)
