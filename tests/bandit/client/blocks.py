"""Blocks of `serve` of either client, and a peer that records what they post as the service does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import grpc

from bandit.client import Choice
from bandit.client.aio.serving import AsyncServing
from bandit.client.blocking.serving import Serving
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, Behaviour, Script, settle
from tests.support.process import eventually

ALL = frozenset({"latency_ms", "error", "no_answer"})


@asynccontextmanager
async def entered(block: Serving | AsyncServing) -> AsyncIterator[Choice]:
    """Enter a block of either client."""
    if isinstance(block, AsyncServing):
        async with block as choice:
            yield choice
    else:
        with block as choice:
            yield choice


async def leave(block: Serving | AsyncServing, error: BaseException | None) -> object:
    """Leave a block of either client as `with` does; true if it swallows the error."""
    close: Callable[..., object] = block.__exit__ if isinstance(block, Serving) else block.__aexit__
    return await settle(close(None if error is None else type(error), error, None))


async def until(is_so: Callable[[], object]) -> None:
    """Wait for it, without holding up the event loop in which the client works."""
    await asyncio.to_thread(eventually, is_so)


def has_posted(client: AnyClient, n_outcomes: int) -> bool:
    """True if so many outcomes have been recorded."""
    return client.counts.n_posted == n_outcomes


def results_of(
    request: bandit_pb2.RewardRequest, declared: Collection[str], longest: float
) -> bandit_pb2.BatchRewardResult:
    """What the service makes of one reward where these metrics are declared, and latencies have a maximum."""
    violations = [
        bandit_pb2.FieldViolation(
            field=f"outcomes['{name}']", description="experiment 'ranker' has no such metric"
        )
        for name in request.outcomes
        if name not in declared
    ]
    latency = request.outcomes.get("latency_ms", 0.0) if "latency_ms" in request.outcomes else 0.0
    if "latency_ms" in declared and latency > longest:
        rule = f"{latency!r}: it must be in [0, {longest:g}]"
        violations.append(bandit_pb2.FieldViolation(field="outcomes['latency_ms']", description=rule))
    if violations:
        code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
        status = bandit_pb2.Status(
            code=code, message="no", reason="INVALID_INPUT", field_violations=violations
        )
        return bandit_pb2.BatchRewardResult(error=status)
    recorded = dict.fromkeys(request.outcomes, bandit_pb2.OUTCOME_RESULT_RECORDED)
    return bandit_pb2.BatchRewardResult(reward=bandit_pb2.RewardResponse(results=recorded))


def records(declared: Collection[str] = ALL, longest: float = 1e9) -> Behaviour:
    """Answer a batch of rewards as the service does for an experiment with these metrics."""

    def behave(request: bytes, _context: grpc.ServicerContext) -> bytes:
        requests = bandit_pb2.BatchRewardRequest.FromString(request).requests
        results = [results_of(each, declared, longest) for each in requests]
        return bandit_pb2.BatchRewardResponse(results=results).SerializeToString()

    return behave


def posted(script: Script) -> list[dict[str, float]]:
    """Return the outcomes of every reward that was sent in a batch, in order."""
    batches = map(bandit_pb2.BatchRewardRequest.FromString, script.requests("BatchReward"))
    return [dict(each.outcomes) for batch in batches for each in batch.requests]
