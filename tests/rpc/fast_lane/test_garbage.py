"""What calls leave behind when they have ended."""

import gc
from typing import cast

from server.http2.exchange import Exchange, Headers
from server.http2.peer import PeerInfo
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.unary import UnaryCall
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


class Calls(Script):
    """Makes a call of each stream."""

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Begin it."""
        method = cast("GuardedMethod", Echo())
        return UnaryCall(stream, headers, method, CallPeer(PeerInfo(), None), lambda _: STOPPING, lambda: 0.0)


def test_a_call_is_freed_when_it_ends() -> None:
    """No circle of references is left for Python's collector, which walks all young objects to find one."""
    bench = Bench(session=Calls())
    assert bytes_of(bench.send(request(1, body=framed(b"hello"))), 1) == framed(b"hello")
    gc.collect()
    gc.disable()
    try:
        bench.send(*(request(number, body=framed(b"hello")) for number in range(3, 103, 2)))
        bench.send(*(request(number, body=framed(b"")) for number in range(103, 203, 2)))
        assert gc.collect() == 0
    finally:
        gc.enable()
