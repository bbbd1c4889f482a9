"""What calls leave behind when they have ended."""

import asyncio
import gc
from collections.abc import Sequence
from typing import cast

import pytest

from server.http2.exchange import Exchange, Headers
from server.http2.peer import PeerInfo
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.unary import UnaryCall, UnaryMethod, joint_turns
from server.rpc.fast_lane.framing import framed
from server.rpc.fast_lane.peer import CallPeer
from server.rpc.guard.calls import GuardedMethod, Outcome
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import STOPPING
from tests.http2.bench import Bench, bytes_of, request
from tests.http2.scripted import Script


class Echo:
    """A method that answers with its request, and fails without one."""

    def call(self, data: bytes, peer: Peer) -> Outcome:
        """Answer."""
        del peer
        return data or STOPPING

    def call_each(self, calls: Sequence[tuple[bytes, Peer]]) -> list[Outcome]:
        """Answer each."""
        return [self.call(data, peer) for data, peer in calls]


class Calls(Script):
    """Makes a call of each stream."""

    def __init__(self, *, are_joint: bool) -> None:
        super().__init__()
        echo = cast("GuardedMethod", Echo())
        joint = joint_turns(echo) if are_joint else None
        self._method = UnaryMethod(guarded=echo, joint=joint, refuse=lambda _: STOPPING, now=lambda: 0.0)

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Begin it."""
        return UnaryCall(stream, headers, self._method, CallPeer(PeerInfo(), None))


@pytest.mark.parametrize("are_joint", [False, True])
async def test_a_call_is_freed_when_it_ends(*, are_joint: bool) -> None:
    """No circle of references is left for Python's collector, which walks all young objects to find one."""
    bench = Bench(session=Calls(are_joint=are_joint))
    first = bench.send(request(1, body=framed(b"hello")))
    await asyncio.sleep(0)
    assert bytes_of(first + bench.send(), 1) == framed(b"hello")
    gc.collect()
    gc.disable()
    try:
        bench.send(*(request(number, body=framed(b"hello")) for number in range(3, 103, 2)))
        bench.send(*(request(number, body=framed(b"")) for number in range(103, 203, 2)))
        await asyncio.sleep(0)
        bench.send()
        assert gc.collect() == 0
    finally:
        gc.enable()
