"""Commands that show and repair the clock of a database, with or without running servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from server.app.errors import startup_errors
from server.services import clock_description
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import Pace
from server.settings import SettingValues
from server.store.contract import Store
from server.store.opening import open_beside
from server.store.records import ClockRepair


def show_clock(settings: SettingValues) -> list[str]:
    """Return the clock in plain words, line by line.

    Raises:
        StartupError: The database can't be opened.
    """
    trust_after = timedelta(seconds=settings.trust_clock_after_seconds)
    with opened_beside(settings) as store:
        reading = store.read_clock(Clock().now(), trust_after)
        pace = Pace(timedelta(seconds=settings.clock_settle_seconds))
        return list(
            clock_description.describe(reading, is_shared=store.is_shared, trust_after=trust_after, pace=pace)
        )


def accept_clock(settings: SettingValues, *, reason: str, caller: str) -> datetime:
    """Accept the clock's reading, and return its time. Servers follow with their next poll.

    Raises:
        StartupError: The database can't be opened or written.
    """
    with opened_beside(settings) as store:
        return store.accept_clock(Clock().now(), reason=reason, caller=caller)


def repair_clock(settings: SettingValues, *, reason: str, caller: str) -> ClockRepair:
    """Repair what a clock that ran ahead left in the database.

    Raises:
        StartupError: The database can't be opened or written.
    """
    with opened_beside(settings) as store:
        return store.repair_clock(Clock().now(), reason=reason, caller=caller)


@contextmanager
def opened_beside(settings: SettingValues) -> Iterator[Store]:
    """Yield the store of a database that servers may be using; StartupError if it can't be opened."""
    with startup_errors(settings):
        store = open_beside(settings.database)
        try:
            yield store
        finally:
            store.close()
