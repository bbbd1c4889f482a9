"""What a launch is forecast to do: the values that `bandit.inference.planning.launch` returns."""

from dataclasses import dataclass
from typing import Final

from bandit.inference.planning.walk import StepTime
from bandit.metric import Metric

HARMS: Final = (1.25, 1.5, 2.0, 5.0)
"""Times by which a challenger is worse on a guardrail, for which findings are forecast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A yes/no guardrail, and the champion's rate of it.

    Attributes:
        metric: The guardrail.
        base: The champion's rate, in (0, 1).
    """

    metric: Metric
    base: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The probability that something goes wrong although the challengers are as good as the champion.

    Attributes:
        bound: An upper bound for the declared challengers together, at any traffic.
        bound_of_all: An upper bound, however many challengers are added later.
        simulated: The probability for the first challenger at this traffic, as simulated; None if it was not.
    """

    bound: float
    bound_of_all: float
    simulated: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionForecast:
    """When the first challenger is promoted if it has the lift.

    Attributes:
        earliest: Day from which the bandit stage allows it.
        ends: Day on which the bandit stage ends without it.
        probability: That it is promoted by then.
        day: Median day; infinite if fewer than half are.
        quartiles: Quartiles of the day; infinite likewise.
    """

    earliest: float
    ends: float
    probability: float
    day: float
    quartiles: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmForecast:
    """When a guardrail takes out a challenger that is some times worse.

    Attributes:
        times: How many times worse.
        probability: That it is taken out before the bandit stage ends.
        day: Median day from the start of the launch; infinite if fewer than half are.
        decisions: Decisions over all arms by then.
        last_day: The same day for the last of the declared challengers, whose level is stricter.
    """

    times: float
    probability: float
    day: float
    decisions: float
    last_day: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailForecast:
    """What a guardrail finds, and when.

    Attributes:
        guardrail: The guardrail.
        harms: For each of `HARMS`, as far as rates allow.
        false: The probability that it takes out a first challenger that is like the champion.
    """

    guardrail: Guardrail
    harms: tuple[HarmForecast, ...]
    false: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldbackForecast:
    """The loss of the reward metric that a holdback can see.

    Attributes:
        days: How long it lasts.
        at_half: The smallest loss, as a part of the former champion's mean, that is seen with a probability
            of about .5; infinite if none is.
        at_most: The same for .8.
    """

    days: float
    at_half: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchForecast:
    """What to expect of a launch.

    Attributes:
        steps: The steps with their times.
        promotion: When the first challenger is promoted; None if a step before the bandit stage never ends.
        false_promotion: The risk that a challenger without a lift is promoted.
        false_rollback: The risk that a challenger without harm is taken out.
        guardrails: What the guardrails find.
        holdback: What the holdback sees; None without one.
        n_runs: Runs of each simulation.
    """

    steps: tuple[StepTime, ...]
    promotion: PromotionForecast | None
    false_promotion: Risk
    false_rollback: Risk
    guardrails: tuple[GuardrailForecast, ...]
    holdback: HoldbackForecast | None
    n_runs: int
