"""What the fast lane serves, and how it answers all else."""

from contextlib import closing
from typing import Any, Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import StartServer
from tests.rpc.raw_http2 import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RawConnection
from tests.support.process import FAST_LANE, LISTENERS, ServerProcess, eventually
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, FAST_METHODS, METHODS, Wire

UNSUPPORTED_MEDIA_TYPE: Final = b"\x08\x03415"
"""The status in a header block: a literal whose name is entry 8 of the static table."""


@pytest.mark.parametrize(
    "method",
    [
        *sorted(set(METHODS) - set(FAST_METHODS)),
        "/bandit.v1.BanditService/Forget",
        "/bandit.v1.NoSuchService/Choose",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/",
    ],
)
def test_a_method_that_is_not_there_is_unimplemented(shared_process: ServerProcess, method: str) -> None:
    """The control plane, an unknown method and an unknown service get the status and text of grpcio."""
    with grpc.insecure_channel(shared_process.address_of(FAST_LANE)) as channel:
        call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=CALL_SECONDS)
    found = call_of(caught.value)
    assert (found.code(), found.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_the_text_for_an_unknown_method_is_that_of_grpcio(shared_process: ServerProcess) -> None:
    """On both listeners, an unknown method has the same status, text and metadata."""
    answers = []
    for listener in LISTENERS:
        with grpc.insecure_channel(shared_process.address_of(listener)) as channel:
            call: Any = channel.unary_unary("/bandit.v1.BanditService/Forget")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=CALL_SECONDS)
            found = call_of(caught.value)
            answers.append((found.code(), found.details(), tuple(found.trailing_metadata())))
    assert answers[0] == answers[1]


def literal(name: bytes, value: bytes) -> bytes:
    """Encode a field of a request, without indexing."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        (b"GET", b""),
        (b"POST", b"application/json"),
        (b"POST", b"application/grpc-web"),
        (b"GET", b"application/grpc"),
    ],
)
def test_plain_http_is_told_what_the_port_is_for(
    shared_process: ServerProcess, method: bytes, content_type: bytes
) -> None:
    """A browser or a health check over HTTP/2 gets 415 and one line of text; the connection goes on."""
    block = literal(b":method", method) + literal(b":scheme", b"http") + literal(b":path", b"/")
    block += literal(b":authority", b"test")
    if content_type:
        block += literal(b"content-type", content_type)
    with closing(RawConnection.open(shared_process.port_of(FAST_LANE))) as connection:
        for stream in (1, 3):
            connection.send(HEADERS, END_HEADERS | END_STREAM, stream, block)
            frames = (frame for frame in connection.frames() if frame.stream == stream)
            assert next(frames).payload.startswith(UNSUPPORTED_MEDIA_TYPE)
            body = next(frames)
            assert (body.kind, body.payload) == (DATA, b"this port answers gRPC calls\n")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read(wire: Wire, compression: grpc.Compression) -> None:
    """A client may compress: a question and a batch of them are answered."""
    name = wire.running()
    question = bandit_pb2.ChooseRequest(experiment=name, unit="u" * 200)
    chosen = wire.bandit.Choose(question, compression=compression, timeout=CALL_SECONDS)
    batch = bandit_pb2.BatchChooseRequest(requests=[question] * 100)
    results = wire.bandit.BatchChoose(batch, compression=compression, timeout=CALL_SECONDS).results
    assert (
        {result.choice.arm for result in results} == {chosen.arm} == {wire.choose(name, unit="u" * 200).arm}
    )


def test_an_experiment_that_is_not_in_memory_is_looked_up(wire: Wire) -> None:
    """Choose asks the database for a name that it does not know, while calls on the connection go on."""
    name = wire.running()
    missing = [wire.bandit.Choose.future(bandit_pb2.ChooseRequest(experiment=f"none-{n}")) for n in range(50)]
    assert wire.choose(name).arm
    codes = {call_of(call.exception(timeout=CALL_SECONDS)).code() for call in missing}
    assert codes == {grpc.StatusCode.NOT_FOUND}


def test_the_log_names_the_rule_that_a_client_broke(start_server: StartServer) -> None:
    """An operator learns from it what to tell the client's owner."""
    server = start_server()  # one of its own: of many such events in ten seconds one is logged
    with closing(RawConnection.open(server.port_of(FAST_LANE))) as connection:
        connection.send(DATA, 0, 1, b"no call has begun")
        address = f"ipv4:127.0.0.1:{connection.socket.getsockname()[1]}"
        assert list(connection.frames())[-1].kind == GOAWAY
    closed = eventually(
        lambda: [event for event in server.events() if event.get("peer") == address],
    )
    (event,) = closed
    assert event["event"] == "fast_lane.connection_closed"
    assert (event["why"], event["rule"]) == ("fault", "DATA on a stream that has not begun")
