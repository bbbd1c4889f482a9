"""What the service refused for good, for a person to look at."""

from dataclasses import dataclass
from datetime import datetime

from bandit.client.values import Reward


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedReward:
    """A reward that the service refused for good.

    Attributes:
        number: its number in the outbox, for `retry_refused` and `drop_refused`.
        reward: what was posted.
        refused_at: when, in UTC by this machine's clock.
        status: the canonical status, such as `FAILED_PRECONDITION`.
        reason: the service's stable reason, such as `DECISION_EXPIRED`; empty if there was none.
        message: a text for developers.
    """

    number: int
    reward: Reward
    refused_at: datetime
    status: str
    reason: str
    message: str
