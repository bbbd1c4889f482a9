"""Threads that wait, and who never waits for whom."""

import asyncio
import threading

from server.services.workers import Workers


async def test_nothing_stands_in_line_behind_a_report(workers: Workers) -> None:
    """While one is made, the store is read and written and shares are computed."""
    is_over = threading.Event()
    report = asyncio.create_task(workers.report(is_over.wait, 60))
    others = [workers.compute(str, 1), workers.read(str, 2), workers.write(str, 3)]
    assert await asyncio.gather(*others) == ["1", "2", "3"]
    assert not report.done()
    is_over.set()
    assert await report
