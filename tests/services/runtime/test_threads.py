"""Threads that wait, and who never waits for whom."""

import asyncio
import threading

from server.services.runtime.threads import Workers


async def test_nothing_stands_in_line_behind_a_report(workers: Workers) -> None:
    """While one is made, the store is read and written and shares are computed."""
    is_over = threading.Event()
    report = asyncio.create_task(workers.report(is_over.wait, 60))
    others = [workers.compute(str, 1), workers.read(str, 2), workers.write(str, 3)]
    assert await asyncio.gather(*others) == ["1", "2", "3"]
    assert not report.done()
    is_over.set()
    assert await report


async def test_a_poll_stands_in_no_line(workers: Workers) -> None:
    """What callers ask of the store, however slow, does not keep the poll from hearing what changed."""
    is_over = threading.Event()
    kinds = (workers.read, workers.write, workers.compute, workers.report)
    others = [asyncio.create_task(kind(is_over.wait, 60)) for kind in kinds]
    assert await workers.poll(str, 1) == "1"
    assert not any(other.done() for other in others)
    is_over.set()
    assert all(await asyncio.gather(*others))
