"""Deadlines out of `grpc-timeout`."""

import math

import pytest

from server.http2.exchange import Headers
from server.rpc.fast_lane.deadlines import deadline_of
from tests.http2.bench import START, Bench, headers


def timeout_of(value: bytes | None) -> float | None:
    """Return the seconds that a call has, from its header; None for any number."""
    bench = Bench()
    bench.send(headers(1))
    (stream,) = bench.connection._streams.by_id.values()
    fields: Headers = {} if value is None else {b"grpc-timeout": value}
    deadline = deadline_of(stream, fields)
    return None if deadline is None else deadline - START


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7_200.0),
        (b"3M", 180.0),
        (b"4S", 4.0),
        (b"500m", 0.5),
        (b"60000u", 0.06),
        (b"7000000n", 0.007),
        (b"99999999H", 99_999_999 * 3_600.0),
        (b"99999999n", 0.099999999),
        (b"00000001S", 1.0),
        (b"0n", 0.0),
    ],
)
def test_a_timeout_has_up_to_eight_digits_and_a_unit(value: bytes, seconds: float) -> None:
    """A timeout counts in its unit, from when the headers were read."""
    found = timeout_of(value)
    assert found is not None
    assert math.isclose(found, seconds, abs_tol=1e-9)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"S",
        b"1",
        b"1s",
        b"123456789S",
        b"-1S",
        b"+1S",
        b"1.5S",
        b" 1S",
        b"1 S",
        b"\xb2S",
        b"1\xff",
    ],
)
def test_anything_else_is_no_deadline(value: bytes | None) -> None:
    """A call without a valid timeout may take as long as it likes, as on gRPC's own servers."""
    assert timeout_of(value) is None
