"""Which headers a request may have: our rules beside those of `h2`, and each rule by itself."""

from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bandit.client.http2.frames import HEADERS, ErrorCode, frame
from bandit.client.http2.hpack import encode_field
from server.http2.requests import Field, MalformedRequestError, RequestReader, check_trailers
from tests.http2.bench import HELLO, Bench, resets

_METHOD: Final = (b":method", b"POST")
_SCHEME: Final = (b":scheme", b"http")
_PATH: Final = (b":path", b"/")
_GOOD: Final = [_METHOD, _SCHEME, _PATH, (b":authority", b"a")]

MALFORMED: Final[dict[str, list[Field]]] = {
    "nothing": [],
    "no method": [_SCHEME, _PATH],
    "no scheme": [_METHOD, _PATH],
    "no path": [_METHOD, _SCHEME],
    "an empty path": [_METHOD, _SCHEME, (b":path", b"")],
    "a path without a slash": [_METHOD, _SCHEME, (b":path", b"a")],
    "a repeated pseudo-header field": [*_GOOD, _PATH],
    "an unknown pseudo-header field": [*_GOOD, (b":status", b"200")],
    "a pseudo-header field behind others": [_METHOD, _SCHEME, (b"a", b"b"), _PATH],
    "a name with capitals": [*_GOOD, (b"Abc", b"d")],
    "an empty name": [*_GOOD, (b"", b"d")],
    "a name with a space": [*_GOOD, (b"a b", b"d")],
    "a name with a colon": [*_GOOD, (b"a:b", b"d")],
    "a value with a line break": [*_GOOD, (b"a", b"b\r\nc: d")],
    "a value with NUL": [*_GOOD, (b"a", b"b\0")],
    "a value that begins with a space": [*_GOOD, (b"a", b" b")],
    "a value that ends with a tab": [*_GOOD, (b"a", b"b\t")],
    "connection": [*_GOOD, (b"connection", b"close")],
    "transfer-encoding": [*_GOOD, (b"transfer-encoding", b"chunked")],
    "another te than trailers": [*_GOOD, (b"te", b"gzip")],
    "a repeated field with a bad value": [*_GOOD, (b"a", b"b"), (b"a", b"\n")],
    "a length that is no number": [*_GOOD, (b"content-length", b"-1")],
    "a length that is too long": [*_GOOD, (b"content-length", b"1" * 16)],
}


def encoded(fields: list[Field]) -> bytes:
    """Return the HEADERS frame of a whole request."""
    return frame(HEADERS, 5, 1, b"".join(encode_field(*field) for field in fields))


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_resets_its_stream(name: str) -> None:
    """Such headers are answered by RST_STREAM with PROTOCOL_ERROR, and the session never hears of them."""
    bench = Bench()
    assert resets(bench.send(encoded(MALFORMED[name]))) == {1: ErrorCode.PROTOCOL_ERROR}
    assert bench.session.begun == {}
    bench.assert_released()


@pytest.mark.parametrize("name", ["connection", "a name with capitals", "a value with a line break"])
def test_what_passed_before_does_not_hide_what_does_not(name: str) -> None:
    """A fault is found as well once the other fields are known."""
    reader = RequestReader()
    reader.read(_GOOD)
    for _ in range(2):
        with pytest.raises(MalformedRequestError):
            reader.read(MALFORMED[name])


def test_of_repeated_fields_the_first_counts() -> None:
    """A field that is repeated has its first value."""
    assert RequestReader().read([*_GOOD, (b"a", b"1"), (b"a", b"2")])[b"a"] == b"1"


def test_any_valid_field_may_be_a_trailer() -> None:
    """Trailers may have names and values as headers have them."""
    check_trailers([(b"grpc-status", b"0"), (b"a!#$", b"b c")])


_names: Final = st.sampled_from([b"a", b"te", b"A", b"connection", b":path", b":x", b"", b"a b", b"cookie"])
_values: Final = st.sampled_from([b"", b"b", b"trailers", b" b", b"b ", b"b\0", b"b\nc", b"/"])
_fields: Final = st.tuples(_names, _values) | st.sampled_from(_GOOD)


@given(st.lists(_fields, max_size=4), st.permutations(_GOOD), st.integers(0, 4))
@example([], _GOOD, 4)
def test_h2_refuses_nothing_that_we_accept(more: list[Field], good: list[Field], n_good: int) -> None:
    """Headers that we accept are valid for `h2` as well, if they have an authority, which it wants."""
    fields = [*good[:n_good], *more]
    assume(b":authority" in dict(fields))
    try:
        RequestReader().read(fields)
    except MalformedRequestError:
        return
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    server.receive_data(HELLO)
    (event, *_) = server.receive_data(encoded(fields))
    assert isinstance(event, h2.events.RequestReceived)
