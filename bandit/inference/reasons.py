"""What cannot be said, and why: the other half of every result of this package.

A function that has too little to go on returns a `CannotSay` in place of its result. It never returns NaN and
never guesses; callers show the explanation or map the reason to words of their own.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Reason(enum.StrEnum):
    """Why something cannot be said."""

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
    Reason.NO_WINDOW: "the metric has no window, so silence and outcomes cannot be counted on one clock",
    Reason.NO_CLOSED_EPOCH: "no epoch has closed yet: the window of its last decisions is still open",
    Reason.NO_DECISIONS: "no decision drawn from the shares has been resolved yet",
    Reason.ARM_WITHOUT_SHARE: "there is no closed epoch in which every arm compared had a share",
    Reason.SHARES_BELOW_FLOOR: "in every closed epoch a share was below the floor of the bounds",
    Reason.ARM_WITHOUT_OUTCOMES: "an arm has no resolved decision in the epochs that count",
    Reason.UNEQUAL_RESPONSE: "outcomes come for some arms more often than for others",
    Reason.REPEATED_UNITS: "units come back, and each of their decisions would count as a new one",
    Reason.NOT_YES_NO: "the metric is not yes/no, so it has no events whose arms could be counted",
    Reason.NO_EVENTS: "neither arm has had an event in the epochs that count",
    Reason.NO_RATIO_SCALE: "the metric may be negative, so a ratio of its means has no meaning",
    Reason.NO_EFFECT_PLANNED: "without a lift, traffic and a share for both arms there is nothing to find",
}


@dataclass(frozen=True, slots=True)
class CannotSay:
    """In place of a result: why there is none.

    >>> CannotSay(Reason.NO_CLOSED_EPOCH).explanation
    'no epoch has closed yet: the window of its last decisions is still open'
    """

    reason: Reason

    @property
    def explanation(self) -> str:
        """The reason in words, for people; a clause without a full stop."""
        return _EXPLANATIONS[self.reason]
