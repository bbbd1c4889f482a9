"""Under gevent, which puts greenlets in the place of threads, the asyncio client serves the fallback.

grpc.aio and streams would wait in C in what they take for threads of their own, and hold up the process for
ever. gevent is not installed for the tests: what it does to a thread is to run it in that of its caller.
"""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from bandit.client import AsyncBanditClient, BanditClient, Fallback, UnavailableError
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import Peer, Script, answer, choose_each

V0 = Fallback("v0")


class Greenlet(threading.Thread):
    """A thread that is none."""

    def start(self) -> None:
        """Run to the end, in the thread of the caller."""
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """Return: it has run."""


@pytest.fixture(autouse=True)
def _greenlets(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """Threads are greenlets, and the peer chooses v1; streams choose v2."""
    greenlets = SimpleNamespace(Thread=Greenlet, RLock=threading.RLock, get_native_id=threading.get_native_id)
    monkeypatch.setattr("bandit.client.transport.threading", greenlets)  # the peer has true threads
    script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    script.on_stream(choose_each("v2"))


@pytest.mark.parametrize("stream", [False, True])
def test_asyncio_client_serves_the_fallback(peer: Peer, *, stream: bool) -> None:
    """Calls fail at once, with a cause that names what to use instead."""

    async def call() -> None:
        client = AsyncBanditClient(peer.target, choose_timeout=30.0, stream=stream)
        cause = (await client.choose("ranker", fallback=V0)).fallback_cause
        assert isinstance(cause, UnavailableError)
        assert (cause.reason, "use BanditClient" in cause.message) == ("NO_THREADS", True)
        with pytest.raises(UnavailableError, match="NO_THREADS"):
            await client.reward("signed", {"click": 1.0})
        async with client.serve("ranker", fallback=V0) as choice:
            assert choice.is_fallback
        await client.close()

    asyncio.run(call())


@pytest.mark.parametrize("stream", [False, True])
def test_blocking_client_works(peer: Peer, *, stream: bool) -> None:
    """The blocking client needs no such thread for calls, and so makes calls of all choices."""
    with BanditClient(peer.target, choose_timeout=30.0, stream=stream) as client:
        assert client.choose("ranker", fallback=V0).arm == "v1"
