"""Requests that arrive together, and are answered together: each as if it had come alone."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from server.rpc.fast_lane.calls.joint import JointTurns
from server.rpc.fast_lane.framing import IDENTITY, PREFIX_BYTES, Messages, framed
from tests.rpc.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    RawConnection,
    frame_bytes,
    headers_of,
)
from tests.support.process import FAST_LANE, LISTENERS, WITH_FAST_LANE, ServerProcess, eventually, serving
from tests.support.refusals import call_of
from tests.support.wire import Wire

CHOOSE: Final = "/bandit.v1.BanditService/Choose"
STREAM: Final = "/bandit.v1.BanditService/ChooseStream"
LABELS: Final = {
    "grpc_type": "unary",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "Choose",
}
_STATUS: Final = re.compile(rb"grpc-status.(\d+)", re.DOTALL)
Answer = tuple[bytes, bytes]
"""The message of an answer, and its trailers."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server that serves metrics."""
    flags = ("--metrics-listen", "127.0.0.1:0", *WITH_FAST_LANE)
    with serving(tmp_path_factory.mktemp("joint") / "bandit.db", *flags) as server:
        yield server


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    """Open a channel to it."""
    with closing(Wire.to(server, FAST_LANE)) as wire:
        yield wire


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[RawConnection]:
    """Connect to its fast lane."""
    with closing(RawConnection.open(server.port_of(FAST_LANE))) as connection:
        yield connection


def asked(experiment: str, **request: Any) -> bytes:
    """Encode a request."""
    return bandit_pb2.ChooseRequest(experiment=experiment, **request).SerializeToString()


def call_bytes(stream: int, message: bytes, method: str = CHOOSE) -> bytes:
    """Return the frames of a call."""
    head = frame_bytes(HEADERS, END_HEADERS, stream, headers_of(method))
    return head + frame_bytes(DATA, END_STREAM, stream, framed(message))


def answers_of(connection: RawConnection, streams: Sequence[int]) -> dict[int, Answer]:
    """Read until each of the streams has its answer."""
    bodies = dict.fromkeys(streams, b"")
    found: dict[int, Answer] = {}
    for frame in connection.frames():
        if frame.kind == DATA:
            bodies[frame.stream] += frame.payload
        elif frame.kind == HEADERS and frame.flags & END_STREAM:
            found[frame.stream] = bodies[frame.stream][PREFIX_BYTES:], frame.payload
        if len(found) == len(streams):
            break
    return found


def told(message: bytes, code: int = 0) -> tuple[object, ...]:
    """Return what an answer says, but for the ids and ages, which differ from call to call."""
    choice = bandit_pb2.ChooseResponse.FromString(message)
    return choice.arm, choice.propensity, choice.reason, choice.epoch, code


def told_by_default(wire: Wire, message: bytes) -> tuple[object, ...]:
    """Return what the other listener answers."""
    try:
        return told(wire.call(CHOOSE, message))
    except grpc.RpcError as error:
        return told(b"", call_of(error).code().value[0])


def status_of(trailers: bytes) -> int:
    """Return the number of a status."""
    found = _STATUS.search(trailers)
    assert found is not None
    return int(found[1])


def test_each_call_of_a_burst_is_answered_as_if_alone(
    server: ServerProcess, wire: Wire, connection: RawConnection
) -> None:
    """As by the other listener: good ones of several experiments, and bad ones of every kind among them."""
    names = [wire.running(), wire.running()]
    pinned = wire.choose(names[0], unit="pinned").decision_id
    messages = [
        *(asked(names[number % 2], unit=f"unit-{number}") for number in range(40)),
        asked(names[0], unit="pinned", previous_decision_id=pinned),
        asked(names[1], unit="x", eligible_arms=["champion"]),
        asked(names[1], unit="x", eligible_arms=["no-such-arm"]),
        asked("no-such-experiment", unit="x"),
        asked("NO NAME", unit="x"),
        asked(names[0], unit="\u202e"),
        asked(names[0], attributes={"": "x"}),
        b"\xff\xff",
        asked(names[0], unit="after the bad ones"),
    ]
    with closing(Wire.to(server, LISTENERS[0])) as other:
        alone = [told_by_default(other, message) for message in messages]
    streams = [2 * number + 1 for number in range(len(messages))]
    burst = [call_bytes(stream, message) for stream, message in zip(streams, messages, strict=True)]
    connection.flood(b"".join(burst))
    found = answers_of(connection, streams)
    together = [
        told(message, status_of(trailers)) for message, trailers in (found[stream] for stream in streams)
    ]
    assert together == alone
    assert sum(code != 0 for *_, code in together) == 5


def test_every_decision_of_a_burst_is_its_own(wire: Wire, connection: RawConnection) -> None:
    """Calls for the same unit have the same arm, and ids that differ; each is counted."""
    name = wire.running()
    streams = [2 * number + 1 for number in range(200)]
    connection.flood(b"".join(call_bytes(stream, asked(name, unit="one")) for stream in streams))
    found = answers_of(connection, streams)
    choices = [bandit_pb2.ChooseResponse.FromString(message) for message, _ in found.values()]
    assert len({choice.decision_id for choice in choices}) == 200
    assert len({choice.arm for choice in choices}) == 1
    assert sum(wire.n_decisions(name).values()) == 200


def test_a_call_that_is_reset_with_its_request_costs_nothing(
    server: ServerProcess, wire: Wire, connection: RawConnection
) -> None:
    """Neither its work is done nor is it counted; the calls around it are answered."""
    name = wire.running()
    before = server.sample("grpc_server_started_total", **LABELS)
    reset = frame_bytes(RST_STREAM, 0, 3, b"\0\0\0\x08")
    calls = [call_bytes(stream, asked(name, unit=f"{stream}")) for stream in (1, 3, 5)]
    connection.flood(calls[0] + calls[1] + reset + calls[2])
    assert set(answers_of(connection, [1, 5])) == {1, 5}
    eventually(lambda: sum(wire.n_decisions(name).values()) == 2)
    assert server.sample("grpc_server_started_total", **LABELS) - before == 2


def test_messages_of_many_streams_are_answered_in_the_order_of_each(
    wire: Wire, connection: RawConnection
) -> None:
    """Good and bad messages of four streams arrive at once, more than are answered in one turn."""
    name = wire.running()
    streams = [2 * number + 1 for number in range(4)]
    expected: dict[int, list[str]] = {stream: [] for stream in streams}
    data = b""
    for stream in streams:
        data += frame_bytes(HEADERS, END_HEADERS, stream, headers_of(STREAM))
    for number in range(120):
        for stream in streams:
            is_bad = number % 7 == stream % 7
            request = bandit_pb2.ChooseRequest(experiment="no-such" if is_bad else name, unit=f"{number}")
            message = bandit_pb2.ChooseStreamRequest(request=request).SerializeToString()
            data += frame_bytes(DATA, END_STREAM if number == 119 else 0, stream, framed(message))
            expected[stream].append("error" if is_bad else wire.choose(name, unit=f"{number}").arm)
    connection.flood(data)
    assert arms_of(connection, streams) == expected


def arms_of(connection: RawConnection, streams: Sequence[int]) -> dict[int, list[str]]:
    """Read streams to their end; return the arms of each in order, and `error` for what failed."""
    bodies = dict.fromkeys(streams, b"")
    n_ended = 0
    for frame in connection.frames():
        if frame.kind == DATA:
            bodies[frame.stream] += frame.payload
        n_ended += frame.kind == HEADERS and bool(frame.flags & END_STREAM)
        if n_ended == len(streams):
            break
    return {stream: [arm_of(message) for message in messages_of(body)] for stream, body in bodies.items()}


def messages_of(body: bytes) -> Iterator[bytes]:
    """Yield the messages of a body."""
    messages = Messages(IDENTITY)
    messages.add(body)
    while (message := messages.next()) is not None:
        yield message
    assert messages.n_unread == 0


def arm_of(message: bytes) -> str:
    """Return the arm of a response, or `error`."""
    response = bandit_pb2.ChooseStreamResponse.FromString(message)
    return response.choice.arm if response.HasField("choice") else "error"


async def test_turns_are_taken_in_order_with_other_work_between() -> None:
    """What asks while others are answered waits for its turn; nothing is answered twice or forgotten."""
    answered: list[list[int]] = []

    def answer(waiting: Sequence[int]) -> int:
        answered.append(list(waiting[:3]))
        if len(answered) == 1:
            turns.ask(9)
        return min(len(waiting), 3)

    turns = JointTurns(answer)
    for number in range(5):
        turns.ask(number)
    assert answered == []
    await asyncio.sleep(0)
    assert answered == [[0, 1, 2]]
    await asyncio.sleep(0)
    assert answered == [[0, 1, 2], [3, 4, 9]]
    await asyncio.sleep(0)
    assert len(answered) == 2
    turns.ask(10)
    await asyncio.sleep(0)
    assert answered[2] == [10]
