"""Service time: the time of all services, from a monotonic clock and readings of one that can be set.

    service time = anchor + monotonic time

A reading that differs by at most a second is followed by slewing, without notice. A larger difference starts
*doubt*: time runs on as before, and nothing new that depends on it is begun, until the reading agrees again
or has been consistent for long enough to be followed. Time never goes back, except to where it was before a
start that ran ahead of everything in the database. These waits are multiples of one setting: see `Pace`.
"""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from typing_extensions import override

from server.services.runtime.clock import Clock
from server.store.records import ClockReading, ClockRecord

EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No correct clock is earlier than this; one that was never set shows 1970."""

MOST_AHEAD_MS: Final = 60_000
"""How far in the future a decision id may lie, for clocks that disagree."""

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000
_SLACK: Final = 1 * _SECOND
_DRIFT: Final = 0.01
"""How much a consistent clock may drift from the monotonic one, as a fraction."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The durations for which a clock must be consistent before it is trusted; all follow from one.

    Attributes:
        settle: Time without doubt before the mark moves, and before a reading far ahead is followed.
    """

    settle: timedelta = timedelta(minutes=10)

    @property
    def near(self) -> timedelta:
        """The time for which a reading at most `far` away must be consistent before it is followed."""
        return self.settle / 10

    @property
    def far(self) -> timedelta:
        """The difference above which a reading may be a mistake, and needs longer to be trusted."""
        return 6 * self.settle

    @property
    def beat(self) -> timedelta:
        """The interval at which a server records that it runs without doubt."""
        return min(timedelta(minutes=1), self.settle / 10)


class Change(enum.StrEnum):
    """A change caused by a reading; the values are parts of log event names."""

    BEGAN = "began"
    DOUBTED = "doubted"
    AGREED = "agreed"
    FOLLOWED = "followed"
    SETTLED = "settled"
    ACCEPTED = "accepted"


class _Line(NamedTuple):
    """Service time as a function of monotonic time; replaced as a whole, since other threads read it.

    Attributes:
        offset: Service time minus monotonic time before slewing, in microseconds.
        slew: Microseconds to be added, at half a second per second.
        since: Monotonic time from which they are added.
    """

    offset: int
    slew: int
    since: float

    def at(self, seconds: float) -> int:
        """Return service time in microseconds since 1970."""
        micros = int(seconds * _SECOND) + self.offset
        if self.slew:
            most = max(int((seconds - self.since) * _SECOND) // 2, 0)
            micros += min(self.slew, most) if self.slew > 0 else max(self.slew, -most)
        return micros


class _Doubt(NamedTuple):
    """A reading that differs: the reading minus monotonic time, and since when it has been consistent."""

    offset: int
    since: float


class ServiceClock(Clock):
    """Service time. Readings are taken on the event loop's thread; any thread may read the time.

    Until the first reading it runs from the host's time at construction.

    Args:
        host: The clocks of this machine.
        pace: How long a reading must be consistent.
        is_shared: Whether servers share the clock that is read; if so, doubt makes decisions unconfirmed.

    Attributes:
        record: The database's record of the clock at the last reading; None before the first.
        offset: How far the last reading was ahead of service time.
    """

    def __init__(self, host: Clock, pace: Pace | None = None, *, is_shared: bool = False) -> None:
        self.host = host
        self.pace = pace or Pace()
        self._is_shared = is_shared
        self.monotonic = self._monotonic = host.monotonic
        self._line = _line_through(max(host.now(), EARLIEST), host.monotonic())
        self._doubt: _Doubt | None = None
        self._unsettled_since: float | None = None
        self._free_since = host.monotonic()
        self._baseline: datetime | None = None
        self.record: ClockRecord | None = None
        self.offset = timedelta()

    @override
    def time_ms(self) -> int:
        line = self._line
        if line.slew:
            return line.at(self._monotonic()) // 1000
        return (int(self._monotonic() * _SECOND) + line.offset) // 1000  # as above, at half the cost

    @override
    def now(self) -> datetime:
        return _instant(self._line.at(self._monotonic()))

    @override
    def trusted_until(self) -> datetime | None:
        if self.record is None or self.record.trusted is None or self.record.mark is None:
            return None
        if self.is_doubted or not self.is_settled:
            return None
        return min(self.record.trusted, self.record.mark, self.now())

    @property
    def free_since(self) -> float | None:
        """The monotonic time since which there was no doubt; None in doubt or before time has settled."""
        return None if self.is_doubted or not self.is_settled or self.record is None else self._free_since

    @property
    def next_mark(self) -> datetime | None:
        """The instant to mark: service time, once there was no doubt for long enough; otherwise None."""
        since = self.free_since
        is_due = since is not None and self._monotonic() - since >= self.pace.settle.total_seconds()
        return self.now() if is_due else None

    def take(self, reading: ClockReading, asked_at: float, answered_at: float) -> list[Change]:
        """Process a reading made between two monotonic times, and return the changes."""
        before, self.record = self.record, reading.record
        middle = (asked_at + answered_at) / 2
        if before is None:
            return self._begin(reading, middle)
        if reading.record.generation != before.generation:
            return self._accept(reading, middle)
        changes = self._compare(reading.at, middle, int((answered_at - asked_at) * _SECOND / 2))
        since = self._unsettled_since
        if since is not None and not self.is_doubted and middle - since >= self.pace.settle.total_seconds():
            self._settle(since)
            changes.append(Change.SETTLED)
        return changes

    def _begin(self, reading: ClockReading, seconds: float) -> list[Change]:
        mark = reading.record.mark
        self._baseline = mark or reading.last_seen
        start = max(reading.at, mark or EARLIEST)
        self._line = _line_through(start, seconds)
        self._free_since = seconds
        if self._baseline is not None and not self._is_near(self._baseline, start):
            self._unsettle(seconds)
        changes = [Change.BEGAN]
        if start - reading.at > _SLACK * _MICROSECOND:
            changes += self._compare(reading.at, seconds, 0)
        return changes

    def _accept(self, reading: ClockReading, seconds: float) -> list[Change]:
        self._line = _line_through(max(reading.at, EARLIEST), seconds)
        self._end_doubt(seconds)
        self._settle(seconds)
        return [Change.ACCEPTED]

    def _compare(self, at: datetime, seconds: float, uncertainty: int) -> list[Change]:
        """Follow a reading, doubt it, or wait; its moment is known to within `uncertainty` microseconds."""
        offset = _micros(at) - int(seconds * _SECOND)
        error = offset - self._line.offset - self._line.slew
        self.offset = (_micros(at) - self._line.at(seconds)) * _MICROSECOND
        slack = _SLACK + uncertainty
        if abs(error) <= slack:
            if abs(error) > uncertainty:
                self._slew_to(offset - uncertainty if error > 0 else offset + uncertainty)
            if self._doubt is None:
                return []
            self._end_doubt(seconds)
            return [Change.AGREED]
        if self._doubt is None or not self._is_consistent(self._doubt, offset, seconds, slack):
            is_new = self._doubt is None
            self._doubt = _Doubt(offset, seconds)
            self._set_doubted(is_doubted=True)
            return [Change.DOUBTED] if is_new else []
        if seconds - self._doubt.since >= self._patience(at, error):
            return self._follow(at, error, seconds)
        return []

    def _slew_to(self, offset: int) -> None:
        """Slew to an offset from monotonic time, starting now and never going backwards."""
        seconds = self._monotonic()
        reached = self._line.at(seconds) - int(seconds * _SECOND)
        self._line = _Line(reached, offset - reached, seconds)

    def _is_consistent(self, doubt: _Doubt, offset: int, seconds: float, slack: int) -> bool:
        return abs(offset - doubt.offset) <= slack + _DRIFT * (seconds - doubt.since) * _SECOND

    def _patience(self, at: datetime, error: int) -> float:
        """Return the seconds for which a reading must be consistent before it is followed."""
        if at < EARLIEST:
            return float("inf")
        if abs(error) * _MICROSECOND <= self.pace.far:
            return self.pace.near.total_seconds()
        if error < 0 and not self._may_go_back_to(at):
            return float("inf")  # until an operator accepts it
        if (
            error < 0
            and not self.is_settled
            and self._baseline is not None
            and self._is_near(self._baseline, at)
        ):
            return self.pace.near.total_seconds()  # where time was before the start or jump
        return self.pace.settle.total_seconds()

    def _may_go_back_to(self, at: datetime) -> bool:
        """True if no mark is later than the instant, so that a start would begin with it, too."""
        mark = None if self.record is None else self.record.mark
        return mark is None or at >= mark

    def _follow(self, at: datetime, error: int, seconds: float) -> list[Change]:
        is_far = abs(error) * _MICROSECOND > self.pace.far
        if is_far or _micros(at) >= self._line.at(seconds):
            self._line = _line_through(at, seconds)
        else:
            self._slew_to(_micros(at) - int(seconds * _SECOND))
        self._end_doubt(seconds)
        if is_far and error > 0:
            self._unsettle(seconds)
        elif is_far:
            self._settle(seconds)
        return [Change.FOLLOWED]

    def _is_near(self, baseline: datetime, at: datetime) -> bool:
        """True if a clock last read at the baseline may plausibly show this instant."""
        return -self.pace.near <= at - baseline <= self.pace.far

    def _unsettle(self, seconds: float) -> None:
        self._unsettled_since = seconds
        self.is_settled = False

    def _settle(self, seconds: float) -> None:
        self._unsettled_since = None
        self._free_since = seconds
        self.is_settled = True

    def _end_doubt(self, seconds: float) -> None:
        self._doubt = None
        self._free_since = seconds
        if self._unsettled_since is not None:
            self._unsettled_since = seconds
        self._set_doubted(is_doubted=False)

    def _set_doubted(self, *, is_doubted: bool) -> None:
        self.is_doubted = is_doubted
        self.confirms_decisions = not (is_doubted and self._is_shared)


def _line_through(instant: datetime, seconds: float) -> _Line:
    return _Line(_micros(instant) - int(seconds * _SECOND), 0, seconds)


def _micros(instant: datetime) -> int:
    return (instant - _START) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _START + micros * _MICROSECOND
