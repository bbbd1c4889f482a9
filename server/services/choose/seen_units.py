"""Units seen by Choose: kept in memory, bounded, until they are flushed."""

from collections import deque
from typing import Final, TypeAlias

from bandit.facts import DecisionKey
from bandit.facts.units import N_STEERING
from server.services.snapshot.offers import Offer

MAX_FLUSH_UNITS: Final = 4_096
"""The most units in a flush, so that no flush delays rewards for long."""

MAX_WAITING_UNITS: Final = 200_000
"""The most units that wait for a flush, some 60 MB; units first seen beyond that get no row."""

Seen: TypeAlias = dict[bytes, tuple[tuple[bytes, ...], int]]
"""The mark of a unit to its first decisions, and how many it made in all."""

SeenByOffer: TypeAlias = dict[Offer, Seen]


class SeenUnits:
    """The units seen since the last flush, by offer: the first decisions of each, and its decision count.

    Belongs to the event loop's thread, but for `date`, which belongs to the thread that sends flushes.

    Memory is bounded. While the store is away, decisions soon become `unconfirmed`, and their units are not
    recorded. While it can be read but not written, units are recorded up to the bound, and the others counted
    and dropped. Evidence then counts those at their next decision, if they come back: which units are left
    out depends on when they came, and not on their arm.
    """

    def __init__(self) -> None:
        self._open: SeenByOffer = {}
        self._n_open = 0
        self._full: deque[SeenByOffer] = deque()
        self._n_refused = 0
        self._n_misdated = 0

    def __len__(self) -> int:
        """Return how many flushes it takes to send all of them."""
        return len(self._full) + bool(self._open)

    def note(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        """Record a decision for the unit with this mark."""
        seen = self._open.get(offer)
        if seen is None:
            seen = self._open[offer] = {}
        known = seen.get(mark)
        if known is not None:
            ids, count = known
            seen[mark] = (ids if count >= N_STEERING else (*ids, decision), count + 1)
        elif self._n_open < MAX_FLUSH_UNITS:
            seen[mark] = ((decision,), 1)
            self._n_open += 1
        elif MAX_FLUSH_UNITS * (len(self._full) + 2) <= MAX_WAITING_UNITS:
            self._full.append(self._open)
            self._open, self._n_open = {offer: {mark: ((decision,), 1)}}, 1
        else:
            self._n_refused += 1

    @property
    def n_dropped(self) -> int:
        """Decisions of this run whose unit was not recorded."""
        return self._n_refused + self._n_misdated

    def take(self) -> SeenByOffer:
        """Remove and return the units of the next flush, at most `MAX_FLUSH_UNITS`."""
        if self._full:
            return self._full.popleft()
        taken, self._open, self._n_open = self._open, {}, 0
        return taken

    def date(self, taken: SeenByOffer, latest: bytes) -> list[tuple[DecisionKey, Seen]]:
        """Return the units of a flush without decisions that a clock which ran ahead dated.

        Args:
            taken: The units.
            latest: A decision with this id or above is no unit's first; units without any other are dropped.
        """
        dated = {offer: _before(latest, seen) for offer, seen in taken.items()}
        self._n_misdated += sum(map(len, taken.values())) - sum(map(len, dated.values()))
        return [(offer.key, seen) for offer, seen in dated.items() if seen]


def _before(latest: bytes, seen: Seen) -> Seen:
    """Return the units with decisions below the id `latest`, each with those."""
    return {
        mark: (ids, count)
        for mark, (known, count) in seen.items()
        if (ids := tuple(each for each in known if each < latest))
    }
