"""Durations in experiment files."""

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from server.cli.experiment_file.durations import format_duration, parse_duration


@given(st.integers(0, 315_576_000_000), st.integers(0, 999_999_999))
def test_text_and_back_is_identity(seconds: int, nanos: int) -> None:
    """A duration survives being written and read, without rounding."""
    duration = Duration(seconds=seconds, nanos=nanos)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("250ms", 250_000_000),
        ("30s", 30 * 10**9),
        ("15m", 900 * 10**9),
        ("7d", 7 * 86_400 * 10**9),
        ("1h30m", 5_400 * 10**9),
        ("90m", 5_400 * 10**9),
        ("0s", 0),
    ],
)
def test_units_add_up(text: str, nanoseconds: int) -> None:
    """A duration is the sum of whole numbers with units, largest first."""
    assert parse_duration(text).ToNanoseconds() == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1.5h", "-1s", "1 h", "30m1h", "1h1h", "1H", "1w", "\u0661s", "1s\n"]
)
def test_an_invalid_duration_is_refused(text: str) -> None:
    """The error gives the rule, with examples."""
    with pytest.raises(ValueError, match='such as "250ms"'):
        parse_duration(text)


def test_a_duration_beyond_the_wire_is_refused() -> None:
    """Durations above Protobuf's maximum of 10,000 years are refused."""
    with pytest.raises(ValueError, match="at most 10,000 years"):
        parse_duration("9999999d")
