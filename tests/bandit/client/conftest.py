"""Fixtures of the client's tests: a scripted peer, and both clients of it.

Tests that take `client` run on the blocking client and on that of asyncio: `settle` awaits the result if
necessary.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bandit.client import AsyncBanditClient, BanditClient, Fallback, RetryPolicy, RewardOutbox
from bandit.v1 import bandit_pb2
from tests.bandit.client import programs
from tests.bandit.client.outbox.outboxes import NOBODY, OpenOutbox
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    answer,
    choose_each,
    settle,
)


@pytest.fixture
def script() -> Script:
    """The peer's behaviour."""
    return Script()


@pytest.fixture
def peer(script: Script) -> Iterator[Peer]:
    """A server that plays the script."""
    server = Peer(script)
    yield server
    script.released.set()
    server.stop()


@pytest.fixture
def retry() -> RetryPolicy:
    """Retries without long waits."""
    return RetryPolicy(initial_backoff=0.001, maximum_backoff=0.01)


@pytest.fixture(params=[BanditClient, AsyncBanditClient])
async def new_client(request: pytest.FixtureRequest) -> AsyncIterator[ClientFactory]:
    """Makes clients of either kind; closes them at the end."""
    factory = ClientFactory(request.param)
    yield factory
    for client in factory.clients:
        await settle(client.close())


@pytest.fixture
def client(new_client: ClientFactory, peer: Peer, retry: RetryPolicy) -> AnyClient:
    """A client of the peer, of either kind, with timeouts for a busy machine."""
    return new_client(peer.target, choose_timeout=10.0, batch_choose_timeout=10.0, retry=retry)


@pytest.fixture
def streaming(new_client: ClientFactory, peer: Peer, retry: RetryPolicy) -> AnyClient:
    """As `client`, with a stream."""
    return new_client(peer.target, choose_timeout=10.0, batch_choose_timeout=10.0, retry=retry, stream=True)


@pytest.fixture
def fallback() -> Fallback:
    """The caller's own fallback."""
    return Fallback("v0", {"temperature": 0.2})


@pytest.fixture
def run_program(peer: Peer, tmp_path: Path) -> programs.Run:
    """Runs a program in a process of its own, against a peer that chooses v1 and records rewards."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    peer.script.on_stream(choose_each())
    recorded = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
    peer.script.on("Reward", answer(recorded))
    return lambda program, environment=None: programs.run(program, peer.target, tmp_path, environment)


@pytest.fixture
def open_outbox(tmp_path: Path) -> Iterator[OpenOutbox]:
    """Open outboxes on `rewards.db` in the test's folder, closed at the end."""
    opened: list[tuple[RewardOutbox, BanditClient]] = []

    def open_one(target: str = NOBODY, **bounds: int) -> RewardOutbox:
        client = BanditClient(target, retry=RetryPolicy(timeout=0.2, maximum_backoff=0.05))
        outbox = RewardOutbox(tmp_path / "rewards.db", client, **bounds)
        opened.append((outbox, client))
        return outbox

    yield open_one
    for outbox, client in opened:
        outbox.close(0)
        client.close()
