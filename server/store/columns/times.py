"""Instants as the store keeps them: microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final, overload

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@overload
def to_micros(instant: datetime) -> int: ...
@overload
def to_micros(instant: None) -> None: ...
def to_micros(instant: datetime | None) -> int | None:
    """Microseconds since 1970 of an aware instant; exact. None stays None."""
    return None if instant is None else (instant - _START) // _MICROSECOND


@overload
def from_micros(micros: int) -> datetime: ...
@overload
def from_micros(micros: None) -> None: ...
def from_micros(micros: int | None) -> datetime | None:
    """The inverse of `to_micros`."""
    return None if micros is None else _START + timedelta(microseconds=micros)
