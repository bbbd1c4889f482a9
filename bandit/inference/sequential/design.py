"""Design of a test, fixed before it sees data: error rate, floors, and where its bounds are tightest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum, log
from typing import Final

from bandit.inference.sequential.mixture import Mixture

UNDECLARED_FLOOR: Final = 0.01
"""Replaces a floor that was not declared: a constant, so it is known before any data."""

_N_DIRECTIONS: Final = 2

_SLACK: Final = 1 - 1e-6
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Constants of tests and intervals, which must not depend on the outcomes.

    Comparisons use the floors only for the largest weight of a bounded score. The value of a static split is
    a sum of AIPW scores: each is divided by the arm's share, so its bound needs a floor under the share that
    is known beforehand. The smallest share *seen* does not qualify: it is data. So the floors given here are
    the declared ones (the smallest ever declared, if they were changed), `UNDECLARED_FLOOR` replaces missing
    ones, and epochs with a share below the floor (a ramp, a new arm) are left out. Shares are fixed when an
    epoch begins, so leaving it out is a predictable choice that costs only power, never validity.

    Attributes:
        alpha: Error rate of every interval and of each test, in (0, 0.5).
        floors: Arm number to its declared minimum share; `UNDECLARED_FLOOR` if missing or 0.
        planned_decisions: Bounds are tightest around this many decisions; far from it they are wider, and
            valid.
        planned_variance: Expected variance of an outcome in [0, 1]: rate * (1 - rate) of a yes/no metric.
        n_challengers: How many challengers share the error rate of differences, in both directions each.

    Raises:
        ValueError: a constant is outside its range.
    """

    alpha: float = 0.05
    floors: Mapping[int, float] = field(default_factory=dict)
    planned_decisions: float = 20_000.0
    planned_variance: float = 0.05
    n_challengers: int = 1
    _total_floor: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:  # noqa: PLR2004 - an error rate of one half is no test
            raise ValueError(f"alpha must be in (0, 0.5), got {self.alpha:g}")
        if not (self.planned_decisions > 0 and self.planned_variance > 0):
            raise ValueError("planned decisions and planned variance must be positive")
        if any(not 0 <= floor <= 1 for floor in self.floors.values()):
            raise ValueError("floors must be in [0, 1]")
        object.__setattr__(self, "_total_floor", fsum(self.floors.values()))

    @property
    def log_level(self) -> float:
        """Ln of the e-value of a finding: Bonferroni over challengers and directions."""
        return log(_N_DIRECTIONS * max(self.n_challengers, 1) / self.alpha)

    def largest_weight(self, arm: int, champion: int) -> float:
        """Return the largest part of both shares that either arm has while all floors hold, in [1/2, 1]."""
        return max(self._largest_part(arm, champion), self._largest_part(champion, arm), _HALF)

    def largest_weight_of(self, arm: int, champion: int) -> float:
        """Return the largest weight in an arm's own mean while all floors hold, in (0, 1]."""
        if arm == champion:
            return max(1 - self.floors.get(arm, 0.0) * _SLACK, 1 - _SLACK)
        return self._largest_part(champion, arm)

    def _largest_part(self, arm: int, other: int) -> float:
        """Return the largest part that `arm` has of its and the other's share."""
        own, others = self.floors.get(arm, 0.0), self.floors.get(other, 0.0)
        rest = 1 - max(self._total_floor - own - others, 0.0)
        smallest = others / rest if rest > 0 else 0.0
        return max(1 - smallest * _SLACK, 1 - _SLACK)

    def floor(self, arm: int) -> float:
        """Return the share that the arm needs for an epoch to count, in (0, 1], less a rounding margin."""
        return (self.floors.get(arm, 0.0) or UNDECLARED_FLOOR) * _SLACK

    def mixture(self, scale: float, variance_per_decision: float, alpha: float) -> Mixture:
        """Return a mixture that is tightest at the planned number of decisions."""
        return Mixture.tuned(scale, self.planned_decisions * variance_per_decision, alpha)
