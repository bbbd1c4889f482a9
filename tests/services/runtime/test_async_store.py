"""The store for the event loop: which calls wait for which, and how the store's errors are translated."""

import asyncio
import threading

import pytest

from server.services.errors import (
    ExperimentExistsError,
    OlderServersError,
    QuotaReachedError,
    ServerOutdatedError,
    StorageUnavailableError,
)
from server.services.runtime.async_store import AsyncStore, Thread
from server.store import errors
from server.store.contract import Store


async def test_nothing_waits_for_a_report(async_store: AsyncStore) -> None:
    """While a report is made, the store is read and written and shares are computed."""
    is_over = threading.Event()
    report = asyncio.create_task(async_store.run(Thread.REPORT, lambda _: is_over.wait(60)))
    kinds = (Thread.COMPUTE, Thread.READ, Thread.WRITE)
    others = [async_store.run(kind, lambda _, number: number, number) for number, kind in enumerate(kinds)]
    assert await asyncio.gather(*others) == [0, 1, 2]
    assert not report.done()
    is_over.set()
    assert await report


async def test_a_poll_waits_for_no_other_call(async_store: AsyncStore) -> None:
    """A poll reads what changed, however slow the callers' own calls to the store are."""
    is_over = threading.Event()
    kinds = set(Thread) - {Thread.POLL}
    others = [asyncio.create_task(async_store.run(kind, lambda _: is_over.wait(60))) for kind in kinds]
    assert (await async_store.load_changes(None)).live == ()
    assert not any(other.done() for other in others)
    is_over.set()
    assert all(await asyncio.gather(*others))


EXAMPLES: list[tuple[errors.StoreError, type[Exception]]] = [
    (errors.StoreUnreachableError(), StorageUnavailableError),
    (errors.StoreFullError(), StorageUnavailableError),
    (errors.StoreBrokenError(), StorageUnavailableError),
    (errors.RowRefusedError(), StorageUnavailableError),
    (errors.OutdatedError(), ServerOutdatedError),
    (errors.OlderServersError("units", "0.3.0", ["0.2.0"]), OlderServersError),
    (errors.NameTakenError("ranker"), ExperimentExistsError),
    (errors.QuotaReachedError("team-a", 3), QuotaReachedError),
    (errors.StaleRevisionError("ranker"), errors.StaleRevisionError),
    (errors.KeysNotReadyError("too early"), errors.KeysNotReadyError),
]


@pytest.mark.parametrize(("error", "seen"), EXAMPLES, ids=[type(error).__name__ for error, _ in EXAMPLES])
async def test_services_that_answer_calls_see_their_own_errors(
    async_store: AsyncStore, error: errors.StoreError, seen: type[Exception]
) -> None:
    """Services get their own errors, except those that they act on; others get what the store raised."""

    def fail(_: Store) -> None:
        raise error

    with pytest.raises(seen) as caught:
        await async_store.for_calls.run(Thread.READ, fail)
    assert error in {caught.value, caught.value.__cause__}
    with pytest.raises(type(error)):
        await async_store.run(Thread.READ, fail)


async def test_no_write_is_made_after_one_that_failed_on_its_way_to_the_disk(async_store: AsyncStore) -> None:
    """Every later write fails as the broken one did, also one that was waiting; reads are made."""
    n_made = 0

    def fail(_: Store) -> None:
        raise errors.StoreBrokenError("a write failed")

    def write(_: Store) -> None:
        nonlocal n_made
        n_made += 1

    calls = [async_store.run(Thread.WRITE, call) for call in (write, fail, write)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results] == ["None", "a write failed", "a write failed"]
    with pytest.raises(errors.StoreBrokenError, match="a write failed"):
        await async_store.run(Thread.WRITE, write)
    with pytest.raises(StorageUnavailableError):
        await async_store.for_calls.run(Thread.WRITE, write)
    assert n_made == 1
    assert (await async_store.load_changes(None)).live == ()
