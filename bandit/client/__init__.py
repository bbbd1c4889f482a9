"""The client that a backend imports: Choose and Reward with deadlines, retries and a fallback arm.

    client = BanditClient("127.0.0.1:50051")
    choice = client.choose("ranker", unit=user_id, fallback=Fallback("v1"))
    client.reward(choice, {"click": 1.0})

`choose` always returns an arm: the service's, or the caller's fallback when the service is slow, down or
refuses. `reward` may be called any number of times: a decision counts once for each metric.
`AsyncBanditClient` has the same methods as coroutines. Both need only grpcio and protobuf.
`RewardOutbox` keeps rewards in a file until the service has acknowledged them.

They are one client, written for asyncio in `aio/`. The blocking one, `blocking/`, is generated from it by
`python protos/generate_client.py`; `transport` holds what truly differs between the two.
"""

from bandit.client.aio.client import AsyncBanditClient
from bandit.client.blocking.client import BanditClient
from bandit.client.counts import ClientEvent, Counts, EventKind
from bandit.client.credentials import Tls
from bandit.client.errors import (
    AccessError,
    AlreadyExistsError,
    CallError,
    ConflictError,
    FailedPreconditionError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from bandit.client.outbox.errors import OutboxClosedError, OutboxError, OutboxFileError, OutboxFullError
from bandit.client.outbox.outbox import RewardOutbox
from bandit.client.outbox.refused import RefusedReward
from bandit.client.retry import RetryPolicy
from bandit.client.values import (
    Choice,
    Fallback,
    JsonValue,
    OutcomeResult,
    Question,
    Reason,
    Reward,
    RewardResult,
    ShadowDecision,
)

__all__ = [
    "AccessError",
    "AlreadyExistsError",
    "AsyncBanditClient",
    "BanditClient",
    "CallError",
    "Choice",
    "ClientEvent",
    "ConflictError",
    "Counts",
    "EventKind",
    "FailedPreconditionError",
    "Fallback",
    "FieldViolation",
    "InternalError",
    "InvalidArgumentError",
    "JsonValue",
    "NotFoundError",
    "OutboxClosedError",
    "OutboxError",
    "OutboxFileError",
    "OutboxFullError",
    "OutcomeResult",
    "Question",
    "Reason",
    "RefusedReward",
    "RetryPolicy",
    "Reward",
    "RewardOutbox",
    "RewardResult",
    "ShadowDecision",
    "Tls",
    "UnavailableError",
]
