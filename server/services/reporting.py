"""Reads what is known of an experiment, and has a report made of it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from server.services.clock import Clock
from server.services.errors import ExperimentNotFoundError, ExperimentNotStartedError, StorageAwayError
from server.services.report import Report, Wanted
from server.services.report_making import make_report
from server.services.workers import Workers
from server.store.errors import StoreError
from server.store.interface import Store
from server.store.records import State

_RETRY_AFTER: Final = timedelta(seconds=1)


class Reporter:
    """Makes reports.

    Args:
        store: Where the facts are.
        workers: Whose thread for reports folds them.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        flush: Adds the decisions counted so far to the facts, so that the report has them.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        clock: Clock,
        *,
        lag: timedelta,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._lag = lag
        self._flush = flush

    async def report(self, name: str, wanted: Wanted) -> Report:
        """The report on an experiment.

        Raises:
            InvalidInputError: A split names an arm that the experiment never had, or its weights are none.
            ExperimentNotFoundError: There is none of this name.
            ExperimentNotStartedError: It is a draft.
        """
        try:
            await self._flush()
            return await self._workers.report(self._read_and_report, name, wanted)
        except StoreError as error:
            raise StorageAwayError(_RETRY_AFTER) from error

    def _read_and_report(self, name: str, wanted: Wanted) -> Report:
        known = self._store.read_report(name)
        if known is None:
            raise ExperimentNotFoundError(name)
        if known.found.record.state is State.DRAFT:
            raise ExperimentNotStartedError(name)
        return make_report(known, wanted, self._lag, self._clock.now())
