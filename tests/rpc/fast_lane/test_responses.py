"""Statuses as header blocks, read by grpcio: any text, and details in bytes."""

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Thread
from typing import Final, cast

import grpc
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http2.exchange import Exchange, Headers
from server.http2.streams import Stream
from server.rpc.fast_lane.responses import HEAD, OK, failure_block, status_block
from server.rpc.messages.status import Failure
from tests.http2.bench import Bench
from tests.http2.scripted import Echo, Script

FAILURE: Final = Failure(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "too much \U0001f600", "TOO_MUCH", retry_after=timedelta(seconds=1.5)
)
TEXTS: Final = (
    "",
    "plain text",
    "100 % sure",
    "%41 is not A",
    "tab\tnew line\nreturn\r NUL\0 escape\x1b delete\x7f",
    "é ü ß €",
    "astral: \U0001f600 \U00010348",
    "combining: e\u0301, bidi: \u202e, last: \U0010ffff",
    " spaces at the ends ",
)

BLOCKS: Final = [
    *(status_block(grpc.StatusCode.ABORTED, text) for text in TEXTS),
    failure_block(FAILURE),
]


def decoded(block: bytes) -> dict[bytes, bytes]:
    """Return the fields of a header block."""
    return {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block, raw=True)}


@given(st.text(max_size=50))
def test_any_text_is_printable_on_the_wire(text: str) -> None:
    """A message of any characters is sent as printable ASCII."""
    message = decoded(status_block(grpc.StatusCode.INTERNAL, text))[b"grpc-message"]
    assert all(0x20 <= byte < 0x7F for byte in message)


def test_the_blocks_say_what_grpc_wants() -> None:
    """A response begins with its status and content type, and ends with the status of the call."""
    assert decoded(HEAD) == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-accept-encoding": b"identity,deflate,gzip",
    }
    assert decoded(OK) == {b"grpc-status": b"0"}


class Statuses(Script):
    """Ends each call with a failure that the path numbers."""

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """End it."""
        stream.end(BLOCKS[int(headers[b":path"].rpartition(b"/")[2])])
        return Echo(self, stream)


def serve(listening: socket.socket) -> None:
    """Answer one client until it leaves."""
    accepted, _ = listening.accept()
    with accepted:
        bench = Bench(hello=b"", session=Statuses())
        while data := accepted.recv(65_536):
            bench.connection.receive(data, bench.now)
            accepted.sendall(bench.connection.take_output())


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    """A channel of grpcio to a server of statuses."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve, args=(listening,))
        thread.start()
        with grpc.insecure_channel(f"127.0.0.1:{listening.getsockname()[1]}") as opened:
            yield opened
        thread.join()


def fail(channel: grpc.Channel, path: str) -> grpc.Call:
    """Make a call that fails, and return it."""
    method: Callable[..., object] = channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=20)
    return cast("grpc.Call", caught.value)


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_grpcio_reads_any_text(channel: grpc.Channel, number: int) -> None:
    """The message of a status arrives as it was given: control characters, percent signs, any character."""
    call = fail(channel, f"/texts/{number}")
    assert (call.code(), call.details()) == (grpc.StatusCode.ABORTED, TEXTS[number])


def test_grpcio_reads_the_details(channel: grpc.Channel) -> None:
    """The reason, the pushback and the packed status of a failure arrive as metadata."""
    call = fail(channel, f"/failures/{len(TEXTS)}")
    assert (call.code(), call.details()) == (FAILURE.code, FAILURE.message)
    assert set(FAILURE.trailing_metadata) <= {(key, value) for key, value in call.trailing_metadata()}
