"""Logs: histories as the facts and epochs that a service keeps, with fallbacks and late outcomes.

An epoch takes a quarter of a day; the metric is yes/no, and silence counts as failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
from bandit.inference.data.table import EvidenceTable, ExposureTable, evidence_table, exposure_table
from bandit.metric import Metric
from benchmarks.validity.worlds.rates import FloatArray

STARTED_AT: Final = datetime(2026, 1, 5, tzinfo=UTC)
EPOCH: Final = timedelta(hours=6)
METRIC_NUMBER: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Log:
    """One run's facts; arrays of shape (n_epochs, n_arms).

    Attributes:
        shares: Probability of each arm.
        n: Decisions by basis.
        sums: Successes within the window by basis.
        late: Successes of policy decisions after the window.
        window: Number of epochs in the window.
    """

    shares: FloatArray
    n: Mapping[Basis, FloatArray]
    sums: Mapping[Basis, FloatArray]
    late: FloatArray | None = None
    window: int = 1

    @property
    def metric(self) -> Metric:
        """The reward metric."""
        return Metric(name="success", window=self.window * EPOCH, default_value=0.0)

    def epochs(self) -> list[Epoch]:
        """Return the epochs, and one more that is current at the end."""
        rows = range(len(self.shares))
        return [
            Epoch(
                experiment=1,
                segment=0,
                number=row + 1,
                nonce=0,
                revision=1,
                started_at=STARTED_AT + row * EPOCH,
                champion=0,
                shares=dict(enumerate(self.shares[min(row, rows[-1])].tolist())),
            )
            for row in (*rows, len(rows))
        ]

    def facts(self) -> Facts:
        """Return the facts of the run."""
        outcomes = {}
        for basis, sums in self.sums.items():
            for (row, arm), won in np.ndenumerate(sums):
                late = int(self.late[row, arm]) if self.late is not None and basis is Basis.POLICY else 0
                tally = Tally(n=int(won), total=int(won), squares=int(won))
                outcomes[OutcomeKey(1, row + 1, 0, arm, basis, METRIC_NUMBER)] = tally._replace(
                    late_n=late, late_total=late, late_squares=late
                )
        decisions = {
            DecisionKey(1, row + 1, 0, arm, basis): int(count)
            for basis, counts in self.n.items()
            for (row, arm), count in np.ndenumerate(counts)
        }
        return Facts(decisions=decisions, outcomes=outcomes)

    def now(self) -> datetime:
        """Return the time at which the last epoch before the current one ended."""
        return STARTED_AT + len(self.shares) * EPOCH


def tables(log: Log) -> tuple[EvidenceTable, ExposureTable]:
    """Return the library's tables at the end of the run.

    Raises:
        ValueError: No epoch has closed.
    """
    facts, epochs, arms = log.facts(), log.epochs(), range(log.shares.shape[1])
    table = evidence_table(facts, epochs, (METRIC_NUMBER, log.metric), arms, lag=timedelta(), now=log.now())
    if isinstance(table, EvidenceTable):
        return table, exposure_table(facts, epochs, arms)
    raise ValueError(table.explanation)
