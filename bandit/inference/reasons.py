"""Reasons for a missing result: the other half of every return type of this package.

A function without enough data returns a `CannotSay` instead of its result, and never NaN or a guess. Callers
show its explanation, or map the reason to their own words.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Reason(enum.StrEnum):
    """Why a result is missing."""

    NO_WINDOW = "no-window"
    NO_CLOSED_EPOCH = "no-closed-epoch"
    NO_DECISIONS = "no-decisions"
    ARM_WITHOUT_SHARE = "arm-without-share"
    SHARES_BELOW_FLOOR = "shares-below-floor"
    ARM_WITHOUT_OUTCOMES = "arm-without-outcomes"
    UNEQUAL_RESPONSE = "unequal-response"
    REPEATED_UNITS = "repeated-units"
    NOT_YES_NO = "not-yes-no"
    NO_EVENTS = "no-events"
    NO_RATIO_SCALE = "no-ratio-scale"
    NO_EFFECT_PLANNED = "no-effect-planned"


_EXPLANATIONS: Final = {
    Reason.NO_WINDOW: "the metric has no window, so a missing outcome never counts as silence",
    Reason.NO_CLOSED_EPOCH: "no epoch has closed yet: the window of its last decisions is still open",
    Reason.NO_DECISIONS: "no decision drawn from the shares has been resolved yet",
    Reason.ARM_WITHOUT_SHARE: "in no closed epoch did all compared arms have a share",
    Reason.SHARES_BELOW_FLOOR: "in every closed epoch a share was below the floor that bounds rely on",
    Reason.ARM_WITHOUT_OUTCOMES: "an arm has no resolved decision in the epochs that count",
    Reason.UNEQUAL_RESPONSE: "decisions of some arms get an outcome more often than those of others",
    Reason.REPEATED_UNITS: "units come back, and each of their decisions would count as a new one",
    Reason.NOT_YES_NO: "the metric is not yes/no, so it has no events to count",
    Reason.NO_EVENTS: "neither arm has had an event in the epochs that count",
    Reason.NO_RATIO_SCALE: "the metric may be negative, so a ratio of its means has no meaning",
    Reason.NO_EFFECT_PLANNED: "a plan needs a lift, traffic and a share for both arms",
}


@dataclass(frozen=True, slots=True)
class CannotSay:
    """The reason for a missing result, returned instead of it.

    >>> CannotSay(Reason.NO_CLOSED_EPOCH).explanation
    'no epoch has closed yet: the window of its last decisions is still open'
    """

    reason: Reason

    @property
    def explanation(self) -> str:
        """The reason in words; a clause without a full stop."""
        return _EXPLANATIONS[self.reason]
