"""Experiments for the load: created and started through RPC, as an operator's tools would."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import grpc
import uvloop
from google.protobuf.struct_pb2 import Struct

from bandit.client import AsyncBanditClient
from bandit.v1 import bandit_pb2
from bandit.v1 import experiment_pb2 as pb
from benchmarks.harness.workloads import BATCH_CHOOSE, BATCH_SIZE, CHOOSE, METRIC, Stub

_N_CONCURRENT: Final = 16
_CALL_SECONDS: Final = 120.0


def named(n_arms: int, n_experiments: int) -> list[str]:
    """Return names of `n_experiments` experiments with this many arms.

    >>> named(10, 2)
    ['arms-10-0', 'arms-10-1']
    """
    return [f"arms-{n_arms}-{number}" for number in range(n_experiments)]


def declaration(name: str, n_arms: int) -> pb.Experiment:
    """Return an experiment whose arms carry what a real one's would: a model URI and a small payload."""
    arms = []
    for number in range(n_arms):
        payload = Struct()
        payload["temperature"] = number / n_arms
        arms.append(pb.Arm(id=f"v{number}", model_uri=f"models:/ranker/{number}", payload=payload))
    metric = pb.Metric(name=METRIC, kind=pb.METRIC_KIND_BINARY)
    return pb.Experiment(name=name, arms=arms, champion="v0", metrics=[metric], reward_metric=METRIC)


def declare(address: str, names_of_arms: dict[int, Sequence[str]], on_started: Callable[[int], None]) -> None:
    """Create and start experiments, several at a time, and query each once so that it is compiled.

    Args:
        address: The server.
        names_of_arms: Number of arms mapped to names of experiments with that number.
        on_started: Called with how many more have started.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_declare_all(address, names_of_arms, on_started))


def response_bytes(address: str, experiment: str) -> int:
    """Return the size of an answer of Choose."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        request = bandit_pb2.ChooseRequest(experiment=experiment, unit="user-1")
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHOOSE)
        return len(ask(request.SerializeToString(), timeout=10))


async def _declare_all(
    address: str, names_of_arms: dict[int, Sequence[str]], on_started: Callable[[int], None]
) -> None:
    waiting = iter([declaration(name, n) for n, names in names_of_arms.items() for name in names])
    async with AsyncBanditClient(address, experiment_timeout=_CALL_SECONDS) as client:
        workers = [_declare_each(client, waiting, on_started) for _ in range(_N_CONCURRENT)]
        await asyncio.gather(*workers)
    await _ask_each(address, [name for names in names_of_arms.values() for name in names])


async def _declare_each(
    client: AsyncBanditClient, waiting: Iterator[pb.Experiment], on_started: Callable[[int], None]
) -> None:
    for experiment in waiting:
        await client.experiments.create(experiment)
        await client.experiments.start(experiment.name)
        on_started(1)


async def _ask_each(address: str, names: Sequence[str]) -> None:
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask: Stub = channel.unary_unary(BATCH_CHOOSE)
        for start in range(0, len(names), BATCH_SIZE):
            questions = [
                bandit_pb2.ChooseRequest(experiment=name) for name in names[start : start + BATCH_SIZE]
            ]
            await ask(bandit_pb2.BatchChooseRequest(requests=questions).SerializeToString())
