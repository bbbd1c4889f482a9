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
from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, n_closed
from bandit.inference.reasons import CannotSay, Reason
from bandit.metric import Direction, Metric, MetricKind

FloatArray = NDArray[np.float64]


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
    moments = _policy_moments(facts, epochs, arms, number)
    if silence is not None:
        decided = _policy_counts(facts, epochs, arms)
        moments = _with_silence(moments, decided, declared.quantise(silence))
    n, sums, squares = _in_range(moments, declared)
    return EvidenceTable(
        arms=tuple(arms),
        shares=shares_of(epochs, arms),
        predictions=_predictions(epochs, arms, number, declared),
        n=n,
        sums=sums,
        squares=squares,
        scale=ValueScale.of(declared),
    )


def exposure_table(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int]) -> ExposureTable:
    """Policy decisions of all epochs, open ones included: what the sample-ratio check reads."""
    return ExposureTable(
        arms=tuple(arms), shares=shares_of(epochs, arms), counts=_policy_counts(facts, epochs, arms)
    )


def shares_of(epochs: Sequence[Epoch], arms: Sequence[int]) -> FloatArray:
    """Shares of the arms in the epochs, 0 where an arm had none; shape (n_epochs, n_arms)."""
    return _spread([epoch.shares for epoch in epochs], arms, missing=0.0)


def _spread(rows: Sequence[Mapping[int, float]], arms: Sequence[int], *, missing: float) -> FloatArray:
    """Mappings from arm to number as an array of shape (n_rows, n_arms)."""
    values = np.full((len(rows), len(arms)), missing)
    column_of = np.full(max((*arms, *(arm for row in rows for arm in row)), default=-1) + 1, -1)
    column_of[list(arms)] = np.arange(len(arms))
    for row, by_arm in zip(values, rows, strict=True):
        columns = column_of[np.fromiter(by_arm.keys(), dtype=np.int64, count=len(by_arm))]
        is_asked = columns >= 0
        numbers = np.fromiter(by_arm.values(), dtype=float, count=len(by_arm))
        row[columns[is_asked]] = numbers[is_asked]
    return values


class _Cells:
    """Where the facts of an epoch and arm stand in a table."""

    def __init__(self, epochs: Sequence[Epoch], arms: Sequence[int]) -> None:
        self._rows = {(epoch.segment, epoch.number): row for row, epoch in enumerate(epochs)}
        self._columns = {arm: column for column, arm in enumerate(arms)}

    def find(self, key: DecisionKey | OutcomeKey) -> tuple[int, int] | None:
        """Row and column of what policy decisions count; None for anything else."""
        row, column = self._rows.get((key.segment, key.epoch)), self._columns.get(key.arm)
        if row is None or column is None or key.basis is not Basis.POLICY:
            return None
        return row, column


def _policy_counts(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int]) -> FloatArray:
    cells, counts = _Cells(epochs, arms), np.zeros((len(epochs), len(arms)))
    for key, count in facts.decisions.items():
        cell = cells.find(key)
        if cell is not None:
            counts[cell] += count
    return counts


def _policy_moments(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int], metric: int) -> FloatArray:
    """Number, sum and sum of squares, in quanta, of outcomes in time; shape (3, n_epochs, n_arms)."""
    cells, moments = _Cells(epochs, arms), np.zeros((3, len(epochs), len(arms)))
    for key, tally in facts.outcomes.items():
        cell = cells.find(key) if key.metric == metric else None
        if cell is not None:
            moments[:, cell[0], cell[1]] += tally[:3]
    return moments


def _with_silence(moments: FloatArray, decided: FloatArray, quanta: int) -> FloatArray:
    """Adds decisions without an outcome in time; a crash may lose counts, and then there are none."""
    n_silent = np.maximum(decided - moments[0], 0.0)
    return np.asarray(moments + n_silent * np.array([1.0, quanta, quanta * quanta]).reshape(3, 1, 1))


def _in_range(moments: FloatArray, metric: Metric) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Number, sum and sum of squares of the outcomes as positions in [0, 1]."""
    n, total, squares = moments
    width = metric.maximum - metric.minimum
    step, start = metric.quantum / width, (metric.offset - metric.minimum) / width
    squares = step**2 * squares + 2 * step * start * total + start**2 * n
    sums = np.clip(step * total + start * n, 0.0, n)
    return n, sums, np.clip(squares, 0.0, sums)


def _predictions(epochs: Sequence[Epoch], arms: Sequence[int], number: int, metric: Metric) -> FloatArray:
    """Posterior means at the epochs' starts as positions in [0, 1]; 0 where the row has none."""
    width = metric.maximum - metric.minimum
    means = _spread([epoch.means.get(number, {}) for epoch in epochs], arms, missing=metric.minimum)
    return np.clip(np.nan_to_num((means - metric.minimum) / width, nan=0.0), 0.0, 1.0)


_ROUNDING = 1e-9
