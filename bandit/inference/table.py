"""The table that inference reads: per epoch and arm, shares, predictions, and sums of resolved decisions.

Why sums per epoch are enough, and why tests on them hold at any look: an epoch's shares and its predictions
(posterior means) are fixed in its row before its first decision, so for every decision of it both are known
beforehand ("predictable"). Scores built on them are martingale differences, and a sum of scores over an epoch
depends on the epoch's sums only. E-processes are evaluated where an epoch ends, in the order of epochs.

Estimators take this table and not facts: tallies of units, each counted once in the epoch of its first
exposure with its summed (or capped) outcome, make the same table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from bandit.decision import Basis
from bandit.facts import Epoch, Facts, Tally, n_closed
from bandit.inference.reasons import CannotSay, Reason
from bandit.metric import Direction, Metric, MetricKind

FloatArray = NDArray[np.float64]
_NOTHING = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueScale:
    """How a value of a metric lies in [0, 1], the unit of the table.

    Attributes:
        minimum: The value that 0 stands for.
        maximum: The value that 1 stands for; above `minimum`.
        is_binary: Whether outcomes are 0 or 1 and nothing between.
        direction: Whether more is better.
    """

    minimum: float = 0.0
    maximum: float = 1.0
    is_binary: bool = True
    direction: Direction = Direction.MAXIMIZE

    def __post_init__(self) -> None:
        if not self.maximum > self.minimum:
            raise ValueError(f"maximum must be above minimum, got {self.maximum:g} and {self.minimum:g}")

    @classmethod
    def of(cls, metric: Metric) -> "ValueScale":
        """The declared range and direction of a metric."""
        return cls(
            minimum=metric.minimum,
            maximum=metric.maximum,
            is_binary=metric.kind is MetricKind.BINARY,
            direction=metric.direction,
        )

    @property
    def width(self) -> float:
        """Maximum less minimum."""
        return self.maximum - self.minimum

    def to_value(self, position: float) -> float:
        """The value at `position` in [0, 1]."""
        return self.minimum + self.width * position


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvidenceTable:
    """Sums per epoch and arm, of shape (n_epochs, n_arms); rows in the order of epochs.

    Attributes:
        arms: Numbers of the arms, in the order of the columns.
        shares: The probability of each arm in the epoch; 0 where it had none.
        predictions: Posterior means at the epoch's start, in [0, 1]; any number fixed by then is valid.
        n: Resolved decisions drawn from the shares: with a value for silence all of them, else those
            answered.
        sums: Sums of their outcomes, each in [0, 1].
        squares: Sums of the squares of their outcomes.
        scale: What 0 and 1 stand for.

    Raises:
        ValueError: shapes differ, or a share, prediction or sum is impossible.
    """

    arms: tuple[int, ...]
    shares: FloatArray
    predictions: FloatArray
    n: FloatArray
    sums: FloatArray
    squares: FloatArray
    scale: ValueScale

    def __post_init__(self) -> None:
        shape = (len(self.shares), len(self.arms))
        for name in ("shares", "predictions", "n", "sums", "squares"):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
            if not (np.all(np.isfinite(values)) and np.all(values >= 0)):
                raise ValueError(f"{name} must be finite and not negative")
            object.__setattr__(self, name, values)
        if np.any(self.shares > 1 + _ROUNDING) or np.any(self.predictions > 1 + _ROUNDING):
            raise ValueError("shares and predictions must be at most 1")
        if np.any(self.sums > self.n * (1 + _ROUNDING)) or np.any(self.squares > self.sums * (1 + _ROUNDING)):
            raise ValueError("outcomes must lie in [0, 1]: squares <= sums <= n")

    def column(self, arm: int) -> int:
        """The column of an arm; ValueError if it has none."""
        return self.arms.index(arm)

    @property
    def totals(self) -> FloatArray:
        """Resolved decisions of each epoch, over all arms; shape (n_epochs,)."""
        return np.asarray(self.n.sum(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureTable:
    """Decisions per epoch and arm, of shape (n_epochs, n_arms), beside the shares they were drawn from.

    Attributes:
        arms: Numbers of the arms, in the order of the columns.
        shares: The probability of each arm in the epoch.
        counts: Decisions (or units, or answers) of each arm.
    """

    arms: tuple[int, ...]
    shares: FloatArray
    counts: FloatArray


def evidence_table(
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Sequence[int],
    *,
    lag: timedelta,
    now: datetime,
) -> EvidenceTable | CannotSay:
    """The table of one metric: policy decisions of closed epochs, and outcomes that came in time.

    Args:
        facts: The experiment's facts.
        epochs: The segment's epochs, in order of number.
        metric: The store's number of the metric, and the metric.
        arms: Numbers of all arms that ever had a share, so that an epoch's decisions are all counted.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment to fold for.
    """
    declared = metric[1]
    if declared.window is None:
        return CannotSay(Reason.NO_WINDOW)
    closed = epochs[: n_closed(epochs, declared.window, lag, now)]
    if not closed:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    return tabulate(facts, closed, metric, arms, silence=declared.default_value)


def open_evidence_table(
    facts: Facts, epochs: Sequence[Epoch], metric: tuple[int, Metric], arms: Sequence[int]
) -> EvidenceTable:
    """The table of outcomes posted in time so far, open epochs included: for events that only do harm.

    Only `harm_process` may read it: means over it are biased towards arms that answer fast.
    """
    return tabulate(facts, epochs, metric, arms, silence=None)


def tabulate(
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Sequence[int],
    *,
    silence: float | None,
) -> EvidenceTable:
    """The table over exactly these epochs; `silence` is what an unanswered decision counts as, or None."""
    number, declared = metric
    decided, posted = _policy_counts(facts, epochs, arms), _policy_tallies(facts, epochs, arms, number)
    moments = np.zeros((3, len(epochs), len(arms)))
    for cell in np.ndindex(len(epochs), len(arms)):
        tally = posted.get(cell, _NOTHING)
        if silence is not None:
            tally = _with_silence(tally, int(decided[cell]), declared.quantise(silence))
        moments[:, cell[0], cell[1]] = _in_range(tally, declared)
    return EvidenceTable(
        arms=tuple(arms),
        shares=shares_of(epochs, arms),
        predictions=_predictions(epochs, arms, number, declared),
        n=moments[0],
        sums=moments[1],
        squares=moments[2],
        scale=ValueScale.of(declared),
    )


def exposure_table(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int]) -> ExposureTable:
    """Policy decisions of all epochs, open ones included: what the sample-ratio check reads."""
    return ExposureTable(
        arms=tuple(arms), shares=shares_of(epochs, arms), counts=_policy_counts(facts, epochs, arms)
    )


def shares_of(epochs: Sequence[Epoch], arms: Sequence[int]) -> FloatArray:
    """Shares of the arms in the epochs, 0 where an arm had none; shape (n_epochs, n_arms)."""
    shares = [[epoch.shares.get(arm, 0.0) for arm in arms] for epoch in epochs]
    return np.array(shares, dtype=float).reshape(len(epochs), len(arms))


def _cells(epochs: Sequence[Epoch], arms: Sequence[int]) -> Mapping[tuple[int, int, int], tuple[int, int]]:
    """Segment, epoch number and arm to row and column."""
    return {
        (epoch.segment, epoch.number, arm): (row, column)
        for row, epoch in enumerate(epochs)
        for column, arm in enumerate(arms)
    }


def _policy_counts(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int]) -> FloatArray:
    cells, counts = _cells(epochs, arms), np.zeros((len(epochs), len(arms)))
    for key, count in facts.decisions.items():
        cell = cells.get((key.segment, key.epoch, key.arm))
        if cell is not None and key.basis is Basis.POLICY:
            counts[cell] += count
    return counts


def _policy_tallies(
    facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int], metric: int
) -> dict[tuple[int, int], Tally]:
    cells, tallies = _cells(epochs, arms), dict[tuple[int, int], Tally]()
    for key, tally in facts.outcomes.items():
        cell = cells.get((key.segment, key.epoch, key.arm))
        if cell is not None and key.basis is Basis.POLICY and key.metric == metric:
            tallies[cell] = tallies.get(cell, _NOTHING).plus(tally)
    return tallies


def _with_silence(tally: Tally, n_decisions: int, quanta: int) -> Tally:
    """Adds decisions without an outcome in time; a crash may lose counts, and then there are none."""
    n = max(n_decisions - tally.n, 0)
    return tally.plus(Tally(n=n, total=n * quanta, squares=n * quanta * quanta))


def _in_range(tally: Tally, metric: Metric) -> tuple[float, float, float]:
    """Count, sum and sum of squares of the outcomes as positions in [0, 1]."""
    width = metric.maximum - metric.minimum
    step, start = metric.quantum / width, (metric.offset - metric.minimum) / width
    total = step * tally.total + start * tally.n
    squares = step**2 * tally.squares + 2 * step * start * tally.total + start**2 * tally.n
    total = min(max(total, 0.0), float(tally.n))
    return float(tally.n), total, min(max(squares, 0.0), total)


def _predictions(epochs: Sequence[Epoch], arms: Sequence[int], number: int, metric: Metric) -> FloatArray:
    """Posterior means at the epochs' starts as positions in [0, 1]; 0 where the row has none."""
    width = metric.maximum - metric.minimum
    means = [[epoch.means.get(number, {}).get(arm, metric.minimum) for arm in arms] for epoch in epochs]
    positions = (np.array(means, dtype=float).reshape(len(epochs), len(arms)) - metric.minimum) / width
    return np.clip(np.nan_to_num(positions, nan=0.0), 0.0, 1.0)


_ROUNDING = 1e-9
