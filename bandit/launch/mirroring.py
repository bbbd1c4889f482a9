"""How far an arm in shadow has come: what it saw, of how much of that anything was posted, and its pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bandit.decision_id import Basis
from bandit.facts import Epoch, Facts
from bandit.facts.shadow_pairs import PairSums, ShadowFacts, ShadowKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCounts:
    """What an arm saw in shadow, and what came of it.

    Attributes:
        n_decisions: Shadow decisions of the arm.
        n_mirrored: Of how many of them any outcome was posted.
        pairs: Metric number to sums over pairs, a row for each epoch, in order; for every metric that is
            compared.
    """

    n_decisions: int
    n_mirrored: int
    pairs: Mapping[int, Sequence[PairSums]]

    @property
    def mirrored(self) -> float:
        """The part of the decisions of which any outcome was posted, in [0, 1]; 0 without decisions.

        A decision whose outcome is still on its way counts as not mirrored, so it is too low for a moment.
        """
        return min(self.n_mirrored / self.n_decisions, 1.0) if self.n_decisions else 0.0

    @property
    def n_pairs(self) -> int:
        """The number of pairs in the metric that has the fewest; 0 if no metric is compared."""
        return min((sum(row.n for row in rows) for rows in self.pairs.values()), default=0)


def count_shadow(
    arm: int, epochs: Sequence[Epoch], facts: Facts, shadows: ShadowFacts | None, *, since: int = 0
) -> ShadowCounts:
    """Return what an arm saw in shadow in the epochs of a revision and those that followed.

    Args:
        arm: Number of the arm.
        epochs: The experiment's epochs, in order.
        facts: What was counted, of the same snapshot as `shadows`.
        shadows: What came of shadow decisions; None for nothing.
        since: The first revision whose epochs count, such as that with which the arm entered its stage.
    """
    keys = [ShadowKey(epoch.number, arm) for epoch in epochs if epoch.revision >= since]
    columns = facts.decision_columns
    cells = columns.cells
    is_seen = (cells.arm == arm) & (cells.basis == Basis.SHADOW)
    is_counted = is_seen & np.isin(cells.epoch, [key.epoch for key in keys])
    return ShadowCounts(
        n_decisions=int(columns.counts[is_counted].sum()),
        n_mirrored=0 if shadows is None else sum(shadows.n_mirrored.get(key, 0) for key in keys),
        pairs={}
        if shadows is None
        else {
            metric: [of_epoch.get(key, PairSums()) for key in keys]
            for metric, of_epoch in shadows.pairs.items()
        },
    )
