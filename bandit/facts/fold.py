"""The fold from facts to observations: a sum over epochs, weighted by half-life and lookback.

No state is kept between two folds, so half-life, windows and priors can change while an experiment runs.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.decision_id import STEERING, Basis
from bandit.facts import Epoch, Facts, n_closed, starts_of
from bandit.facts.columns import NO_OUTCOMES, OutcomeColumns, exact_sums, look_up, positions
from bandit.facts.grid import DRAWN, FactGrid
from bandit.facts.silence import silence_of, with_silence
from bandit.facts.units import SteeringFacts
from bandit.metric import Metric
from bandit.posteriors.moments import OutcomeMoments


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """The weights of epochs, and the lag after which they close.

    Attributes:
        half_life: An epoch weighs 2^(-age / half_life), its age counted from its start; None: all weigh 1.
        lookback: Epochs that began longer ago are left out; None: all count.
        lag: How long a replica may go on with an epoch after its end.
    """

    half_life: timedelta | None = None
    lookback: timedelta | None = None
    lag: timedelta = timedelta()

    @property
    def is_even(self) -> bool:
        """True if every epoch weighs 1."""
        return self.half_life is None and self.lookback is None

    def weight(self, started_at: datetime, now: datetime) -> float:
        """Return the weight at `now` of an epoch that began at `started_at`, in [0, 1]."""
        age = max(now - started_at, timedelta())
        if self.lookback is not None and age > self.lookback:
            return 0.0
        return 1.0 if self.half_life is None else 2.0 ** -(age / self.half_life)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmObservations:
    """The observations that steer one arm on one metric.

    Attributes:
        sums: Weighted observations, silence included where the metric gives it a value.
        n_outcomes: Posted outcomes among them, unweighted.
        n_open: Outcomes in time that wait: for their epoch to close, or where units are counted for the
            window of their decision.
        n_late: Outcomes that came after their window; they never steer.
    """

    sums: OutcomeMoments = field(default_factory=OutcomeMoments)
    n_outcomes: int = 0
    n_open: int = 0
    n_late: int = 0


def fold_facts(
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Iterable[int],
    *,
    weighting: Weighting,
    now: datetime,
    bases: Collection[Basis] = STEERING,
    are_closed: bool = False,
) -> dict[int, ArmObservations]:
    """Fold one metric's facts over the epochs of one segment; return arm number to its observations.

    With a window, outcomes and silence are counted together, when their epoch has closed. Without one, posted
    outcomes count at once and silence counts for nothing. Only policy and restricted decisions steer.

    Args:
        facts: The experiment's facts.
        epochs: The segment's epochs, in order of number.
        metric: The store's number of the metric, and the metric.
        arms: Numbers of the arms to report on.
        weighting: Weights of epochs.
        now: The moment to fold for.
        bases: Of these, the kinds of decisions to fold.
        are_closed: Whether all facts are of closed windows, whatever their epoch.
    """
    number, declared = metric
    grid = FactGrid(facts, epochs, list(arms), bases=bases, is_exact=True)
    n_done = len(epochs) if are_closed else n_closed(epochs, declared.window, weighting.lag, now)
    posted = grid.moments(number)
    observed = _observe(posted[:, :n_done], grid, declared)
    weights = [weighting.weight(started_at, now) for started_at in starts_of(epochs)[:n_done]]
    sums = _sum_even(observed, declared) if weighting.is_even else _sum_weighted(observed, declared, weights)
    n_outcomes, n_open = exact_sums(posted[0, :n_done]), exact_sums(posted[0, n_done:])
    n_late = _count_late(facts.outcome_columns.get(number, NO_OUTCOMES), grid.arms, bases)
    return {
        arm: ArmObservations(
            sums=sums[column], n_outcomes=n_outcomes[column], n_open=n_open[column], n_late=n_late[column]
        )
        for column, arm in enumerate(grid.arms)
    }


def fold_units(
    steering: SteeringFacts,
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Iterable[int],
    *,
    weighting: Weighting,
    now: datetime,
) -> dict[int, ArmObservations]:
    """Fold one metric where units are counted; return arm number to its observations.

    Policy decisions are those that units steer with. Restricted decisions are those of `facts`, as
    `fold_facts` counts them; late outcomes, which never steer, are those of `facts` as well.

    Args:
        steering: What units steer with on the metric.
        facts: The experiment's facts, which count decisions.
        epochs: The segment's epochs, in order of number.
        metric: The store's number of the metric, and the metric.
        arms: Numbers of the arms to report on.
        weighting: Weights of epochs.
        now: The moment to fold for.
    """
    columns = list(arms)
    by_unit = fold_facts(
        steering.facts, epochs, metric, columns, weighting=weighting, now=now, bases=DRAWN, are_closed=True
    )
    restricted = fold_facts(
        facts, epochs, metric, columns, weighting=weighting, now=now, bases=STEERING - DRAWN
    )
    n_late = _count_late(facts.outcome_columns.get(metric[0], NO_OUTCOMES), columns, STEERING)
    return {
        arm: ArmObservations(
            sums=by_unit[arm].sums.merge(restricted[arm].sums),
            n_outcomes=by_unit[arm].n_outcomes + restricted[arm].n_outcomes,
            n_open=steering.n_open.get(arm, 0) + restricted[arm].n_open,
            n_late=late,
        )
        for arm, late in zip(columns, n_late, strict=True)
    }


def _observe(posted: NDArray[Any], grid: FactGrid, metric: Metric) -> tuple[NDArray[Any], ...]:
    """Return the moments of closed epochs' observations from those of their posted outcomes, exactly."""
    n, total, squares = posted
    quanta = silence_of(metric)
    if quanta is None:
        return n, total, squares
    decided = grid.decided[: len(n)]
    largest = max(int(decided.max(initial=1)) * max(quanta, 1) ** 2, int(posted.max(initial=0)))
    if largest > _MOST_ADDED:
        n, total, squares, decided = (each.astype(object) for each in (n, total, squares, decided))
    return with_silence((n, total, squares), decided, quanta)


def _count_late(columns: OutcomeColumns, arms: Sequence[int], bases: Collection[Basis]) -> list[int]:
    """Count the late outcomes of each arm, whatever their epoch."""
    places = look_up(positions(arms), columns.cells.arm)
    is_counted = (places >= 0) & np.isin(columns.cells.basis, sorted(bases))
    n_late = np.zeros(len(arms), dtype=columns.tallies.dtype)
    np.add.at(n_late, places[is_counted], columns.tallies[is_counted, _N_MOMENTS])
    return [int(count) for count in n_late]


def _sum_even(moments: Iterable[NDArray[Any]], metric: Metric) -> list[OutcomeMoments]:
    """Return each arm's sums over all epochs, equally weighted; exact."""
    return [_to_sums(each, metric) for each in zip(*map(exact_sums, moments), strict=True)]


def _sum_weighted(
    moments: Sequence[NDArray[Any]], metric: Metric, weights: Sequence[float]
) -> list[OutcomeMoments]:
    """Return each arm's weighted sums, merged in the order of epochs."""
    sums = []
    for of_arm in np.stack(moments, axis=-1).swapaxes(0, 1):
        weighted = (
            _to_sums(of_arm[row].tolist(), metric).weighted(weights[row])
            for row in np.flatnonzero(of_arm[:, 0]).tolist()
            if weights[row] > 0
        )
        sums.append(reduce(OutcomeMoments.merge, weighted, OutcomeMoments()))
    return sums


def _to_sums(moments: Sequence[int], metric: Metric) -> OutcomeMoments:
    n, total, squares = moments
    return OutcomeMoments.from_integers(n, total, squares, quantum=metric.quantum, offset=metric.offset)


_N_MOMENTS = 3
"""Number, sum and sum of squares of the outcomes in time: the first fields of a tally."""

_MOST_ADDED = 2**62 - 1
"""The sum of two numbers up to this fits in 64 bits."""
