"""Simulated guardrails: when harm is found, along the shares of a launch.

The process is the guardrail's own (`bandit.inference.harm`), and every row is a look. Rows are short enough
to hold half an event of both arms, or 3 % of those before, so the day of a finding is late by at most that.
Of metrics that are only evident once their window has closed, it is late by the window as well. Base rates
do not change; by conditional odds, findings depend on the number of events and not on their rhythm. Outcomes
of an arm in shadow are drawn independently of the champion's: if the two go together, fewer pairs are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bandit.facts.shadow_pairs import PairSums
from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.harm.margins import Ratio, closed_process, early_process, edge_of
from bandit.inference.planning.expected_sums import CHALLENGER, CHAMPION
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import RowwiseProcess
from bandit.inference.sequential.shadow_pairs import pair_process
from bandit.metric import Direction, Metric


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharesOverTime:
    """Shares of champion and challenger over the course of a launch.

    Attributes:
        ends: Day on which each part ends, ascending, shape (n_parts,); the first starts at 0.
        champion: The champion's share in each, shape (n_parts,).
        challenger: The challenger's, likewise; 0 where it has none.
        sample: The part of the champion's decisions that the challenger sees in shadow; 0 elsewhere.
        decisions_per_day: Decisions over all arms.
    """

    ends: FloatArray
    champion: FloatArray
    challenger: FloatArray
    sample: FloatArray
    decisions_per_day: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HarmRuns:
    """Simulated guardrails.

    Attributes:
        days: Day of each look, ascending, shape (n_rows,).
        log_values: Ln E of harm after each row, shape (n_runs, n_rows).
    """

    days: FloatArray
    log_values: FloatArray

    def fired_on(self, log_level: float) -> FloatArray:
        """Return the day on which each run finds harm, infinite if it never does; shape (n_runs,)."""
        is_fired = self.log_values >= log_level
        return np.where(is_fired.any(axis=1), self.days[is_fired.argmax(axis=1)], inf)


def simulate_harm(
    metric: Metric, rates: tuple[float, float], shares: SharesOverTime, n_runs: int, rng: np.random.Generator
) -> HarmRuns:
    """Simulate a yes/no guardrail.

    Args:
        metric: The guardrail.
        rates: The rates of champion and challenger.
        shares: Their shares.
        n_runs: The number of runs.
        rng: The source of randomness.
    """
    later = _later(metric, rates, shares, n_runs, rng)
    if not (metric.is_shadow and shares.sample.any()):
        return later
    return _joined(_in_shadow(metric, rates, shares, len(later.log_values), rng), later)


def _later(
    metric: Metric, rates: tuple[float, float], shares: SharesOverTime, n_runs: int, rng: np.random.Generator
) -> HarmRuns:
    """Simulate the process over the decisions that the challenger answers."""
    is_early = metric.counts_early
    days, places = _rows(rates, shares, _GROWTH if is_early else _CLOSED_GROWTH)
    lengths = np.diff(days, prepend=0.0)
    of_arms = np.stack([shares.champion, shares.challenger], axis=1)[places]
    expected = of_arms * (lengths * shares.decisions_per_day)[:, np.newaxis]
    if is_early:
        sums = rng.poisson(expected * np.array(rates), (n_runs, *expected.shape)).astype(float)
        return HarmRuns(days=days, log_values=_early(metric, of_arms, sums))
    n = rng.poisson(expected, (min(n_runs, _CLOSED_RUNS), *expected.shape))
    sums = rng.binomial(n, np.array(rates)).astype(float)
    values = np.stack([_closed(metric, of_arms, *each) for each in zip(n.astype(float), sums, strict=True)])
    return HarmRuns(days=days + _window(metric), log_values=values)


def _in_shadow(
    metric: Metric, rates: tuple[float, float], shares: SharesOverTime, n_runs: int, rng: np.random.Generator
) -> HarmRuns:
    """Simulate the process over pairs of outcomes."""
    starts = np.concatenate([[0.0], shares.ends[:-1]])
    seen = np.flatnonzero(shares.sample > 0)
    ends = np.concatenate(
        [np.linspace(starts[part], shares.ends[part], _SHADOW_ROWS + 1)[1:] for part in seen]
    )
    per_day = np.repeat((shares.champion * shares.sample)[seen], _SHADOW_ROWS) * shares.decisions_per_day
    lengths = np.repeat((shares.ends - starts)[seen], _SHADOW_ROWS) / _SHADOW_ROWS
    champion, shadow = rates
    likely = [shadow * champion, shadow * (1 - champion), (1 - shadow) * champion]
    n = rng.poisson(per_day * lengths, (n_runs, len(ends)))
    counts = rng.multinomial(n, [*likely, 1 - sum(likely)])
    values = np.stack([_paired(metric, of_run) for of_run in counts])
    return HarmRuns(days=ends + _window(metric), log_values=values)


def _paired(metric: Metric, counts: NDArray[np.int64]) -> FloatArray:
    """Return ln E after each row of one run, from the pairs of each kind."""
    rows = [
        PairSums(both + own + other + none, both + own, both + own, both + other, both + other, both)
        for both, own, other, none in counts.tolist()
    ]
    edge = edge_of(metric)
    ratio, difference = (edge.value, 0.0) if isinstance(edge, Ratio) else (1.0, edge.value)
    found = pair_process(rows, metric, ratio=ratio, difference=difference)
    return np.zeros(len(rows)) if isinstance(found, CannotSay) else np.asarray(found.log_values)


def _joined(pairs: HarmRuns, later: HarmRuns) -> HarmRuns:
    """Return what the service looks at: the later process, and its product with that of the pairs so far."""
    places = np.searchsorted(pairs.days, later.days, side="right") - 1
    known = np.where(places >= 0, pairs.log_values[:, np.maximum(places, 0)], 0.0)
    days = np.concatenate([pairs.days, later.days])
    values = np.concatenate([pairs.log_values, later.log_values + np.maximum(known, 0.0)], axis=1)
    order = np.argsort(days, kind="stable")
    return HarmRuns(days=days[order], log_values=values[:, order])


def _window(metric: Metric) -> float:
    return 0.0 if metric.window is None else metric.window.total_seconds() / _SECONDS_OF_A_DAY


def _rows(
    rates: tuple[float, float], shares: SharesOverTime, growth: float
) -> tuple[FloatArray, Sequence[int]]:
    """Return the day on which each row ends, and the place of its shares."""
    days: list[float] = []
    places: list[int] = []
    start, events = 0.0, 0.0
    for place, end in enumerate(shares.ends.tolist()):
        own = shares.challenger[place]
        per_day = shares.decisions_per_day * (shares.champion[place] * rates[0] + own * rates[1])
        total = events + per_day * (end - start) * bool(own > 0)
        while events < total:
            step = min(max(_FIRST, growth * events), total - events)
            events, start = events + step, start + step / per_day
            days.append(start)
            places.append(place)
            if total - events < _ROUNDING * total:
                break
        if not (own > 0 and days):
            days.append(end)
            places.append(place)
        days[-1] = start = end
    return np.array(days), places


def _early(metric: Metric, shares: FloatArray, sums: FloatArray) -> FloatArray:
    """Return ln E after each row, by the events of all runs at once: a row's terms depend on it alone."""
    n_runs, n_rows, n_arms = sums.shape
    flat = sums.reshape(-1, n_arms)
    table = _table(metric, np.tile(shares, (n_runs, 1)), flat, flat)
    edge = edge_of(metric)
    assert isinstance(edge, Ratio)  # noqa: S101 - only ratios are looked for early
    found = early_process(table, CHALLENGER, CHAMPION, edge, is_worse=True)
    if isinstance(found, CannotSay):
        return np.zeros((n_runs, n_rows))
    terms = found.terms.reshape(n_runs, n_rows, -1)
    return found.log_e_value(np.cumsum(terms, axis=1))


def _closed(metric: Metric, shares: FloatArray, n: FloatArray, sums: FloatArray) -> FloatArray:
    """Return ln E after each row of one run, over closed epochs."""
    table = _table(metric, shares, n, sums)
    found = closed_process(table, CHALLENGER, CHAMPION, edge_of(metric), Design(), is_worse=True)
    values = np.zeros(len(shares))
    if isinstance(found, RowwiseProcess) and found.rows:
        rows = np.array(found.rows)
        places = np.searchsorted(rows, np.arange(len(shares)), side="right") - 1
        values = np.where(places >= 0, found.log_values()[np.maximum(places, 0)], 0.0)
    return values


def _table(metric: Metric, shares: FloatArray, n: FloatArray, sums: FloatArray) -> EvidenceTable:
    return EvidenceTable(
        arms=(CHAMPION, CHALLENGER),
        shares=shares,
        n=n,
        sums=sums,
        squares=sums,
        scale=ValueScale(direction=metric.direction),
    )


def harmed_rate(metric: Metric, base: float, times: float) -> float:
    """Return the challenger's rate if it is some times worse: more events, or fewer where more is better."""
    return min(base * times, 1.0) if metric.direction is Direction.MINIMIZE else base / times


_FIRST: Final = 0.5
_GROWTH: Final = 0.03
_CLOSED_GROWTH: Final = 0.1
_CLOSED_RUNS: Final = 200
_SHADOW_ROWS: Final = 48
"""Looks at each part of a shadow stage."""
_ROUNDING: Final = 1e-12
_SECONDS_OF_A_DAY: Final = 86_400.0
