"""A batch of rewards that is posted, and what its answers mean for each reward."""

from collections.abc import Sequence
from typing import Final

import grpc

from bandit.client.blocking.client import BanditClient
from bandit.client.errors import (
    AccessError,
    AlreadyExistsError,
    CallError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from bandit.client.values import Reward, RewardResult

Answer = RewardResult | CallError

MOST_BYTES: Final = 512 * 1024
"""Estimated bytes of one call, far below the 1 MiB that the service reads."""

_OF_ONE_REWARD: Final = (InvalidArgumentError, NotFoundError, AlreadyExistsError, FailedPreconditionError)


def is_refusal(error: CallError) -> bool:
    """True if the reward itself is at fault, so that the service will refuse it until it is corrected.

    Credentials, outages and defects of the service are no fault of a reward.
    """
    is_too_large = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not error.is_retryable
    return isinstance(error, _OF_ONE_REWARD) or is_too_large


def find_common_failure(answers: Sequence[Answer]) -> CallError | None:
    """Return the error of the call as a whole; None if the service answered the rewards one by one."""
    first = answers[0] if answers else None
    if isinstance(first, CallError) and all(answer is first for answer in answers):
        return first
    return None


def post(client: BanditClient, rewards: Sequence[Reward]) -> list[Answer]:
    """Post rewards, at most 1,000; return an answer for each, in order.

    A call that is refused as a whole for what it contains is made again in halves, so that one reward that no
    call can hold does not take others with it.
    """
    answers = client.batch_reward(rewards)
    failure = find_common_failure(answers)
    if failure is None or len(rewards) == 1 or isinstance(failure, AccessError) or not is_refusal(failure):
        return answers
    half = len(rewards) // 2
    return [*post(client, rewards[:half]), *post(client, rewards[half:])]


def estimate_bytes(reward: Reward) -> int:
    """Return at least as many bytes as a reward takes in a call."""
    decision = reward.decision if isinstance(reward.decision, str) else reward.decision.decision_id
    return 24 + 4 * len(decision) + sum(4 * len(metric) + 24 for metric in reward.outcomes)
