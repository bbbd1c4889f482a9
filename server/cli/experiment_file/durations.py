"""Durations as people write them: `250ms`, `30s`, `15m`, `1h`, `7d`, `1h30m`.

A duration is one or more whole numbers with units, the largest unit first, each at most once. Exact to the
nanosecond, as protobuf's Duration is.
"""

import re

from google.protobuf.duration_pb2 import Duration

_UNITS = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_PATTERN = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,21}}){unit})?" for unit in _UNITS))
_NANOSECONDS = 1_000_000_000
_LONGEST_SECONDS = 315_576_000_000


def parse_duration(text: str) -> Duration:
    """Parse a duration.

    Raises:
        ValueError: not a duration, or one beyond protobuf's 10,000 years.

    >>> parse_duration("1h30m").seconds
    5400
    """
    match = _PATTERN.fullmatch(text)
    if match is None or not text:
        raise ValueError('must be a duration such as "250ms", "30s", "15m", "1h", "7d" or "1h30m"')
    total = sum(int(n) * _UNITS[unit] for unit, n in match.groupdict(default="0").items())
    seconds, nanos = divmod(total, _NANOSECONDS)
    if seconds > _LONGEST_SECONDS:
        raise ValueError("must be at most 10,000 years")
    return Duration(seconds=seconds, nanos=nanos)


def format_duration(duration: Duration) -> str:
    """Return the shortest text that `parse_duration` reads as `duration`; a negative one begins with a minus.

    >>> format_duration(Duration(seconds=5400))
    '1h30m'
    """
    total = duration.seconds * _NANOSECONDS + duration.nanos
    sign, rest = ("-" if total < 0 else ""), abs(total)
    parts = []
    for unit, size in _UNITS.items():
        n, rest = divmod(rest, size)
        if n:
            parts.append(f"{n}{unit}")
    return sign + ("".join(parts) or "0s")
