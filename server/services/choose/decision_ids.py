"""Unique decision ids; see `bandit.decision_id` for their bits."""

import random
from typing import Final

from bandit.decision_id import LOT_BITS, SAMPLE_BITS, new_id
from server.services.choose.decision_counter import DecisionCounter

_DRAWN_BITS: Final = LOT_BITS + SAMPLE_BITS
_MOST_LOTS: Final = 1 << LOT_BITS - 1
"""Ids in a millisecond, half of those possible; after that the next millisecond begins early."""

_FAR_BACK_MS: Final = 2_000
"""A clock that goes back further was corrected, and is not being slewed."""


class IdMaker:
    """Makes the ids of a run, all different. Belongs to the event loop's thread.

    Their time stands still if the clock goes back a little. If it goes back far, because it was corrected,
    the ids follow it: by then decisions belong to another flush, whose number is in their ids.

    Args:
        counter: Has the stamp of run and flush; a decision must be counted right after it gets its id.
        generator: The source of random bits.
    """

    __slots__ = ("_counter", "_drawn", "_generator", "_now_ms")

    def __init__(self, counter: DecisionCounter, generator: random.Random) -> None:
        self._counter = counter
        self._generator = generator
        self._now_ms = 0
        self._drawn: set[int] = set()

    def make(self, now_ms: int) -> bytes:
        """Return the id of a decision made now, in milliseconds since 1970."""
        drawn = self._drawn
        if now_ms > self._now_ms or now_ms < self._now_ms - _FAR_BACK_MS:
            self._now_ms = now_ms
            drawn.clear()
        elif len(drawn) >= _MOST_LOTS:
            self._now_ms += 1
            drawn.clear()
        bits = self._generator.getrandbits(_DRAWN_BITS)
        while (lot := bits >> SAMPLE_BITS) in drawn:
            bits = self._generator.getrandbits(_DRAWN_BITS)
        drawn.add(lot)
        return new_id(self._now_ms, self._counter.stamp << _DRAWN_BITS | bits)
