"""Consoles of the commands, and formats of numbers.

Names and texts come from other people, so no console reads markup. A pipe gets no colour and 100 columns.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from bandit.v1.experiment_pb2 import State
from server.standard_streams import note_done

_PIPE_WIDTH = 100
_MAX_DECIMALS = 8


def output_console() -> Console:
    """Return a console on standard output."""
    return _console(stderr=False)


def error_console() -> Console:
    """Return a console on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def print_json(message: Message) -> None:
    """Print the protobuf JSON of `message`: names as in the proto, defaults included."""
    text = MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=2
    )
    click.echo(text)


def say_done(text: str) -> None:
    """Print a sentence about a change that was made; if that fails, it is part of the error."""
    note_done(text)
    click.echo(text)


def counted(number: int, noun: str) -> str:
    """Format a number of things.

    >>> counted(1, "outcome"), counted(12_345, "outcome")
    ('1 outcome', '12,345 outcomes')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def decimals_for(widths: Sequence[float]) -> int:
    """Return the decimals for numbers known to within `widths`: two figures of the narrowest width.

    >>> decimals_for([0.25, 0.013])
    3
    """
    narrowest = min((width for width in widths if width > 0), default=0.01)
    return min(max(1 - math.floor(math.log10(narrowest)), 0), _MAX_DECIMALS)


def state_name(state: State.ValueType) -> str:
    """Return `running` for STATE_RUNNING, or the number of a state that only newer servers know."""
    try:
        return State.Name(state).removeprefix("STATE_").lower()
    except ValueError:
        return str(state)


def local_time(instant: Timestamp) -> str:
    """Format an instant to the minute, in the local time zone, as in `2026-11-29 17:08 +01:00`."""
    local = in_local_zone(instant.ToDatetime(UTC))
    return f"{local:%Y-%m-%d %H:%M} {zone_text(local)}"


def local_second(instant: Timestamp) -> str:
    """Format an instant to the second, otherwise as `local_time`."""
    local = in_local_zone(instant.ToDatetime(UTC))
    return f"{local:%Y-%m-%d %H:%M:%S} {zone_text(local)}"


def in_local_zone(instant: datetime) -> datetime:
    """Return an aware instant in the local time zone; as it is where that is a day or more from UTC.

    The variable TZ may say so, and Python has no such zones.
    """
    try:
        return instant.astimezone()
    except (ValueError, OverflowError):
        return instant


def zone_text(instant: datetime) -> str:
    """Return what an aware instant's zone is ahead of UTC; abbreviations such as CST name several zones.

    >>> zone_text(datetime.fromisoformat("2026-11-29T17:08+05:45"))
    '+05:45'
    >>> zone_text(datetime(2026, 11, 29, tzinfo=UTC))
    'UTC'
    """
    if not instant.utcoffset():
        return "UTC"
    return instant.isoformat(timespec="seconds")[len("2026-11-29T17:08:00") :]
