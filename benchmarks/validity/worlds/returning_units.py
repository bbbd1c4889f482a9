"""Returning units, which keep their arm while shares stay the same, since their hash never changes.

Their success rates are drawn from Beta(.2, 1.8), so that most units hardly ever succeed. A unit's visits lie
within `SPAN` epochs of its first. Success does not depend on the arm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bandit.decision_id import Basis
from bandit.facts.units import N_GROUPS
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.worlds.histories import Shaping
from benchmarks.validity.worlds.logs import Log
from benchmarks.validity.worlds.rates import FloatArray

SPAN: Final = 8
"""Epochs within which a unit's visits and outcomes come; the metric's window."""

FALLBACK_RATE: Final = 0.05
_LATE_RATE: Final = 0.05

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The units, and the defects of their log.

    Attributes:
        visits: Decisions per unit.
        size: Mean number of decisions per epoch.
        rhythm: Factors of all success rates, shape (n_epochs,).
        is_messy: True if 5 % of decisions are fallbacks, and 5 % of failures under challengers turn into
            successes after the window.
    """

    visits: int
    size: int
    rhythm: FloatArray
    is_messy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisitLogs:
    """Logs of one run.

    Attributes:
        decisions: The log that counts decisions.
        units: The log that counts each unit at its first policy decision.
        groups: Decisions by a byte of the unit's hash.
    """

    decisions: Log
    units: Log
    groups: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Visits:
    """Visits in order of time, as arrays of shape (n_visits,)."""

    unit: IntArray
    time: FloatArray
    arm: IntArray
    is_fallback: NDArray[np.bool_]
    is_success: NDArray[np.bool_]


def simulate_visits(population: Population, shaping: Shaping, rng: np.random.Generator) -> VisitLogs:
    """Simulate one run."""
    n_epochs, n_arms = len(population.rhythm), len(shaping.floors)
    n_units = n_epochs * population.size // population.visits
    unit, time = _arrivals(n_units, population.visits, n_epochs, rng)
    tickets = rng.exponential(size=(n_units, n_arms))
    epoch = time.astype(int)
    is_success = rng.uniform(size=len(unit)) < rng.beta(0.2, 1.8, n_units)[unit] * population.rhythm[epoch]
    is_fallback = (rng.uniform(size=len(unit)) < FALLBACK_RATE) & population.is_messy
    arm = np.zeros(len(unit), dtype=np.int64)
    shares, n, sums = (np.zeros((n_epochs, n_arms)) for _ in range(3))
    for row in range(n_epochs):
        here = slice(*np.searchsorted(epoch, (row, row + 1)))
        won, lost = sums.sum(axis=0), (n - sums).sum(axis=0)
        shares[row] = shaping.shares(believe(won[np.newaxis], lost[np.newaxis]).best)[0]
        arm[here] = np.where(is_fallback[here], 0, (tickets[unit[here]] / shares[row]).argmin(axis=1))
        counts = ~is_fallback[here]
        n[row] = np.bincount(arm[here][counts], minlength=n_arms)
        sums[row] = np.bincount(arm[here][counts & is_success[here]], minlength=n_arms)
    visits = _Visits(unit, time, arm, is_fallback, is_success)
    late = rng.binomial((n - sums).astype(int), _LATE_RATE * population.is_messy * (np.arange(n_arms) > 0))
    fallbacks = [_count(visits, which, n.shape) for which in (is_fallback, is_fallback & is_success)]
    units = _first_exposures(visits, n.shape)
    groups = np.bincount(rng.integers(N_GROUPS, size=n_units)[unit[~is_fallback]], minlength=N_GROUPS)
    log_of = partial(Log, shares=shares, window=SPAN)
    return VisitLogs(
        decisions=log_of(
            n={Basis.POLICY: n, Basis.FALLBACK: fallbacks[0]},
            sums={Basis.POLICY: sums, Basis.FALLBACK: fallbacks[1]},
            late=late.astype(float),
        ),
        units=log_of(n={Basis.POLICY: units[0]}, sums={Basis.POLICY: units[1]}),
        groups=dict(enumerate(groups.tolist())),
    )


def _arrivals(
    n_units: int, n_visits: int, n_epochs: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Return the unit and time of every visit before the end, in order of time."""
    later = rng.uniform(0, SPAN, (n_units, n_visits))
    later[:, 0] = 0.0
    time = (rng.uniform(0, n_epochs, (n_units, 1)) + later).ravel()
    unit = np.repeat(np.arange(n_units), n_visits)
    order = np.argsort(time)
    order = order[time[order] < n_epochs]
    return unit[order], time[order]


def _first_exposures(visits: _Visits, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Count units and successful units, by epoch and arm of their first policy decision."""
    drawn = np.flatnonzero(~visits.is_fallback)
    units, firsts = np.unique(visits.unit[drawn], return_index=True)
    first = drawn[firsts]
    started = np.full(int(visits.unit.max()) + 1, np.inf)
    started[units] = visits.time[first]
    counts = ~visits.is_fallback & visits.is_success & (visits.time < started[visits.unit] + SPAN)
    has_succeeded = np.isin(units, visits.unit[counts])
    is_first = np.zeros(len(visits.unit), dtype=bool)
    is_first[first] = True
    is_winner = np.zeros_like(is_first)
    is_winner[first[has_succeeded]] = True
    return _count(visits, is_first, shape), _count(visits, is_winner, shape)


def _count(visits: _Visits, mask: NDArray[np.bool_], shape: tuple[int, ...]) -> FloatArray:
    counts = np.zeros(shape)
    np.add.at(counts, (visits.time[mask].astype(int), visits.arm[mask]), 1)
    return counts
