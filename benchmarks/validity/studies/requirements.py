"""Figures that a report is required to reach: spread, width, misses and power of a challenger's first days.

Arms are alike but where an effect is asked for. *Spread* is the standard deviation of the estimated
difference over runs, beside that of the plain difference in means. *Width* is half the last interval, beside
1.96 standard errors of the plain difference at the true variance.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair
from bandit.inference.sequential.centred_odds import CentredOdds, difference_interval
from benchmarks.validity.measures.coverage import covers_last, covers_ratio, covers_truth
from benchmarks.validity.measures.decisions import ALPHA, BETTER, Verdicts, decide
from benchmarks.validity.measures.measurements import Sample
from benchmarks.validity.measures.stacks import Stack
from benchmarks.validity.worlds.histories import History, Shaping, collect
from benchmarks.validity.worlds.layouts import Layout
from benchmarks.validity.worlds.outcomes import Amounts
from benchmarks.validity.worlds.rates import FloatArray, still


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """An experiment whose arms are alike.

    Attributes:
        rate: The rate of every arm, where outcomes are yes/no.
        outcomes: The distribution of amounts; None where outcomes are yes/no.
        shaping: Source of the shares.
        layout: The rows.
    """

    rate: float = 0.1
    outcomes: Amounts | None = None
    shaping: Shaping
    layout: Layout

    @property
    def variance(self) -> float:
        """The variance of one outcome, in positions."""
        return self.rate * (1 - self.rate) if self.outcomes is None else self.outcomes.deviation**2


def measure_first_days(setting: Setting, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure what is said of a challenger that is like the champion."""
    n_arms = len(setting.shaping.floors)
    truth = still((setting.rate,) * n_arms, len(setting.layout.epochs))
    history = collect(truth, setting.layout, setting.shaping, n_runs, rng, setting.outcomes)
    verdicts = decide(history.tables(), setting.shaping.design)
    stack = verdicts.stacks[0]
    missed = 1 - covers_truth(stack, np.zeros(len(truth)))
    return {
        "missed": missed,
        "any": verdicts.is_any,
        "stands": verdicts.stands.max(axis=(1, 2)),
        "spread": _estimates(stack, history),
        "width": _widths(stack, history, setting.variance),
    }


def measure_varying(
    truth: FloatArray,
    layout: Layout,
    shaping: Shaping,
    rng: np.random.Generator,
    n_runs: int,
    *,
    has_ratio: bool = False,
) -> Sample:
    """Measure how often intervals miss an effect that varies, and what is found.

    Args:
        truth: Rates, shape (n_rows, 2).
        layout: The rows.
        shaping: Source of the shares.
        rng: Generator of all random numbers.
        n_runs: Number of runs.
        has_ratio: Whether the ratio of the rates is constant, so that its bounds should hold at every look.
    """
    history = collect(truth, layout, shaping, n_runs, rng)
    verdicts = decide(history.tables(), shaping.design)
    stack = verdicts.stacks[0]
    sample = {
        "missed_last": 1 - covers_last(stack, truth[:, 1] - truth[:, 0]),
        "first_better": verdicts.found[:, 0, BETTER],
        "first_stands": verdicts.stands[:, 0, BETTER],
    }
    if has_ratio:
        sample["missed_ratio"] = 1 - covers_ratio(stack, truth[0, 1] / truth[0, 0])
    return sample


def measure_power(
    rates: tuple[float, ...], layout: Layout, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Measure how often the first challenger is found better, at one-sided .025 and by the report."""
    truth = still(rates, len(layout.epochs))
    verdicts = decide(collect(truth, layout, shaping, n_runs, rng).tables(), shaping.design)
    return {
        "power": verdicts.reaches(1, BETTER, log(2 / ALPHA)),
        "first_better": verdicts.found[:, 0, BETTER],
        "first_stands": verdicts.stands[:, 0, BETTER],
        "decisions": _decisions(verdicts, layout),
    }


def _decisions(verdicts: Verdicts, layout: Layout) -> FloatArray:
    """Return the decisions by the first look at which the first challenger is found better."""
    is_found = verdicts.paths[:, 0, BETTER] >= verdicts.log_level
    return np.where(is_found.any(axis=1), layout.ends[is_found.argmax(axis=1)], np.inf)


def _estimates(stack: Stack, history: History) -> FloatArray:
    """Return the estimated and the plain difference of each run, shape (n_runs, 2)."""
    n, sums = history.n.sum(axis=1), history.sums.sum(axis=1)
    plain = sums[:, 1] / np.maximum(n[:, 1], 1) - sums[:, 0] / np.maximum(n[:, 0], 1)
    own = [
        pair.means[CHALLENGER] - pair.means[CHAMPION] if pair is not None else 0.0
        for pair in (stack.pairs.get(run) for run in range(stack.n_runs))
    ]
    return np.stack([own, plain], axis=1)


def _widths(stack: Stack, history: History, variance: float) -> FloatArray:
    """Return half of each run's last interval over that of a fixed-sample interval."""
    n = np.maximum(history.n[..., :2].sum(axis=1), 1)
    fixed = _TWO_SIDED * np.sqrt(variance * (1 / n).sum(axis=1))
    if not stack.is_binary:
        return np.asarray(np.minimum(stack.margins(stack.design.log_level), 1.0) / fixed)
    halves = [_half(stack.pairs.get(run), stack.design.log_level) for run in range(stack.n_runs)]
    return np.asarray(np.array(halves) / fixed)


def _half(pair: Pair | None, level: float) -> float:
    if pair is None:
        return 1.0
    gap = pair.means[CHALLENGER] - pair.means[CHAMPION]
    spread = max(pair.standard_error, 1 / pair.n_decisions)
    ends = difference_interval(CentredOdds(pair.tested()), gap, spread, level)
    return (ends.upper - ends.lower) / 2


_TWO_SIDED = 1.959964
