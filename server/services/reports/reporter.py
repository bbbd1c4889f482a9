"""Builds reports from the store, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from server.services.errors import (
    ExperimentNotFoundError,
    ExperimentNotStartedError,
    OverloadedError,
)
from server.services.reports.build import make_report
from server.services.reports.values import Report, ReportRequest
from server.services.runtime.async_store import AsyncStore, Thread, service_error
from server.services.runtime.clock import Clock
from server.store.contract import Store
from server.store.errors import StoreBrokenError, StoreError
from server.store.records import ReportFacts, State

_Rendered = TypeVar("_Rendered")
_RETRY_AFTER: Final = timedelta(seconds=1)

MAX_WAITING: Final = 64
"""The most reports that may wait; more are refused. A report on many arms takes seconds."""


class Reporter:
    """Makes reports.

    Args:
        store: Has the facts.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        flush: Adds the decisions counted so far to the facts, so that the report has them.
        count_waiting: Returns how many decisions of the experiment with this number are not flushed yet.
    """

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        *,
        lag: timedelta,
        flush: Callable[[], Awaitable[None]],
        count_waiting: Callable[[int], int],
    ) -> None:
        self._store = store.for_calls
        self._clock = clock
        self._lag = lag
        self._flush = flush
        self._count_waiting = count_waiting
        self._turn = asyncio.Lock()
        self._n_waiting = 0

    async def report(
        self, name: str, request: ReportRequest, render: Callable[[Report], _Rendered]
    ) -> _Rendered:
        """Build the report on an experiment and return `render` of it, both in the thread for reports.

        Reports are built one after the other; one that waits has not read from the store yet.

        Raises:
            OverloadedError: Too many reports wait already.
            InvalidInputError: A split names an arm that the experiment never had, or has bad weights; or a
                metric is not declared.
            ExperimentNotFoundError: There is no experiment of this name.
            ExperimentNotStartedError: It is a draft.
            StorageUnavailableError: The store can't be read.
        """
        if self._n_waiting >= MAX_WAITING:
            raise OverloadedError(f"{self._n_waiting} reports are already waiting", _RETRY_AFTER)
        self._n_waiting += 1
        try:
            async with self._turn:
                return await self._make(name, request, render)
        finally:
            self._n_waiting -= 1

    async def _make(
        self, name: str, request: ReportRequest, render: Callable[[Report], _Rendered]
    ) -> _Rendered:
        is_flushed = await self._try_to_flush()
        now = self._clock.now()
        known = await self._store.read_report(name, self._lag, now)
        if known is None:
            raise ExperimentNotFoundError(name)
        if known.found.record.state is State.DRAFT:
            raise ExperimentNotStartedError(name)
        n_uncounted = 0 if is_flushed else self._count_waiting(known.found.record.number)

        def make(_: Store, known: ReportFacts, now: datetime) -> _Rendered:
            return render(make_report(known, request, self._lag, now, n_uncounted=n_uncounted))

        return await self._store.run(Thread.REPORT, make, known, now)

    async def _try_to_flush(self) -> bool:
        """Flush; return whether the counts are in the store, which may still be readable if it is not.

        Raises:
            StorageUnavailableError: The store's data can't be trusted.
        """
        try:
            await self._flush()
        except StoreBrokenError as error:
            raise service_error(error) from error
        except StoreError:
            return False
        return True
