"""The client against the real service, in its own process."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bandit.client import (
    AsyncBanditClient,
    BanditClient,
    Fallback,
    InvalidArgumentError,
    OutcomeResult,
    RetryPolicy,
)
from bandit.v1 import experiment_pb2
from benchmarks.harness.processes import free_port
from tests.bandit.client import programs
from tests.support.process import ServerProcess

EXPERIMENT = experiment_pb2.Experiment(
    name="ranker",
    arms=[experiment_pb2.Arm(id="v1", model_uri="s3://v1"), experiment_pb2.Arm(id="v2", model_uri="s3://v2")],
    champion="v1",
    metrics=[experiment_pb2.Metric(name="click", kind=experiment_pb2.METRIC_KIND_BINARY)],
    reward_metric="click",
)


@pytest.fixture
def server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """The service, with an empty database, at a port that it can reuse."""
    return start_server(port=free_port())


@pytest.fixture
def client(server: ServerProcess) -> Iterator[BanditClient]:
    """A client of it, with the experiment running."""
    with BanditClient(server.address, choose_timeout=10.0, retry=RetryPolicy(timeout=60.0)) as opened:
        opened.experiments.create(EXPERIMENT)
        opened.experiments.start("ranker")
        yield opened


def test_choice_is_rewarded_once(client: BanditClient, fallback: Fallback) -> None:
    """The service's choice arrives complete, and its reward is recorded once however often it is posted."""
    choice = client.choose("ranker", unit="user-1", fallback=fallback)
    assert (choice.is_fallback, choice.propensity, choice.epoch) == (False, 0.5, 1)
    assert choice.model_uri == f"s3://{choice.arm}"
    posted = [client.reward(choice, {"click": 1.0}).metric_to_result["click"] for _ in range(2)]
    assert posted == [OutcomeResult.RECORDED, OutcomeResult.DUPLICATE]


def test_violations_arrive(client: BanditClient, fallback: Fallback) -> None:
    """The service's field violations are in the typed error."""
    choice = client.choose("ranker", fallback=fallback)
    with pytest.raises(InvalidArgumentError) as raised:
        client.reward(choice, {"click": 2.0})
    assert [violation.field for violation in raised.value.field_violations] == ["outcomes['click']"]


def test_reward_survives_a_restart(
    client: BanditClient,
    server: ServerProcess,
    start_server: Callable[..., ServerProcess],
    fallback: Fallback,
) -> None:
    """A service that is killed costs a fallback while it is down, and no reward once it is back."""
    choice = client.choose("ranker", unit="user-1", fallback=fallback)
    server.kill()
    assert client.choose("ranker", unit="user-1", fallback=fallback).is_fallback
    start_server(port=server.port)
    assert client.reward(choice, {"click": 1.0}).metric_to_result == {"click": OutcomeResult.RECORDED}
    assert client.choose("ranker", unit="user-1", fallback=fallback).arm == choice.arm


def test_a_loop_for_each_call(client: BanditClient, server: ServerProcess, fallback: Fallback) -> None:
    """The asyncio client asks and rewards with an event loop for each call."""
    other = AsyncBanditClient(server.address, choose_timeout=10.0)
    expected = client.choose("ranker", unit="user-1", fallback=fallback).arm
    for _ in range(3):
        choice = asyncio.run(other.choose("ranker", unit="user-1", fallback=fallback))
        assert (choice.arm, choice.fallback_cause) == (expected, None)
        assert "click" in asyncio.run(other.reward(choice, {"click": 1.0})).metric_to_result
    assert asyncio.run(other.experiments.get("ranker")).name == "ranker"
    asyncio.run(other.close())


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_workers_that_are_forked(server: ServerProcess, kind: str, tmp_path: Path) -> None:
    """Forked workers decide and reward with a client of their parent, which first calls after the fork."""
    program = f"""
client = make({kind!r})
def work():
    choice = settle(client.choose("ranker", fallback=FALLBACK))
    expect(choice.fallback_cause, None)
    expect(settle(client.reward(choice, {{"click": 1.0}})).metric_to_result, {{"click": "recorded"}})
workers = [in_child(work) for _ in range(3)]
work()
for worker in workers:
    join(worker)
join(in_child(lambda: expect(choose(client), "FORKED")))
work()
"""
    programs.run(program, server.address, tmp_path)
