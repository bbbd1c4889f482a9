"""Design of a test, fixed before it sees data: error rate, floors, and where its bounds are tightest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bandit.inference.sequential.mixture import Mixture

UNDECLARED_FLOOR: Final = 0.01
"""Replaces a floor that was not declared: a constant, so it is known before any data."""

_SLACK: Final = 1 - 1e-6
_SMALLEST_CAP: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Constants of the AIPW tests and intervals, which must not depend on the outcomes.

    A score is divided by the arm's share, so its bound needs a floor under the share that is known
    beforehand. The smallest share *seen* does not qualify: it is data. So the floors given here are the
    declared ones (the smallest ever declared, if they were changed), `UNDECLARED_FLOOR` replaces missing
    ones, and epochs with a share below the floor (a ramp, a new arm) are left out. Shares are fixed when an
    epoch begins, so leaving it out is a predictable choice that costs only power, never validity.

    Attributes:
        alpha: Error rate of every interval and of each test, in (0, 0.5).
        floors: Arm number to its declared minimum share; `UNDECLARED_FLOOR` if missing or 0.
        planned_decisions: Bounds are tightest around this many decisions; far from it they are wider, and
            valid.
        planned_variance: Expected variance of an outcome in [0, 1]: rate * (1 - rate) of a yes/no metric.
        prediction_cap: Larger predictions are cut to it; None: the ratio of the floors, at least .25, which
            keeps a challenger's small floor from setting the scale when rates are low.

    Raises:
        ValueError: a constant is outside its range.
    """

    alpha: float = 0.05
    floors: Mapping[int, float] = field(default_factory=dict)
    planned_decisions: float = 20_000.0
    planned_variance: float = 0.05
    prediction_cap: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:  # noqa: PLR2004 - an error rate of one half is no test
            raise ValueError(f"alpha must be in (0, 0.5), got {self.alpha:g}")
        if not (self.planned_decisions > 0 and self.planned_variance > 0):
            raise ValueError("planned decisions and planned variance must be positive")
        if self.prediction_cap is not None and not 0 < self.prediction_cap <= 1:
            raise ValueError(f"prediction cap must be in (0, 1], got {self.prediction_cap:g}")
        if any(not 0 <= floor <= 1 for floor in self.floors.values()):
            raise ValueError("floors must be in [0, 1]")

    def floor(self, arm: int) -> float:
        """Return the share that the arm needs for an epoch to count, in (0, 1], less a rounding margin."""
        return (self.floors.get(arm, 0.0) or UNDECLARED_FLOOR) * _SLACK

    def cap(self, arm: int, other: int) -> float:
        """Return the cap of the predictions for `arm` and `other`, in (0, 1]; the same in both orders."""
        if self.prediction_cap is not None:
            return self.prediction_cap
        low, high = sorted((self.floor(arm), self.floor(other)))
        return max(low / high, _SMALLEST_CAP)

    def contrast_scale(self, better: int, worse: int) -> float:
        """Return how far a score of `better` minus `worse` may lie below its prediction."""
        return max(self.cap(better, worse) / self.floor(better), 1 / self.floor(worse))

    def contrast_mixture(self, better: int, worse: int, alpha: float) -> Mixture:
        """Return the mixture of the test of "`better` is no better than `worse`"."""
        variance = self.planned_variance * (1 / self.floor(better) + 1 / self.floor(worse)) / 2
        return self.mixture(self.contrast_scale(better, worse), variance, alpha)

    def mixture(self, scale: float, variance_per_decision: float, alpha: float) -> Mixture:
        """Return a mixture that is tightest at the planned number of decisions."""
        return Mixture.tuned(scale, self.planned_decisions * variance_per_decision, alpha)
