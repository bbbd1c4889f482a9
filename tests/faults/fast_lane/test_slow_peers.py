"""Peers that take their time: what the server keeps for them is bounded, and ends."""

import socket
import struct
import time
from contextlib import ExitStack, closing, suppress
from itertools import count, islice
from pathlib import Path
from typing import Final

import pytest

from bandit.v1 import bandit_pb2
from tests.faults.fast_lane.attackers import (
    BATCH_CHOOSE,
    CHOOSE,
    CHOOSE_STREAM,
    LARGEST_WINDOW,
    REWARD,
    WATCH,
    addresses,
    batch,
    beginning,
    call,
    connected,
    greeted,
    message_frame,
    prefixed,
    set_windows,
    stream_of,
)
from tests.faults.fast_lane.conftest import Site, StartSite
from tests.rpc.raw_http2 import DATA, END_STREAM, Frame, RawConnection, frame_bytes
from tests.support.certificates import Authority
from tests.support.process import eventually
from tests.support.talk import message

N_READERS: Final = 200
N_BY_ADDRESS: Final = 50
N_CALLS: Final = 10
N_CHOICES: Final = 1_000
PEAK_MIB: Final = 160.0
"""64 MiB that wait to be sent, as much again that comes between two looks, and buffers."""

PIECE_BYTES: Final = 16_384
STALLED_SECONDS: Final = 20.0
REQUEST_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 5.0
SLACK_SECONDS: Final = 10.0
POURED_BYTES: Final = 4 * 1024 * 1024
"""The most that a stream whose reader does not read takes: its window, and what sockets buffer."""


@pytest.mark.parametrize("window", [LARGEST_WINDOW, 0], ids=["wide", "none"])
def test_answers_that_nobody_reads_are_bounded(start_site: StartSite, window: int) -> None:
    """Two hundred connections ask for 300 MB of answers and read none of them: memory is bounded.

    Their windows are as wide as can be, so that the network waits for them, or have no room at all. After
    20 s without progress nothing is kept for them any more.
    """
    site = start_site()
    asked = b"".join(call(number, BATCH_CHOOSE, batch(site.name, N_CHOICES)) for number in range(N_CALLS))
    with ExitStack() as stack, site.good_caller() as good:
        for source in islice(addresses(), N_READERS // N_BY_ADDRESS):
            for _ in range(N_BY_ADDRESS):
                reader = stack.enter_context(closing(greeted(site.port, source)))
                with suppress(ConnectionError):
                    set_windows(reader, window)
                    reader.socket.sendall(asked)
        eventually(
            lambda: site.server.sample("bandit_fast_lane_unsent_bytes"), until=lambda n_bytes: n_bytes == 0
        )
    assert good.is_answered
    assert site.peak_mib() < PEAK_MIB
    site.calm_down()


def test_requests_that_never_end_are_ended(start_site: StartSite) -> None:
    """Of 2,000 calls whose bodies come a byte at a time, each ends with an error in time."""
    site = start_site("--request-seconds", str(REQUEST_SECONDS))
    body = prefixed(bytes(1_000))
    with ExitStack() as stack, site.good_caller() as good:
        writers = [
            stack.enter_context(closing(greeted(site.port, source))) for source in islice(addresses(), 20)
        ]
        for writer in writers:
            writer.flood(b"".join(beginning(number, REWARD) for number in range(100)))
        began_at = time.monotonic()
        for position in count():
            for writer in writers:
                piece = body[position : position + 1]
                writer.flood(b"".join(frame_bytes(DATA, 0, stream_of(n), piece) for n in range(100)))
            if time.monotonic() - began_at > REQUEST_SECONDS:
                break
        ends = [ends_of(writer, 100) for writer in writers]
        assert time.monotonic() - began_at < REQUEST_SECONDS + SLACK_SECONDS
    assert ends == [set(map(stream_of, range(100)))] * 20
    assert good.is_answered
    site.calm_down()


def ends_of(connection: RawConnection, n_streams: int) -> set[int]:
    """Return the streams that have ended, once there are so many of them."""
    ended: set[int] = set()
    for frame in connection.frames():
        if frame.stream and frame.flags & END_STREAM:
            ended.add(frame.stream)
        if len(ended) == n_streams:
            break
    return ended


def test_a_request_that_comes_byte_by_byte_is_answered(site: Site) -> None:
    """Bytes that come one by one in frames of their own are a request like any other."""
    with closing(greeted(site.port, "127.0.0.2")) as connection:
        body = prefixed(message_of_choose(site.name))
        connection.socket.sendall(beginning(0, CHOOSE))
        for position in range(len(body)):
            flags = END_STREAM if position + 1 == len(body) else 0
            connection.socket.sendall(frame_bytes(DATA, flags, 1, body[position : position + 1]))
        assert b"grpc-status\x010" in connection.answer(1)


def message_of_choose(name: str) -> bytes:
    """A Choose of an experiment."""
    return bandit_pb2.ChooseRequest(experiment=name).SerializeToString()


def test_a_stream_whose_answers_are_not_read_is_stopped(site: Site) -> None:
    """It takes no more messages than its window has room for, and its connection is closed after 20 s."""
    piece = prefixed(message(site.name)) * 100
    with closing(greeted(site.port, "127.0.0.2")) as connection, site.good_caller() as good:
        began_at = time.monotonic()
        connection.socket.sendall(beginning(0, CHOOSE_STREAM))
        connection.socket.settimeout(1.0)
        n_sent = 0
        with suppress(TimeoutError, ConnectionError):
            while n_sent < 2 * POURED_BYTES:
                room = min(connection.windows[0], 1024 * 1024 - n_sent)
                if room < len(piece):
                    break
                connection.socket.sendall(frame_bytes(DATA, 0, 1, piece))
                n_sent += len(piece)
        eventually(
            lambda: site.server.sample("bandit_fast_lane_connections"), until=lambda n_open: n_open == 1
        )
        assert time.monotonic() - began_at < STALLED_SECONDS + SLACK_SECONDS
    assert n_sent < POURED_BYTES
    assert good.is_answered
    site.calm_down()


def test_messages_of_streams_that_are_never_whole_are_bounded(start_site: StartSite) -> None:
    """One connection sends half of a message of 1 MiB on each of 100 streams: each of them ends in time."""
    site = start_site("--request-seconds", "5")
    half = struct.pack(">BI", 0, 1024 * 1024) + bytes(PIECE_BYTES * 32)
    n_sent = 0
    with closing(greeted(site.port, "127.0.0.2")) as connection, site.good_caller() as good:
        connection.flood(b"".join(beginning(number, CHOOSE_STREAM) for number in range(100)))
        ended: set[int] = set()
        with suppress(TimeoutError):
            for number in range(100):
                for start in range(0, len(half), PIECE_BYTES):
                    while connection.windows[0] < PIECE_BYTES:
                        ended |= {frame.stream for frame in [next(connection.frames())] if is_end(frame)}
                    piece = half[start : start + PIECE_BYTES]
                    connection.send(DATA, 0, stream_of(number), piece)
                    connection.windows[0] -= len(piece)
                    n_sent += len(piece)
        while len(ended) < 100:
            ended |= {frame.stream for frame in [next(connection.frames())] if is_end(frame)}
    assert site.peak_mib() < PEAK_MIB
    assert good.is_answered
    site.calm_down()


def is_end(frame: Frame) -> bool:
    """True if a frame ends a stream."""
    return bool(frame.stream and frame.flags & END_STREAM)


def test_a_call_does_not_wait_for_a_batch_before_it(site: Site) -> None:
    """A Choose that was sent after a batch of 1,000, in the same bytes, is answered first."""
    with closing(greeted(site.port, "127.0.0.2")) as connection:
        set_windows(connection, LARGEST_WINDOW)
        choose = call(1, CHOOSE, message_of_choose(site.name))
        connection.socket.sendall(call(0, BATCH_CHOOSE, batch(site.name, N_CHOICES)) + choose)
        ends = (frame.stream for frame in connection.frames() if is_end(frame))
        assert list(islice(ends, 2)) == [3, 1]


def test_idle_streams_keep_nobody_from_being_answered(site: Site) -> None:
    """A thousand of ChooseStream on one connection each answer a message, and then wait for ever."""
    with closing(greeted(site.port, "127.0.0.2")) as connection, site.good_caller() as good:
        set_windows(connection, LARGEST_WINDOW)
        for start in range(0, 1_000, 100):
            numbers = range(start, start + 100)
            connection.flood(
                b"".join(beginning(n, CHOOSE_STREAM) + message_frame(n, message(site.name)) for n in numbers)
            )
            answered = (frame.stream for frame in connection.frames() if frame.kind == DATA)
            assert set(islice(answered, 100)) == set(map(stream_of, numbers))
    assert good.is_answered
    site.calm_down()


def test_watches_keep_nobody_from_being_answered(site: Site) -> None:
    """One address holds as many streams as all connections together may, and others still have room.

    They watch the server's health, which needs no token and never ends.
    """
    with ExitStack() as stack, site.good_caller() as good:
        for _ in range(17):
            connection = stack.enter_context(closing(greeted(site.port, "127.0.0.2")))
            set_windows(connection, LARGEST_WINDOW)
            for start in range(0, 1_000, 100):
                connection.flood(b"".join(call(number, WATCH, b"") for number in range(start, start + 100)))
        eventually(
            lambda: site.server.sample("bandit_fast_lane_connections"), until=lambda n_open: n_open >= 18
        )
        assert site.wire.choose(site.name).arm
    assert good.is_answered
    site.calm_down()


def test_large_batches_keep_nobody_from_being_answered(site: Site) -> None:
    """Eight connections ask for 32,000 decisions each, all at once."""
    asked = b"".join(call(number, BATCH_CHOOSE, batch(site.name, N_CHOICES)) for number in range(32))
    with ExitStack() as stack, site.good_caller() as good:
        hogs = [stack.enter_context(closing(greeted(site.port, source))) for source in islice(addresses(), 8)]
        for hog in hogs:
            set_windows(hog, LARGEST_WINDOW)
            hog.socket.sendall(asked)
        assert [ends_of(hog, 32) for hog in hogs] == [set(map(stream_of, range(32)))] * 8
    assert good.is_answered
    site.calm_down()


@pytest.fixture
def guarded_site(start_site: StartSite, tmp_path: Path) -> Site:
    """A server with TLS."""
    authority = Authority.create()
    certificate, key = authority.issue("bandit").write(tmp_path, "server")
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    return start_site(*flags, credentials=authority.credentials())


def test_handshakes_that_stall_are_ended(guarded_site: Site) -> None:
    """Hundreds of connections that send nothing, or half of a greeting, are closed in time."""
    site = guarded_site
    hello = bytes.fromhex("1603010200010001fc0303")
    with ExitStack() as stack, site.good_caller() as good:
        began_at = time.monotonic()
        stalled = [
            stack.enter_context(closing(connected(site.port, source)))
            for source in islice(addresses(), 12)
            for _ in range(N_BY_ADDRESS)
        ]
        for connection in stalled[::2]:
            connection.sendall(hello)
        assert all(map(is_ended, stalled))
        assert time.monotonic() - began_at < HANDSHAKE_SECONDS + SLACK_SECONDS
    assert good.is_answered
    site.calm_down()


def is_ended(connection: socket.socket) -> bool:
    """True if the server ends a connection before the time is up."""
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True
