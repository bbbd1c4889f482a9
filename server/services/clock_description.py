"""A description of the clock for operators, with advice."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from server.services.runtime.service_time import Pace
from server.store.records import ClockReading

_SLACK: Final = timedelta(seconds=1)
_NOTHING_TO_DO: Final = "nothing: servers continue on their own"


def describe(reading: ClockReading, *, is_shared: bool, trust_after: timedelta, pace: Pace) -> Iterator[str]:
    """Yield the clock in plain words, line by line: its reading, service time, and what to do."""
    record = reading.record
    whose = "the database's" if is_shared else "this machine's"
    yield f"clock:          {_shown(reading.at)} ({whose})"
    reported_at = max((at for at in (record.beat_at, record.doubted_at) if at is not None), default=None)
    reported = "not reported yet" if reported_at is None else f"{_shown(reported_at)}, as last reported"
    yield f"service time:   {reported}"
    yield f"doubt:          {_doubt(reading)}"
    yield f"mark:           {'none yet' if record.mark is None else _shown(record.mark)}"
    yield f"without doubt:  {_long(record.running)} of running in total"
    until = "nothing yet" if record.trusted is None else f"up to {_shown(record.trusted)}"
    yield f"trusted:        {until} (what was marked {_long(trust_after)} of running ago)"
    yield "depends on it:  sealing and purging rewards, forgetting servers and reusing ids of keys reach no"
    yield "                further than the trusted instant; while there is doubt, no epoch begins, no key is"
    yield "                rotated, and nothing is refused for good as too late"
    yield f"what to do:     {_advice(reading, pace)}"


def _doubt(reading: ClockReading) -> str:
    record = reading.record
    if record.doubt is not None and record.doubted_at is not None:
        return f"at {_shown(record.doubted_at)} of service time the clock was {_compared(record.doubt)}"
    if record.mark is not None and reading.at < record.mark - _SLACK:
        return f"the clock is {_long(record.mark - reading.at)} behind the mark: a start now is in doubt"
    return "none"


def _advice(reading: ClockReading, pace: Pace) -> str:
    record = reading.record
    mark = record.mark
    if mark is not None and reading.at < mark - pace.far:
        return (
            "compare the clock with one that you trust. If it is right, run `bandit-server clock accept` and "
            "then `bandit-server clock repair`; if it is wrong, set it right"
        )
    if record.doubt is not None:
        return (
            "compare the clock with one that you trust. If it is wrong, set it right; if it is right, "
            f"servers follow it after {_long(pace.settle)}, or at once with `bandit-server clock accept`"
        )
    if mark is not None and reading.at > mark + pace.far:
        return f"{_NOTHING_TO_DO}, {_long(pace.settle)} after a start"
    return _NOTHING_TO_DO


def _shown(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _compared(difference: timedelta) -> str:
    side = "ahead of" if difference > timedelta() else "behind"
    return f"{_long(abs(difference))} {side} it"


def _long(time: timedelta) -> str:
    """Format a length of time in its two largest units.

    >>> _long(timedelta(hours=25, minutes=7)), _long(timedelta(seconds=3.5))
    ('1 day 1 h', '3 s')
    """
    seconds = int(time.total_seconds())
    units = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        parts.append((count, "days" if name == "day" and count > 1 else name))
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count} {name}" for count, name in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"
