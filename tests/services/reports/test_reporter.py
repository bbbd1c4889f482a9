"""Concurrent reports: made one after the other, and refused beyond a bound."""

import asyncio
import threading
from datetime import timedelta

import pytest

from server.services.errors import ExperimentNotFoundError, OverloadedError
from server.services.reports.reporter import MAX_WAITING, Reporter
from server.services.reports.values import ReportRequest
from server.services.runtime.async_store import AsyncStore, Thread
from server.store.sql_store import SqlStore
from tests.services.support import ManualClock
from tests.store.builders import statements_of


async def test_a_flood_of_reports_is_bounded(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock
) -> None:
    """While a report is made, others wait without asking the store for anything; too many are refused."""
    n_flushes = 0

    async def flush() -> None:
        nonlocal n_flushes
        n_flushes += 1

    def render(_report: object) -> None:
        raise AssertionError("there is no such experiment")

    reporter = Reporter(async_store, clock, lag=timedelta(seconds=5), flush=flush, count_waiting=lambda _: 0)
    is_over = threading.Event()
    busy = asyncio.create_task(async_store.run(Thread.REPORT, lambda _: is_over.wait(60)))
    request = ReportRequest(max_epochs=10)
    calls = [asyncio.create_task(reporter.report("ranker", request, render)) for _ in range(MAX_WAITING)]
    with statements_of(store) as sent:
        await asyncio.sleep(0)  # lets each of them begin to wait
        with pytest.raises(OverloadedError, match="64 reports are already waiting"):
            await reporter.report("ranker", request, render)
        assert (n_flushes, sent) == (1, [])
    is_over.set()
    assert await busy
    for call in calls:
        with pytest.raises(ExperimentNotFoundError):
            await call
    assert n_flushes == MAX_WAITING
