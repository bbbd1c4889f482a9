"""Response ratios of arms, and whether they are alike, as evidence that ignores silence requires.

If an answer does not depend on the arm, the arms of *answered* decisions follow the epoch's shares. So the
check is the sample-ratio e-process over answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bandit.facts import Epoch, Facts
from bandit.facts.grid import FactGrid
from bandit.inference.data.table import EvidenceTable, ExposureTable, count_closed, tabulate
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio
from bandit.metric import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResponse:
    """How an arm's decisions of closed epochs were answered.

    Attributes:
        decisions: Number of policy decisions.
        outcomes: Number of outcomes posted for them in time.
    """

    decisions: int
    outcomes: int

    @property
    def ratio(self) -> float | None:
        """Outcomes per decision, at most 1; None without a decision."""
        return min(self.outcomes / self.decisions, 1.0) if self.decisions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Response ratios and their check.

    Attributes:
        arms: Arm number to its response.
        check: Answers compared with shares; alarming if response ratios differ.
    """

    arms: Mapping[int, ArmResponse]
    check: SampleRatio | CannotSay


def measure_response(
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Sequence[int],
    *,
    lag: timedelta,
    now: datetime,
) -> Response | CannotSay:
    """Return the response ratios over closed epochs; the arguments are those of `evidence_table`."""
    return response_of(FactGrid(facts, epochs, arms, splits_first=True), metric, lag, now)


def response_of(
    grid: FactGrid, metric: tuple[int, Metric], lag: timedelta, now: datetime
) -> Response | CannotSay:
    """Return `measure_response` of facts that are laid out already."""
    n_rows = count_closed(grid, metric[1], lag, now)
    if isinstance(n_rows, CannotSay):
        return n_rows
    decided = grid.decided[:n_rows].sum(axis=0)
    answered = tabulate(grid, metric, n_rows, silence=None)
    return Response(
        arms={
            arm: ArmResponse(decisions=int(n_decisions), outcomes=int(n_outcomes))
            for arm, n_decisions, n_outcomes in zip(
                grid.arms, decided.tolist(), answered.n.sum(axis=0).tolist(), strict=True
            )
        },
        check=answers_beside_shares(answered),
    )


def answers_beside_shares(table: EvidenceTable) -> SampleRatio | CannotSay:
    """Check a table that leaves silence out: its `n` are answers."""
    return check_sample_ratio(ExposureTable(arms=table.arms, shares=table.shares, counts=table.n))


def require_alike(table: EvidenceTable, alpha: float = 0.001) -> EvidenceTable | CannotSay:
    """Return the table of a metric that ignores silence, or the reason why it is not evidence."""
    check = answers_beside_shares(table)
    if isinstance(check, SampleRatio) and check.is_alarming(alpha):
        return CannotSay(Reason.UNEQUAL_RESPONSE)
    return table
