"""RoundRobin of streams, and memory that is returned."""

import asyncio
from functools import partial

from server.http2.limits import MIB
from server.rpc.fast_lane.memory import FreedMemory
from server.rpc.fast_lane.round_robin import RoundRobin


def test_one_stream_goes_on_in_each_turn_of_the_event_loop() -> None:
    """Streams go on in the order in which they asked; one that asks again waits for all others."""
    order: list[str] = []

    async def body() -> list[int]:
        turns = RoundRobin()

        def go_on(name: str) -> None:
            order.append(name)
            if order.count(name) == 1:
                turns.ask(partial(go_on, name))

        for name in ("a", "b", "c"):
            turns.ask(partial(go_on, name))
        counts = []
        for _ in range(6):
            await asyncio.sleep(0)
            counts.append(len(order))
        return counts

    assert asyncio.run(body()) == [1, 2, 3, 4, 5, 6]
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_memory_is_returned_a_while_after_much_was_freed() -> None:
    """It is returned once, when connections have held much less than before for seconds."""
    held = [0]
    returned: list[int] = []
    memory = FreedMemory(lambda: held[0], lambda: returned.append(held[0]))
    for now, held[0] in enumerate((0, 100 * MIB, 100 * MIB, 0, 0, 100 * MIB, 0, 0, 0, 0, 0, 0, 90 * MIB)):
        memory.look(float(now))
    assert returned == [0]
