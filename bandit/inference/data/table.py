"""The table that inference reads: per epoch and arm, shares and sums of resolved decisions.

Sums per epoch are enough, and tests on them hold at any look. An epoch's shares are fixed before its first
decision, and so is what earlier rows say of its outcomes (`bandit.inference.data.centres`). Scores built on
both are martingale differences, and a sum of scores over an epoch depends only on the epoch's sums.
E-processes are evaluated where an epoch ends, in the order of epochs. The first epoch may have several rows,
a random part of its decisions each: then a burst that falls into it has a centre as well.

Estimators take this table and not facts, since tallies of units, each counted once in the epoch of its first
exposure with its summed (or capped) outcome, make the same table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit.facts import Epoch, Facts, n_closed
from bandit.facts.grid import FactGrid
from bandit.facts.silence import silence_of, with_silence
from bandit.inference.data.centres import Centres
from bandit.inference.reasons import CannotSay, Reason
from bandit.metric import Direction, Metric

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueScale:
    """The scale from a metric's values to [0, 1], the unit of the table.

    Attributes:
        minimum: The value at 0.
        maximum: The value at 1; above `minimum`.
        is_binary: Whether outcomes are only 0 or 1.
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
        """Return the scale of a metric's declared range and direction."""
        return cls(
            minimum=metric.minimum,
            maximum=metric.maximum,
            is_binary=metric.is_binary,
            direction=metric.direction,
        )

    @property
    def width(self) -> float:
        """The maximum minus the minimum."""
        return self.maximum - self.minimum

    def to_value(self, position: float) -> float:
        """Return the value at `position` in [0, 1]."""
        return self.minimum + self.width * position


@dataclass(frozen=True, kw_only=True, eq=False)
class EvidenceTable:
    """Sums per row and arm, of shape (n_rows, n_arms); rows in the order of epochs.

    Attributes:
        arms: Numbers of the arms, in the order of the columns.
        shares: The probability of each arm in the epoch; 0 where it had none.
        n: Resolved decisions drawn from the shares: all of them if silence has a value, otherwise those with
            an outcome.
        sums: Sums of their outcomes, each in [0, 1].
        squares: Sums of the squares of their outcomes.
        scale: The values at 0 and 1.
        totals: Resolved decisions of each row, over all arms; shape (n_rows,).

    Raises:
        ValueError: Shapes differ, or a share or sum is impossible.
    """

    arms: tuple[int, ...]
    shares: FloatArray
    n: FloatArray
    sums: FloatArray
    squares: FloatArray
    scale: ValueScale
    totals: FloatArray = field(init=False)
    _column_of: Mapping[int, int] = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.shares), len(self.arms))
        for name in ("shares", "n", "sums", "squares"):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
            if not (np.all(np.isfinite(values)) and np.all(values >= 0)):
                raise ValueError(f"{name} must be finite and not negative")
            # An arm's numbers are contiguous, since arms are read one after the other.
            object.__setattr__(self, name, np.asfortranarray(values))
        object.__setattr__(self, "totals", self.n.sum(axis=1))
        object.__setattr__(self, "_column_of", {arm: column for column, arm in enumerate(self.arms)})
        if np.any(self.shares > 1 + _ROUNDING):
            raise ValueError("shares must be at most 1")
        if np.any(self.sums > self.n * (1 + _ROUNDING)) or np.any(self.squares > self.sums * (1 + _ROUNDING)):
            raise ValueError("outcomes must lie in [0, 1]: squares <= sums <= n")

    @cached_property
    def centres(self) -> Centres:
        """What the rows before each say about its outcomes."""
        return Centres(self.n, self.sums)

    def column(self, arm: int) -> int:
        """Return the column of an arm; ValueError if it has none."""
        if arm not in self._column_of:
            raise ValueError(f"arm {arm} has no column in the table")
        return self._column_of[arm]

    def since(self, row: int, arm: int) -> "EvidenceTable":
        """Return the table as if the arm had begun with this row; the same table if it is the first."""
        if row == 0:
            return self
        column = self.column(arm)
        parts = {name: getattr(self, name).copy() for name in ("shares", "n", "sums", "squares")}
        for values in parts.values():
            values[:row, column] = 0
        return EvidenceTable(arms=self.arms, scale=self.scale, **parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureTable:
    """Decisions per row and arm, of shape (n_rows, n_arms), with the shares they were drawn from.

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
    """Return the table of one metric: policy decisions of closed epochs, and their outcomes in time.

    Args:
        facts: The experiment's facts.
        epochs: The segment's epochs, in order of number.
        metric: The store's number of the metric, and the metric.
        arms: Numbers of all arms that ever had a share, so that an epoch's decisions are all counted.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment to fold for.
    """
    return closed_table(FactGrid(facts, epochs, arms, splits_first=True), metric, lag, now)


def closed_table(
    grid: FactGrid, metric: tuple[int, Metric], lag: timedelta, now: datetime
) -> EvidenceTable | CannotSay:
    """Return the `evidence_table` of a grid."""
    n_rows = count_closed(grid, metric[1], lag, now)
    if isinstance(n_rows, CannotSay):
        return n_rows
    return tabulate(grid, metric, n_rows, silence=silence_of(metric[1]))


def count_closed(grid: FactGrid, metric: Metric, lag: timedelta, now: datetime) -> int | CannotSay:
    """Return how many rows, from the first, are of epochs closed for the metric; or why none counts."""
    if metric.window is None:
        return CannotSay(Reason.NO_WINDOW)
    n_epochs = n_closed(grid.epochs, metric.window, lag, now)
    return grid.rows_of(n_epochs) if n_epochs else CannotSay(Reason.NO_CLOSED_EPOCH)


def open_evidence_table(
    facts: Facts, epochs: Sequence[Epoch], metric: tuple[int, Metric], arms: Sequence[int]
) -> EvidenceTable:
    """Return the table of outcomes posted in time so far, open epochs included, for harmful events.

    Only `harm_process` may read it: means over it are biased towards arms whose outcomes come sooner.
    """
    return open_table(FactGrid(facts, epochs, arms, splits_first=True), metric)


def open_table(grid: FactGrid, metric: tuple[int, Metric]) -> EvidenceTable:
    """Return the `open_evidence_table` of a grid."""
    return tabulate(grid, metric, grid.n_rows, silence=None)


def tabulate(
    grid: FactGrid, metric: tuple[int, Metric], n_rows: int, *, silence: int | None
) -> EvidenceTable:
    """Return the table of the first rows; `silence` is the quanta that silence counts as, or None."""
    number, declared = metric
    n, total, squares = grid.moments(number)[:, :n_rows]
    if silence is not None:
        n, total, squares = with_silence((n, total, squares), grid.decided[:n_rows], float(silence))
    sums, squares = _in_range(n, total, squares, declared)
    return EvidenceTable(
        arms=grid.arms,
        shares=grid.shares[:n_rows],
        n=n,
        sums=sums,
        squares=squares,
        scale=ValueScale.of(declared),
    )


def exposure_table(facts: Facts, epochs: Sequence[Epoch], arms: Sequence[int]) -> ExposureTable:
    """Return the policy decisions of all epochs, open ones included, for the sample-ratio check."""
    return exposures(FactGrid(facts, epochs, arms, splits_first=True))


def exposures(grid: FactGrid) -> ExposureTable:
    """Return the `exposure_table` of a grid."""
    return ExposureTable(arms=grid.arms, shares=grid.shares, counts=grid.decided)


def _in_range(
    n: FloatArray, total: FloatArray, squares: FloatArray, metric: Metric
) -> tuple[FloatArray, FloatArray]:
    """Return the sum and sum of squares of outcomes as positions in [0, 1], from those in quanta."""
    width = metric.maximum - metric.minimum
    step, start = metric.quantum / width, (metric.offset - metric.minimum) / width
    squares = step**2 * squares + 2 * step * start * total + start**2 * n
    sums = np.clip(step * total + start * n, 0.0, n)
    return sums, np.clip(squares, 0.0, sums)


def squares_about(
    centre: FloatArray | float, n: FloatArray, sums: FloatArray, squares: FloatArray
) -> FloatArray:
    """Return sums of squared distances of outcomes from a centre, never negative; of their common shape."""
    return np.maximum(squares - 2 * centre * sums + n * np.square(centre), 0.0)


_ROUNDING = 1e-9
