"""Metrics: named values observed for decisions, and their conversion to whole numbers.

Values are counted in whole numbers of a *quantum*, so that sums and sums of squares are exact in any order.
The posted value is kept as well.
"""

import enum
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bandit.number_text import exact
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior
from bandit.wrong_types import wrong_type

N_STEPS: Final = 2**40
"""Quanta in the range of a real-valued metric."""

LARGEST_COUNT: Final = 2**20
"""The largest value of a count."""

N_COARSE_STEPS: Final = 2**20
"""Quanta in the range of a real-valued metric up to version 0.2; finer quanta can be rounded to these."""

_COARSE_STEP: Final = N_STEPS // N_COARSE_STEPS


class MetricKind(enum.StrEnum):
    """The kind of a metric's values, which determines the family of its posterior."""

    BINARY = "binary"
    REAL = "real"
    COUNT = "count"


_REAL: Final = MetricKind.REAL  # looking a member up costs a quarter of what a value does (Python 3.11)


class Direction(enum.StrEnum):
    """Whether larger or smaller values of a metric are better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Role(enum.StrEnum):
    """What a metric that does not steer is watched for."""

    GUARDRAIL = "guardrail"
    """It must not get worse: a challenger that makes it worse is to be taken out."""
    SIGNAL = "signal"
    """A challenger that seems to make it worse is held where it is until it no longer does."""


@dataclass(frozen=True, slots=True)
class RelativeMargin:
    """A part of the champion's mean by which a challenger may be worse.

    Attributes:
        relative: The part, more than 0: 0.1 allows 10 % more where less is better, 10 % less where more is.
    """

    relative: float


@dataclass(frozen=True, slots=True)
class AbsoluteMargin:
    """A difference from the champion's mean by which a challenger may be worse.

    Attributes:
        absolute: The difference in the metric's unit, more than 0.
    """

    absolute: float


Margin = RelativeMargin | AbsoluteMargin

MARGINS: Final[Mapping[str, type[Margin]]] = {"relative": RelativeMargin, "absolute": AbsoluteMargin}
"""Each margin by the name of its one attribute: its key on the wire, in experiment files and in the store."""


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
        name: 1 to 128 ASCII letters and digits, with `.`, `_`, `-`, `/`, `:` and `@` inside.
        kind: Binary (0 or 1), real (a number in the range) or count (a whole number of events).
        direction: Whether larger or smaller values are better.
        minimum: The smallest value accepted.
        maximum: The largest value accepted.
        clip: True if values outside the range are moved to its nearest end instead of being refused.
        window: How long after its decision an outcome steers; None: outcomes count at once and always.
        default_value: The value of a decision without an outcome in the window; None: it is left out.
        is_guardrail: True if the metric must not get worse; it does not steer.
        prior: The belief before any outcome; None: the weak prior of the kind.
        is_signal: True if a challenger is held where it is while it seems to make the metric worse; the
            metric does not steer, and is no guardrail.
        worse_by: How much worse a challenger may be on a guardrail or a signal; None: not at all.
        is_shadow: True if arms in shadow are compared with the champion in it: it can be measured of an
            answer that nobody saw.

    Raises:
        TypeError: The kind or the direction is neither a member nor the value of one.
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
    is_signal: bool = False
    worse_by: Margin | None = None
    is_shadow: bool = False

    def __post_init__(self) -> None:
        # A str that equals a kind is not the kind, and would count as whole numbers.
        for name, kinds in (("kind", MetricKind), ("direction", Direction)):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                object.__setattr__(self, name, _member(name, kinds, value))

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
        """The value of zero quanta."""
        return self.minimum if self.is_real else 0.0

    @property
    def quantum(self) -> float:
        """The value of one quantum: 1 for whole numbers, range / 2^40 for real ones."""
        return (self.maximum - self.minimum) / N_STEPS if self.kind is _REAL else 1.0

    @property
    def resolution(self) -> float:
        """The smallest difference between two values that is counted: one quantum."""
        return self.quantum

    @property
    def keeps_values(self) -> bool:
        """True if a posted value may differ from the value of its quanta."""
        return self.kind is _REAL or self.clip

    def quantise(self, value: float) -> int:
        """Return the number of quanta nearest to `value`, in [0, 2^40]; of a binary or a count, the value.

        A real value next to the midpoint between two of 2^20 coarse steps is rounded to its own side of the
        midpoint. So rounding its quanta to coarse steps gives the same as rounding the value itself.

        Raises:
            OutcomeValueError: `value` is not finite, outside the range, or not whole where it must be.

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
        """Return the value in the range that counts for a value outside it."""
        if abs(value) < sys.float_info.min:
            value = 0.0  # a subnormal counts as 0
        if not self.minimum <= value <= self.maximum and not self.clip:
            rule = f"it must be in [{exact(self.minimum)}, {exact(self.maximum)}]"
            raise OutcomeValueError(self.name, value, rule)
        return min(max(value, self.minimum), self.maximum)

    def to_value(self, quanta: int) -> float:
        """Return the value of `quanta`."""
        return self.offset + quanta * self.quantum

    @property
    def role(self) -> Role | None:
        """What it is watched for; None for the reward metric, and where it is only reported."""
        if self.is_guardrail:
            return Role.GUARDRAIL
        return Role.SIGNAL if self.is_signal else None

    @property
    def is_harmful_event(self) -> bool:
        """True for a guardrail or signal whose events can only be bad: more of them is never good news."""
        return self.role is not None and self.is_binary and self.direction is Direction.MINIMIZE

    @property
    def counts_early(self) -> bool:
        """True if harm is looked for before the window has closed: by events alone, without the decisions.

        Events alone tell a ratio; a difference needs the number of decisions that are resolved.
        """
        return self.is_harmful_event and not isinstance(self.worse_by, AbsoluteMargin)

    @property
    def effective_prior(self) -> Prior:
        """The declared prior, or the weak one of the kind."""
        return self.prior or self.weak_prior

    @property
    def weak_prior(self) -> Prior:
        """The weak prior of the kind; a declared prior is of the same family.

        Binary: Beta(1, 1). Count: Gamma(1, 1). Real: normal-inverse-gamma centred on the middle of the range,
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


def _member(name: str, kinds: type[MetricKind | Direction], value: str) -> MetricKind | Direction:
    try:
        return kinds(value)
    except ValueError as error:
        raise wrong_type(name, value, f"one of {', '.join(kinds)}") from error


def _nearest(position: float) -> int:
    """Return the nearest whole number; the middle of a coarse step only for exactly that position."""
    quanta = round(position)
    if quanta % _COARSE_STEP == _COARSE_STEP // 2 and quanta != position:
        quanta += 1 if position > quanta else -1
    return quanta
