"""What a backend imports: Choose and Reward with deadlines, retries and a fallback arm.

    client = BanditClient("127.0.0.1:50051")
    choice = client.choose("ranker", unit=user_id, fallback=Fallback("v1"))
    client.reward(choice, {"click": 1.0})

`choose` always answers with an arm: the service's, or the caller's fallback when the service is slow, down or
refuses. `reward` may be called again and again: a decision counts once for each metric. `AsyncBanditClient`
has the same methods as coroutines. Both stand on grpcio and protobuf alone.
"""

from bandit.client.async_client import AsyncBanditClient
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
from bandit.client.retry import RetryPolicy
from bandit.client.sync_client import BanditClient
from bandit.client.values import (
    Choice,
    Fallback,
    JsonValue,
    OutcomeResult,
    Question,
    Reason,
    Reward,
    RewardResult,
)

__all__ = [
    "AccessError",
    "AlreadyExistsError",
    "AsyncBanditClient",
    "BanditClient",
    "CallError",
    "Choice",
    "ConflictError",
    "FailedPreconditionError",
    "Fallback",
    "FieldViolation",
    "InternalError",
    "InvalidArgumentError",
    "JsonValue",
    "NotFoundError",
    "OutcomeResult",
    "Question",
    "Reason",
    "RetryPolicy",
    "Reward",
    "RewardResult",
    "Tls",
    "UnavailableError",
]
