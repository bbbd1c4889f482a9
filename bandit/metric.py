"""A metric: a named value observed for a decision, and the whole numbers that it counts as.

Values count as whole numbers of a *quantum*, so that sums and sums of squares are exact in any order. The
value as it was posted is kept beside that.
"""

import enum
import math
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior

N_STEPS: Final = 2**40
"""Quanta in the range of a real-valued metric."""

LARGEST_COUNT: Final = 2**20
"""The largest value of a count."""

N_COARSE_STEPS: Final = 2**20
"""Quanta in the range of a real-valued metric up to version 0.2, which may be rounded to afterwards."""

_COARSE_STEP: Final = N_STEPS // N_COARSE_STEPS


class MetricKind(enum.StrEnum):
    """What kind of value a metric is; decides the family of its posterior."""

    BINARY = "binary"
    REAL = "real"
    COUNT = "count"


_REAL: Final = MetricKind.REAL  # looking a member up costs a quarter of what a value does (Python 3.11)


class Direction(enum.StrEnum):
    """Whether more of a metric is better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class OutcomeValueError(ValueError):
    """{value} is not a value of metric {metric}: {rule}."""

    def __init__(self, metric: str, value: float, rule: str) -> None:
        self.metric = metric
        self.value = value
        self.rule = rule
        super().__init__(f"{value!r} is not a value of metric {metric!r}: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A named value observed for a decision, with the range that it lies in.

    Attributes:
        name: `[a-z0-9-]{1,63}`.
        kind: Binary (0 or 1), real (a number in the range) or count (a whole number of events).
        direction: Whether more is better.
        minimum: The smallest value accepted.
        maximum: The largest value accepted.
        clip: Whether values outside the range are moved to its nearest end instead of being refused.
        window: How long after its decision an outcome steers; None: outcomes count at once and always.
        default_value: What a decision counts as if nothing came within the window; None: it is left out.
        is_guardrail: Whether this is a metric that must not get worse; it does not steer.
        prior: What is believed before any outcome; None: the weak prior of the kind.
    """

    name: str
    kind: MetricKind = MetricKind.BINARY
    direction: Direction = Direction.MAXIMIZE
    minimum: float = 0.0
    maximum: float = 1.0
    clip: bool = False
    window: timedelta | None = None
    default_value: float | None = None
    is_guardrail: bool = False
    prior: Prior | None = None

    @property
    def is_real(self) -> bool:
        """Whether values are counted in steps of the range, and not as the whole numbers that they are."""
        return self.kind is _REAL

    @property
    def is_binary(self) -> bool:
        """Whether values are 0 or 1."""
        return self.kind is MetricKind.BINARY

    @property
    def offset(self) -> float:
        """The value that zero quanta stand for."""
        return self.minimum if self.is_real else 0.0

    @property
    def quantum(self) -> float:
        """The value of one quantum: 1 for whole numbers, range / 2^40 for real ones."""
        return (self.maximum - self.minimum) / N_STEPS if self.kind is _REAL else 1.0

    @property
    def resolution(self) -> float:
        """The smallest difference between two values that counts: one quantum."""
        return self.quantum

    @property
    def keeps_values(self) -> bool:
        """Whether a posted value may be another than that which its quanta stand for."""
        return self.kind is _REAL or self.clip

    def quantise(self, value: float) -> int:
        """The number of quanta nearest to `value`: in [0, 2^40] for real values, else the value itself.

        A real value just beside the middle between two of 2^20 steps is taken to its side of it. So what it
        is in those steps follows from its quanta, and is what rounding to them at once would give.

        Raises:
            OutcomeValueError: `value` is not finite, outside the range, or not whole where it has to be.

        >>> Metric(name="spend", kind=MetricKind.REAL, maximum=4.0).quantise(1.0)
        274877906944
        """
        if not math.isfinite(value):
            raise OutcomeValueError(self.name, value, "it must be finite")
        if not self.minimum <= value <= self.maximum:
            value = self._moved_inside(value)
        if self.kind is _REAL:
            return _nearest((value - self.minimum) / self.quantum)
        if not float(value).is_integer():
            if abs(value) >= math.ulp(1.0):
                rule = "it must be 0 or 1" if self.is_binary else "it must be a whole number"
                raise OutcomeValueError(self.name, value, rule)
            value = 0.0
        return int(value)

    def _moved_inside(self, value: float) -> float:
        """The value in the range that one outside of it stands for."""
        if abs(value) < sys.float_info.min:
            value = 0.0  # what a subnormal stands for
        if not self.minimum <= value <= self.maximum and not self.clip:
            rule = f"it must be in [{self.minimum:g}, {self.maximum:g}]"
            raise OutcomeValueError(self.name, value, rule)
        return min(max(value, self.minimum), self.maximum)

    def to_value(self, quanta: int) -> float:
        """The value that `quanta` stands for."""
        return self.offset + quanta * self.quantum

    @property
    def is_harmful_event(self) -> bool:
        """Whether it is a guardrail whose events can only be bad, so that nobody has to wait for the rest."""
        return self.is_guardrail and self.is_binary and self.direction is Direction.MINIMIZE

    @property
    def effective_prior(self) -> Prior:
        """The declared prior, or the weak one of the kind."""
        return self.prior or self.weak_prior

    @property
    def weak_prior(self) -> Prior:
        """The weak prior of the kind; a declared prior is of the same family.

        Binary: Beta(1, 1). Count: Gamma(1, 1). Real: normal-inverse-gamma about the middle of the range,
        worth one observation, with a standard deviation of a sixth of the range.
        """
        match self.kind:
            case MetricKind.BINARY:
                return BetaPrior()
            case MetricKind.COUNT:
                return GammaPrior()
            case MetricKind.REAL:
                return NormalInverseGammaPrior(
                    mean=(self.minimum + self.maximum) / 2,
                    pseudo_observations=1.0,
                    shape=1.0,
                    scale=((self.maximum - self.minimum) / 6) ** 2,
                )


def _nearest(position: float) -> int:
    """The whole number nearest to a position; never the middle of a coarse step, unless it is just that."""
    quanta = round(position)
    if quanta % _COARSE_STEP == _COARSE_STEP // 2 and quanta != position:
        quanta += 1 if position > quanta else -1
    return quanta
