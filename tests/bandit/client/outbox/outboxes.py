"""Outboxes of tests, and what a peer answers to the rewards that they send."""

from collections.abc import Callable

import grpc

from bandit.client import RewardOutbox
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import Behaviour, Script

NOBODY = "127.0.0.1:1"
OpenOutbox = Callable[..., RewardOutbox]


def judge(verdict: Callable[[bandit_pb2.RewardRequest], bandit_pb2.Status | None]) -> Behaviour:
    """Answer a BatchReward, with an error for each reward that `verdict` has one for."""

    def behave(request: bytes, _context: grpc.ServicerContext) -> bytes:
        answers = []
        for each in bandit_pb2.BatchRewardRequest.FromString(request).requests:
            error = verdict(each)
            results = dict.fromkeys(each.outcomes, bandit_pb2.OUTCOME_RESULT_RECORDED)
            answer = bandit_pb2.RewardResponse(results=results)
            answers.append(
                bandit_pb2.BatchRewardResult(reward=answer)
                if error is None
                else bandit_pb2.BatchRewardResult(error=error)
            )
        return bandit_pb2.BatchRewardResponse(results=answers).SerializeToString()

    return behave


def posted(script: Script) -> list[str]:
    """Return the decision ids that arrived, call after call."""
    calls = script.requests("BatchReward")
    return [
        each.decision_id for call in calls for each in bandit_pb2.BatchRewardRequest.FromString(call).requests
    ]


def keep(outbox: RewardOutbox, prefix: str, n_rewards: int) -> None:
    """Keep rewards of different decisions."""
    for number in range(n_rewards):
        outbox.reward(f"{prefix}{number}", {"click": 1.0})
