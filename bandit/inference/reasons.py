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
    CHAMPION_AT_ZERO = "champion-at-zero"
    BOTH_AT_ZERO = "both-at-zero"
    FEW_DECISIONS = "few-decisions"
    SPLIT_IN_FORCE = "split-in-force"
    NO_CHALLENGER = "no-challenger"
    NO_TRAFFIC = "no-traffic"
    NOT_OBSERVED = "not-observed"
    NO_LIFT = "no-lift"
    MEAN_OUT_OF_RANGE = "mean-out-of-range"
    LIFT_OUT_OF_RANGE = "lift-out-of-range"
    CHAMPION_WITHOUT_PLANNED_SHARE = "champion-without-planned-share"
    CHALLENGER_WITHOUT_PLANNED_SHARE = "challenger-without-planned-share"
    NO_PAIRS = "no-pairs"
    EDGE_OUT_OF_RANGE = "edge-out-of-range"


_EXPLANATIONS: Final = {
    Reason.NO_WINDOW: "the metric has no window, so a missing outcome never counts as silence",
    Reason.NO_CLOSED_EPOCH: "no epoch has closed yet: the window of its last decisions is still open",
    Reason.NO_DECISIONS: "no decision drawn from the shares has been resolved yet",
    Reason.ARM_WITHOUT_SHARE: "in no closed epoch did all compared arms have a share",
    Reason.SHARES_BELOW_FLOOR: (
        "in every closed epoch a share was below the floor that bounds rely on: declare a minimum share of "
        "at least 1 % for every arm"
    ),
    Reason.ARM_WITHOUT_OUTCOMES: "an arm has no resolved decision in the epochs that count",
    Reason.UNEQUAL_RESPONSE: "decisions of some arms get an outcome more often than those of others",
    Reason.REPEATED_UNITS: "units come back, and each of their decisions would count as a new one",
    Reason.NOT_YES_NO: "the metric is not yes/no, so it has no events to count",
    Reason.NO_EVENTS: "neither arm has had an event in the epochs that count",
    Reason.NO_RATIO_SCALE: "the metric may be negative, so a ratio of its means has no meaning",
    Reason.CHAMPION_AT_ZERO: "the champion's mean is 0, so a change relative to it has no value",
    Reason.BOTH_AT_ZERO: "both means are 0, so their ratio has no value",
    Reason.FEW_DECISIONS: "only the first decisions are in, and they say what is to be expected of the next",
    Reason.SPLIT_IN_FORCE: "the shares then were those of the split, so there is no gain to estimate",
    Reason.NO_CHALLENGER: "there is no challenger in service",
    Reason.NO_TRAFFIC: "no decision is drawn from the shares, so the traffic is 0",
    Reason.NOT_OBSERVED: "the champion has no outcome yet, so its mean is not known",
    Reason.NO_LIFT: "the lift is 0, so there is nothing to see",
    Reason.MEAN_OUT_OF_RANGE: "the champion's mean lies outside the metric's range",
    Reason.LIFT_OUT_OF_RANGE: "the mean after the lift lies outside the metric's range",
    Reason.CHAMPION_WITHOUT_PLANNED_SHARE: "the champion gets no share",
    Reason.CHALLENGER_WITHOUT_PLANNED_SHARE: "the challenger gets no share",
    Reason.NO_PAIRS: "no request has an outcome of the shadow and one of the champion yet",
    Reason.EDGE_OUT_OF_RANGE: "the metric's range leaves no room beyond the margin",
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
