"""gRPC's messages out of bytes: cut anywhere, compressed, too long, malformed."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from server.rpc.fast_lane.framing import MOST_BYTES, FramingError, Messages, first_message, framed

COMPRESS: Final[dict[bytes, Callable[[bytes], bytes]]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}


def flagged(message: bytes, flag: int = 1) -> bytes:
    """Return a message with a flag in its prefix."""
    return bytes((flag,)) + framed(message)[1:]


def failure_of(body: bytes, encoding: bytes = b"identity") -> tuple[StatusCode, str]:
    """Return the code and the reason with which a body fails, as a whole and in pieces."""
    failures = []
    for read in (lambda: first_message(body, encoding), lambda: all_of(body, encoding, [])):
        with pytest.raises(FramingError) as caught:
            read()
        failures.append((caught.value.failure.code, caught.value.failure.reason))
    assert failures[0] == failures[1]
    return failures[0]


def all_of(data: bytes, encoding: bytes, cuts: list[int]) -> list[bytes]:
    """Return the messages of bytes that arrive cut at such positions."""
    messages, found = Messages(encoding), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        messages.add(data[start:end])
        while (message := messages.next()) is not None:
            assert type(message) is bytes
            found.append(message)
    return found


@pytest.mark.parametrize("encoding", COMPRESS)
def test_messages_may_be_cut_at_every_byte(encoding: bytes) -> None:
    """Messages are the same, in order, however their bytes arrive, compressed ones between others."""
    wanted = [b"first", b"", b"packed" * 50, b"last"]
    data = framed(b"first") + framed(b"") + flagged(COMPRESS[encoding](b"packed" * 50)) + framed(b"last")
    assert all_of(data, encoding, list(range(1, len(data)))) == wanted
    for position in range(1, len(data)):
        assert all_of(data, encoding, [position]) == wanted


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_messages_may_be_cut_at_random(wanted: list[bytes], data: st.DataObject) -> None:
    """Any messages come out as they went in, cut at any places."""
    whole = b"".join(map(framed, wanted))
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6))
    assert all_of(whole, b"identity", sorted(cuts)) == wanted


@pytest.mark.parametrize("n_bytes", range(9))
def test_a_body_that_is_cut_short_has_no_message(n_bytes: int) -> None:
    """A body without the whole of its message has none, which is no fault of its framing."""
    assert first_message(framed(b"four")[:n_bytes], b"identity") is None


def test_of_a_body_the_first_message_counts() -> None:
    """What follows the first message of a body is ignored."""
    assert first_message(framed(b"one") + framed(b"two") + b"\xff", b"identity") == b"one"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_message_may_be_compressed(encoding: bytes) -> None:
    """A flagged message is unpacked, up to the longest that there may be; an unflagged one is left alone."""
    longest = bytes(MOST_BYTES)
    assert first_message(flagged(COMPRESS[encoding](longest)), encoding) == longest
    assert first_message(framed(b"plain"), encoding) == b"plain"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_is_refused(encoding: bytes) -> None:
    """A message that would unpack to more than 1 MiB is too long, by one byte or by a thousand times."""
    for n_bytes in (MOST_BYTES + 1, 200 * MOST_BYTES):
        packed = COMPRESS[encoding](bytes(n_bytes))
        assert failure_of(flagged(packed), encoding)[0] is StatusCode.RESOURCE_EXHAUSTED


def test_a_bomb_is_unpacked_no_further_than_a_message_goes() -> None:
    """A bomb of 200 MiB takes the memory of a message of 1 MiB, and what a buffer grows by."""
    bomb = flagged(gzip.compress(bytes(200 * MOST_BYTES)))
    tracemalloc.start()
    try:
        failure_of(bomb, b"gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * MOST_BYTES


def test_a_message_that_is_too_long_is_refused_at_its_prefix() -> None:
    """A message of more than 1 MiB is refused before any of it arrives."""
    prefix = b"\0" + (MOST_BYTES + 1).to_bytes(4)
    assert failure_of(prefix)[0] is StatusCode.RESOURCE_EXHAUSTED
    assert all_of(b"\0" + MOST_BYTES.to_bytes(4), b"identity", []) == []


@pytest.mark.parametrize("flag", [2, 3, 128, 255])
def test_a_flag_is_0_or_1(flag: int) -> None:
    """Another flag is malformed, whatever the encoding."""
    for encoding in (b"gzip", b"identity"):
        assert failure_of(flagged(b"x", flag), encoding) == (StatusCode.INTERNAL, "MALFORMED_MESSAGE")


def test_a_compressed_message_needs_an_encoding() -> None:
    """A flagged message of a call that names no encoding is malformed; of one that we lack, unimplemented."""
    assert failure_of(flagged(b"x")) == (StatusCode.INTERNAL, "MALFORMED_MESSAGE")
    assert failure_of(flagged(b"x"), b"snappy\xff") == (StatusCode.UNIMPLEMENTED, "UNKNOWN_ENCODING")


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_compressed_message_must_be_whole(encoding: bytes) -> None:
    """What is no compressed message, or not the whole of one, is malformed."""
    packed = COMPRESS[encoding](b"message")
    for broken in (packed[:-1], packed[:2], b"", b"\xff" * 20, packed[:-6] + bytes(6)):
        assert failure_of(flagged(broken), encoding) == (StatusCode.INTERNAL, "MALFORMED_MESSAGE")


@given(st.binary(max_size=60), st.sampled_from([b"identity", b"gzip", b"deflate", b"br"]))
def test_no_bytes_raise_anything_else(data: bytes, encoding: bytes) -> None:
    """Any bytes are messages, or none, or a failure that the caller is told of."""
    with suppress(FramingError):
        first_message(data, encoding)
