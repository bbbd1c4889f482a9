"""Times of the command line: with a zone that names one moment, also where clocks change."""

import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from server.cli.framework.console import local_time


@pytest.fixture(autouse=True)
def _own_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the zone of the machine back."""
    before = os.environ.get("TZ")
    yield
    if before is None:
        monkeypatch.delenv("TZ", raising=False)
    else:
        monkeypatch.setenv("TZ", before)
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "instant", "shown"),
    [
        ("UTC", "2026-11-29T17:08:59.9Z", "2026-11-29 17:08 UTC"),
        ("Europe/London", "2026-11-29T17:08:00Z", "2026-11-29 17:08 UTC"),
        ("Europe/London", "2026-06-29T17:08:00Z", "2026-06-29 18:08 +01:00"),
        ("Asia/Kathmandu", "2026-11-29T18:30:00Z", "2026-11-30 00:15 +05:45"),
        ("America/St_Johns", "2026-11-29T17:08:00Z", "2026-11-29 13:38 -03:30"),
        ("America/Chicago", "2026-11-01T06:30:00Z", "2026-11-01 01:30 -05:00"),
        ("America/Chicago", "2026-11-01T07:30:00Z", "2026-11-01 01:30 -06:00"),
        ("Asia/Shanghai", "2026-11-01T07:30:00Z", "2026-11-01 15:30 +08:00"),
        ("ZZZ24", "2026-11-29T17:08:00Z", "2026-11-29 17:08 UTC"),
        ("ZZZ-24:30", "2026-11-29T17:08:00Z", "2026-11-29 17:08 UTC"),
        ("ZZZ3:17:29", "2026-11-29T17:08:00Z", "2026-11-29 13:50 -03:17:29"),
    ],
)
def test_a_time_names_its_zone(zone: str, instant: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset is that of the moment, not of today; CST would be Chicago's and Shanghai's."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(instant))
    assert local_time(stamp) == shown
