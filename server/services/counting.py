"""How many decisions each arm made: counted in memory, added to the facts once a second, each flush once."""

from collections import Counter, defaultdict

from bandit.decision import Basis
from bandit.facts import DecisionKey
from server.services.offers import Offer
from server.services.writer import Writer
from server.store.records import Flush


class DecisionCounter:
    """Counts decisions until they are flushed. Belongs to the event loop's thread.

    A flush whose COMMIT was lost in doubt is kept and sent again under its number; the store adds it once.

    Args:
        writer: Whose counts they are.

    Attributes:
        totals: Decisions of this run by experiment, arm and basis, those not flushed left out.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sequence = 0
        self._counts: defaultdict[Offer, int] = defaultdict(int)
        self._waiting: Counter[DecisionKey] = Counter()
        self._pending: Flush | None = None
        self.totals: Counter[tuple[int, int, Basis]] = Counter()

    def count(self, offer: Offer) -> None:
        """Counts one decision."""
        self._counts[offer] += 1

    def flush(self) -> Flush | None:
        """What to send: what is in doubt, else what was counted since; None if there is nothing.

        `settle` must follow before anything newer is sent.
        """
        self._gather()
        if self._pending is None and self._waiting:
            self._sequence += 1
            self._pending = Flush(
                slot=self._writer.slot,
                incarnation=self._writer.incarnation,
                sequence=self._sequence,
                counts=self._waiting,
            )
            for key, count in self._waiting.items():
                self.totals[key.experiment, key.arm, key.basis] += count
            self._waiting = Counter()
        return self._pending

    def _gather(self) -> None:
        """Adds the counts up by key: in a long outage there are ever new offers, and no more keys."""
        for offer, count in self._counts.items():
            self._waiting[offer.key] += count
        self._counts.clear()

    def forget(self) -> None:
        """Drops every count that is not in the store: they are of another deployment."""
        self._counts.clear()
        self._waiting.clear()
        self._pending = None

    def settle(self, flush: Flush) -> None:
        """Says that a flush is in the store; two callers may have sent the same one."""
        if self._pending is flush:
            self._pending = None
