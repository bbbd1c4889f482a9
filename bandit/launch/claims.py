"""Claims about a challenger in a launch: how far the evidence for each is, against the champion."""

import enum
from dataclasses import dataclass


class ClaimKind(enum.StrEnum):
    """What is claimed of a challenger on a metric."""

    BETTER = "better"
    """It is better on the goal: then it may be promoted."""
    HARM = "harm"
    """It does harm on a guardrail: then it is taken out."""
    SIGNAL = "signal"
    """It seems worse on a signal: then it waits; while it does, that it is not bad: then it goes on."""
    COMPARED = "compared"
    """Nothing is claimed: it is compared in shadow, on a metric that takes nobody out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPairs:
    """Requests that a challenger answered in shadow and the champion for the caller, with outcomes of both.

    Attributes:
        n: The number of pairs.
        shadow: The challenger's mean over them, in the metric's unit.
        champion: The champion's mean over them.
        lower: Its mean is above the champion's by at least this, at every look with a level of .95.
        upper: By at most this.
    """

    n: int
    shadow: float
    champion: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchClaim:
    """One claim about a challenger, and how far its evidence is.

    Attributes:
        metric: The metric.
        kind: What is claimed.
        log_e_value: Ln of the e-value now; None if it can't be given, and where nothing is claimed.
        log_level: Ln of the e-value at which it is established; None likewise.
        is_held: Whether it is a signal that holds the challenger: then the claim is that it is no longer bad.
        unsaid: Why the e-value can't be given; empty if it is.
        pairs: The comparison in shadow, of a metric with `shadow`, once there is a pair.
    """

    metric: str
    kind: ClaimKind
    log_e_value: float | None = None
    log_level: float | None = None
    is_held: bool = False
    unsaid: str = ""
    pairs: ShadowPairs | None = None

    @property
    def is_established(self) -> bool:
        """Whether the e-value has reached the level; of a signal, whether it holds the challenger."""
        if self.kind is ClaimKind.SIGNAL:
            return self.is_held
        if self.log_e_value is None or self.log_level is None:
            return False
        return self.log_e_value >= self.log_level
