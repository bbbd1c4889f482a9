"""Families: what the claims about a challenger share their error rate with.

Without a launch, every challenger that the experiment ever had, evenly. In a launch, comparisons of a
challenger with a champion are numbered as they begin. The j-th takes alpha / (j (j + 1)), which sums to alpha
over however many there will be: a challenger that starts late takes nothing from those before it. A
comparison counts from the epoch with which it began. A new champion was selected by its past data, so whoever
meets it begins anew.
"""

from collections.abc import Collection
from dataclasses import dataclass

from bandit.allocation import ExperimentState
from bandit.facts.grid import FactGrid
from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay
from bandit.launch.state import Launch


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a challenger's claims share their error rate with.

    Attributes:
        n_challengers: What the error rate is divided by: the number of challengers; in a launch j (j + 1) for
            the j-th comparison that began.
        n_guardrails: Guardrails among which that part is divided for a rollback.
        first_row: The row of the table with which the comparison began.
    """

    n_challengers: int
    n_guardrails: int
    first_row: int = 0

    @property
    def n_harms(self) -> int:
        """What the error rate of a rollback is divided by."""
        return max(self.n_guardrails, 1) * self.n_challengers

    def rows_of(self, table: EvidenceTable | CannotSay, arm: int) -> EvidenceTable | CannotSay:
        """Return the table as the comparison sees it: without the challenger in earlier rows."""
        return table if isinstance(table, CannotSay) else table.since(self.first_row, arm)


def family_of(state: ExperimentState, grid: FactGrid, arm: int, challengers: Collection[int]) -> Family:
    """Return the family of a challenger's claims against the champion.

    Args:
        state: The experiment, with its launch if it has one.
        grid: The facts by rows.
        arm: Number of the challenger.
        challengers: Numbers of all challengers that the experiment ever had.
    """
    n_guardrails = sum(each.is_guardrail for each in state.experiment.metrics)
    if state.launch is None:
        return Family(n_challengers=len(challengers), n_guardrails=n_guardrails)
    return _in_launch(state.launch, state, grid, arm, n_guardrails)


def _in_launch(launch: Launch, state: ExperimentState, grid: FactGrid, arm: int, n_guardrails: int) -> Family:
    ids = {number: arm_id for arm_id, number in state.arm_numbers.items()}
    found = launch.hypothesis(ids[arm], state.experiment.champion)
    if found is None:  # the two never met, so no row counts
        number, n_rows = len(launch.hypotheses) + 1, len(grid.row_epochs)
        return Family(n_challengers=number * (number + 1), n_guardrails=n_guardrails, first_row=n_rows)
    number, hypothesis = found
    return Family(
        n_challengers=number * (number + 1),
        n_guardrails=max(hypothesis.n_guardrails, n_guardrails),
        first_row=sum(epoch.revision < hypothesis.revision for epoch in grid.row_epochs),
    )
