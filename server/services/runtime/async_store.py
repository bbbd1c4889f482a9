"""The store for the event loop: its methods as coroutines, each on a thread for its kind of work.

The event loop answers Choose, so nothing on it may wait for a disk or a quadrature.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from operator import methodcaller
from typing import Any, Concatenate, ParamSpec, TypeVar

from server.services.errors import (
    ExperimentExistsError,
    OlderServersError,
    QuotaReachedError,
    ServerOutdatedError,
    ServiceError,
    StorageUnavailableError,
)
from server.store import errors
from server.store.contract import Store

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Thread(enum.Enum):
    """The threads that may block; each makes its calls in the order of submission."""

    WRITE = "store-writer"
    READ = "store-reader"

    POLL = "store-poller"
    """Loads changes. Callers' requests to the store must not delay the snapshot."""

    COMPUTE = "computer"
    """Runs long computations, which may read from the store."""

    REPORT = "reporter"
    """Builds reports. One on very many arms takes seconds; neither an epoch nor a pause may wait for it."""


def _on(
    thread: Thread, method: Callable[Concatenate[Store, _Parameters], _Result]
) -> "Callable[Concatenate[AsyncStore, _Parameters], Coroutine[Any, Any, _Result]]":
    """Make a coroutine method from a method of the store's interface, which is looked up by name."""
    name = method.__name__

    async def call(self: "AsyncStore", /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        bound: Callable[[Store], _Result] = methodcaller(name, *args, **kwargs)
        return await self.run(thread, bound)

    return call


class _Writes:
    """The calls of the writing thread. After a failed write to stable storage, none is made.

    A later commit could succeed, and prove nothing about what the failed one has left in the file.
    """

    def __init__(self) -> None:
        self._break: str | None = None

    def make(self, call: Callable[[Store], _Result], store: Store) -> _Result:
        """Make a call, unless an earlier one broke the store."""
        if self._break is not None:
            raise errors.StoreBrokenError(self._break)
        try:
            return call(store)
        except errors.StoreBrokenError as error:
            self._break = str(error)
            raise


class AsyncStore:
    """The methods of a `Store` as coroutines; see there for arguments, results and errors.

    Once a write has raised StoreBrokenError, every later one does.

    Args:
        store: Need not be prepared yet.

    Attributes:
        is_shared: Whether other processes may write while this one does.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._executors = {thread: ThreadPoolExecutor(1, thread.value) for thread in Thread}
        self._writes = _Writes()
        self._translates = False
        self.is_shared = store.is_shared

    prepare = _on(Thread.WRITE, Store.prepare)

    claim_slot = _on(Thread.WRITE, Store.claim_slot)
    read_writers = _on(Thread.READ, Store.read_writers)
    end_runs = _on(Thread.WRITE, Store.end_runs)
    end_cleanly = _on(Thread.WRITE, Store.end_cleanly)
    move_uncounted = _on(Thread.WRITE, Store.move_uncounted)
    forget_writers = _on(Thread.WRITE, Store.forget_writers)

    create_experiment = _on(Thread.WRITE, Store.create_experiment)
    find_experiment = _on(Thread.READ, Store.find_experiment)
    has_name = _on(Thread.READ, Store.has_name)
    list_experiments = _on(Thread.READ, Store.list_experiments)
    change_experiment = _on(Thread.WRITE, Store.change_experiment)
    delete_experiment = _on(Thread.WRITE, Store.delete_experiment)
    load_changes = _on(Thread.POLL, Store.load_changes)
    list_audit_entries = _on(Thread.READ, Store.list_audit_entries)
    list_events = _on(Thread.READ, Store.list_events)
    read_events_since = _on(Thread.READ, Store.read_events_since)
    read_event_cursor = _on(Thread.READ, Store.read_event_cursor)

    begin_endpoint = _on(Thread.WRITE, Store.begin_endpoint)
    queue_deliveries = _on(Thread.WRITE, Store.queue_deliveries)
    find_due = _on(Thread.READ, Store.find_due)
    claim_delivery = _on(Thread.WRITE, Store.claim_delivery)
    remove_delivery = _on(Thread.WRITE, Store.remove_delivery)
    note_failure = _on(Thread.WRITE, Store.note_failure)

    add_epoch = _on(Thread.WRITE, Store.add_epoch)
    find_epochs = _on(Thread.READ, Store.find_epochs)
    read_report = _on(Thread.REPORT, Store.read_report)
    record_rewards = _on(Thread.WRITE, Store.record_rewards)

    find_sealable = _on(Thread.COMPUTE, Store.find_sealable)
    seal = _on(Thread.WRITE, Store.seal)
    settle_seals = _on(Thread.WRITE, Store.settle_seals)
    purge = _on(Thread.WRITE, Store.purge)
    purge_configurations = _on(Thread.WRITE, Store.purge_configurations)
    purge_events = _on(Thread.WRITE, Store.purge_events)

    adopt_keys = _on(Thread.WRITE, Store.adopt_keys)
    read_keys = _on(Thread.READ, Store.read_keys)
    poll_keys = _on(Thread.POLL, Store.read_keys)
    rotate_keys = _on(Thread.WRITE, Store.rotate_keys)
    revoke_key = _on(Thread.WRITE, Store.revoke_key)
    read_looks = _on(Thread.READ, Store.read_looks)
    keep_looks = _on(Thread.WRITE, Store.keep_looks)
    find_request = _on(Thread.READ, Store.find_request)

    read_mark = _on(Thread.READ, Store.read_mark)
    has_passed = _on(Thread.READ, Store.has_passed)

    beat_clock = _on(Thread.WRITE, Store.beat_clock)

    read_lease = _on(Thread.POLL, Store.read_lease)
    take_over_lease = _on(Thread.WRITE, Store.take_over_lease)
    renew_lease = _on(Thread.WRITE, Store.renew_lease)
    release_lease = _on(Thread.WRITE, Store.release_lease)

    @property
    def for_calls(self) -> "AsyncStore":
        """This store on the same threads, for services that answer calls: it raises service errors.

        `StaleRevisionError`, `LeaseLostError` and `KeysNotReadyError` pass, since those services act on them.
        Any other error of the store becomes its `service_error`.
        """
        store = copy(self)
        store._translates = True  # noqa: SLF001 - of the same class
        return store

    @property
    def flaw(self) -> str | None:
        """The value of `Store.flaw`."""
        return self._store.flaw

    @property
    def wal_bytes(self) -> int | None:
        """The value of `Store.wal_bytes`."""
        return self._store.wal_bytes

    async def run(
        self,
        thread: Thread,
        call: Callable[Concatenate[Store, _Parameters], _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Call `call` with the blocking store and these arguments on a thread, and return its result."""
        try:
            return await asyncio.wrap_future(self._submit(thread, lambda store: call(store, *args, **kwargs)))
        except (errors.StaleRevisionError, errors.LeaseLostError, errors.KeysNotReadyError):
            raise
        except errors.StoreError as error:
            if self._translates:
                raise service_error(error) from error
            raise

    def start(
        self, thread: Thread, call: Callable[[Store], _Result], done: Callable[[Future[_Result]], object]
    ) -> None:
        """Call `call` with the blocking store on a thread, and then `done` on the event loop.

        One hop to the thread and one back; `run` needs two more, to wake a task. Errors are the store's.
        """
        loop = asyncio.get_running_loop()
        future = self._submit(thread, call)
        future.add_done_callback(lambda ended: loop.call_soon_threadsafe(done, ended))

    def _submit(self, thread: Thread, call: Callable[[Store], _Result]) -> Future[_Result]:
        if thread is Thread.WRITE:
            return self._executors[thread].submit(self._writes.make, call, self._store)
        return self._executors[thread].submit(call, self._store)

    def close(self) -> None:
        """Wait for submitted calls, and end the threads; the store itself stays open."""
        for executor in self._executors.values():
            executor.shutdown(wait=True)


def service_error(error: errors.StoreError) -> ServiceError:
    """Return the service error for a call that failed because of the store."""
    match error:
        case errors.OutdatedError():
            return ServerOutdatedError(str(error))
        case errors.OlderServersError():
            return OlderServersError(str(error))
        case errors.NameTakenError():
            return ExperimentExistsError(error.name)
        case errors.QuotaReachedError():
            return QuotaReachedError.of_experiments(error.namespace, error.most)
        case _:
            return StorageUnavailableError()
