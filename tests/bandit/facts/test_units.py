"""Units of analysis: how often they repeat is estimated from the spread over groups, within an error."""

import random
from collections import Counter

import pytest

from bandit.decision_id import hash_unit
from bandit.facts.units import TOLERATED_REPEATS, estimate_repeats, largest_quanta
from bandit.metric import Metric, MetricKind

SALT = bytes(range(16))


def groups_of(decisions_by_unit: list[int]) -> Counter[int]:
    """Return decisions by group of units that made this many each."""
    groups: Counter[int] = Counter()
    for number, count in enumerate(decisions_by_unit):
        groups[hash_unit(SALT, f"user-{number}".encode())[0]] += count
    return groups


@pytest.mark.parametrize("n_units", [30, 3_000, 30_000])
def test_units_that_do_not_repeat_are_left_alone(n_units: int) -> None:
    """One decision a unit is recognized: chi-square with 255 degrees of freedom passes 1.5 once in 10^6."""
    estimate = estimate_repeats(groups_of([1] * n_units))
    assert not estimate.is_too_much
    assert abs(estimate.decisions_a_unit - 1) < TOLERATED_REPEATS - 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([20] * 1_000, 20.0),
        ([3] * 5_000, 3.0),
        ([1] * 20_000 + [2_000], (20_000 + 2_000**2) / 22_000),
        ([500], 500.0),
    ],
    ids=["all return often", "all return", "one stands for many", "one unit"],
)
def test_units_that_repeat_are_noticed(counts: list[int], expected: float) -> None:
    """Even one that hides among others is noticed; within six standard errors of 9 % each."""
    estimate = estimate_repeats(groups_of(counts))
    assert estimate.is_too_much
    assert estimate.decisions_a_unit == pytest.approx(expected, rel=0.54)
    assert estimate.standard_error == pytest.approx(0.0886 * estimate.decisions_a_unit, rel=0.01)
    assert 'analysis_unit = "unit"' in estimate.explanation


def test_the_estimate_is_unbiased() -> None:
    """Over random hashes its mean is the true value, within six standard errors of the mean."""
    generator = random.Random(1)
    counts = [1] * 100 + [4] * 50 + [10] * 10
    truth = sum(count * count for count in counts) / sum(counts)
    estimates = []
    for _ in range(400):
        groups: Counter[int] = Counter()
        for count in counts:
            groups[generator.randrange(256)] += count
        estimates.append(estimate_repeats(groups).decisions_a_unit)
    mean = sum(estimates) / len(estimates)
    spread = (sum((value - mean) ** 2 for value in estimates) / len(estimates)) ** 0.5
    assert abs(mean - truth) < 6 * spread / 20


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric(name="x"), 1),
        (Metric(name="x", kind=MetricKind.COUNT, maximum=12.0), 12),
        (Metric(name="x", kind=MetricKind.REAL, minimum=-5.0, maximum=5.0), 2**40),
    ],
)
def test_a_unit_is_worth_no_more_than_the_maximum(metric: Metric, expected: int) -> None:
    """The cap of a unit's outcome is the metric's maximum in quanta."""
    assert largest_quanta(metric) == expected == metric.quantise(metric.maximum)
