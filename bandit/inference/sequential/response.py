"""How often arms answer, and whether alike: what evidence that ignores silence rests on.

If answering does not depend on the arm, the arm of an *answered* decision is distributed as the epoch's
shares are. So the check is the sample-ratio e-process over answers.
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
        decisions: Policy decisions.
        outcomes: Outcomes posted in time for them.
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
        check: Answers beside shares; alarming if arms answer unequally often.
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
    """Response ratios over closed epochs; the arguments are those of `evidence_table`."""
    return response_of(FactGrid(facts, epochs, arms), metric, lag, now)


def response_of(
    grid: FactGrid, metric: tuple[int, Metric], lag: timedelta, now: datetime
) -> Response | CannotSay:
    """`measure_response` of facts that are laid out already."""
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
    """The check on a table that leaves silence out: its `n` are answers."""
    return check_sample_ratio(ExposureTable(arms=table.arms, shares=table.shares, counts=table.n))


def require_alike(table: EvidenceTable, alpha: float = 0.001) -> EvidenceTable | CannotSay:
    """The table, or why it is no evidence: for metrics that ignore silence."""
    check = answers_beside_shares(table)
    if isinstance(check, SampleRatio) and check.is_alarming(alpha):
        return CannotSay(Reason.UNEQUAL_RESPONSE)
    return table
