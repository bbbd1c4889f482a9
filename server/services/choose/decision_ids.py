"""Unique ids of decisions; see `bandit.decision_id` for their bits."""

import random
from typing import Final

from bandit.decision_id import LOT_BITS, SAMPLE_BITS, new_id
from server.services.choose.decision_counter import DecisionCounter

_DRAWN_BITS: Final = LOT_BITS + SAMPLE_BITS
_MOST_LOTS: Final = 1 << LOT_BITS - 1
"""Ids of a millisecond, half of what there are: beyond that the next millisecond begins early."""

_FAR_BACK_MS: Final = 2_000
"""A clock that goes back further was set right, and is not being slewed."""


class IdMaker:
    """Makes the ids of a run, all different. Belongs to the event loop's thread.

    The time in them stands still where the clock goes back a little. Where it goes back far, since it was put
    right, ids follow it: by then decisions go with another flush, whose number is in their ids.

    Args:
        counter: Has the stamp of the run and flush of a decision that is counted right after.
        generator: Where random bits come from.
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
