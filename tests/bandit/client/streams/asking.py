"""Questions of either client, one by one and at once."""

import asyncio
from collections.abc import Iterable
from concurrent import futures

from bandit.client import AsyncBanditClient, Choice, Fallback
from tests.bandit.client.peer import AnyClient, Script, in_background

V0 = Fallback("v0")


async def ask(client: AnyClient, unit: str | None = None, *, seconds: float | None = None) -> Choice:
    """Choose for a unit, without blocking the event loop."""
    return await in_background(lambda: client.choose("ranker", unit=unit, fallback=V0, timeout=seconds))


async def ask_at_once(client: AnyClient, units: Iterable[str]) -> list[Choice]:
    """Choose for many units, with a task or a thread for each."""
    if isinstance(client, AsyncBanditClient):
        return await asyncio.gather(*(client.choose("ranker", unit=unit, fallback=V0) for unit in units))
    each = list(units)
    with futures.ThreadPoolExecutor(len(each)) as pool:
        waiting = [pool.submit(client.choose, "ranker", unit=unit, fallback=V0) for unit in each]
        return await asyncio.gather(*map(asyncio.wrap_future, waiting))


def n_by_stream(script: Script) -> int:
    """The questions that came over streams."""
    return len(script.requests("ChooseStream"))


def n_by_call(script: Script) -> int:
    """The questions that came as calls of their own."""
    return len(script.requests("Choose"))
