"""Textbook bandits, run by run in plain Python: they share nothing with what they check."""

import math
import random
from collections.abc import Callable
from statistics import mean, stdev

Choose = Callable[[list[float], list[float], random.Random], int]
"""A policy: from numbers of outcomes and their sums by arm to an arm."""


def thompson(counts: list[float], sums: list[float], luck: random.Random) -> int:
    """Thompson sampling of success rates from Beta(1, 1)."""
    draws = [luck.betavariate(1 + s, 1 + n - s) for n, s in zip(counts, sums, strict=True)]
    return draws.index(max(draws))


def thompson_of_counts(counts: list[float], sums: list[float], luck: random.Random) -> int:
    """Thompson sampling of Poisson means from Gamma(1, 1)."""
    draws = [luck.gammavariate(1 + s, 1 / (1 + n)) for n, s in zip(counts, sums, strict=True)]
    return draws.index(max(draws))


def epsilon_greedy(epsilon: float, decay: float = math.inf) -> Choose:
    """Explore with epsilon / (1 + n / decay), else the best posterior mean from Beta(1, 1), ties by lot."""

    def choose(counts: list[float], sums: list[float], luck: random.Random) -> int:
        if luck.random() < epsilon / (1 + sum(counts) / decay):
            return luck.randrange(len(counts))
        means = [(1 + s) / (2 + n) for n, s in zip(counts, sums, strict=True)]
        return luck.choice([arm for arm, each in enumerate(means) if each == max(means)])

    return choose


def bernoulli(arm_mean: float, luck: random.Random) -> float:
    """A success or a failure."""
    return float(luck.random() < arm_mean)


def poisson(arm_mean: float, luck: random.Random) -> float:
    """A count, by Knuth's product of uniforms."""
    count, product = 0, luck.random()
    while product > math.exp(-arm_mean):
        count += 1
        product *= luck.random()
    return float(count)


def run(
    means: tuple[float, ...],
    horizon: int,
    choose: Choose,
    luck: random.Random,
    *,
    every: int = 1,
    delay: int = 0,
    outcome: Callable[[float, random.Random], float] = bernoulli,
) -> float:
    """Return the regret of one run that refreshes at intervals, with outcomes `delay` rounds later."""
    history: list[tuple[int, float]] = []
    counts, sums = [0.0] * len(means), [0.0] * len(means)
    n_known, regret = 0, 0.0
    for now in range(horizon):
        if now % every == 0:
            while n_known < now - delay:
                arm, value = history[n_known]
                counts[arm] += 1
                sums[arm] += value
                n_known += 1
        arm = choose(counts, sums, luck)
        history.append((arm, outcome(means[arm], luck)))
        regret += max(means) - means[arm]
    return regret


def mean_and_error(regrets: list[float]) -> tuple[float, float]:
    """Return the mean over runs and its standard error."""
    return mean(regrets), stdev(regrets) / math.sqrt(len(regrets))
