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
        self._pending: Flush | None = None
        self.totals: Counter[tuple[int, int, Basis]] = Counter()

    def count(self, offer: Offer) -> None:
        """Counts one decision."""
        self._counts[offer] += 1

    def flush(self) -> Flush | None:
        """What to send: what is in doubt, else what was counted since; None if there is nothing.

        `settle` must follow before anything newer is sent.
        """
        if self._pending is None and self._counts:
            counts: Counter[DecisionKey] = Counter()
            for offer, count in self._counts.items():
                counts[offer.key] += count
                self.totals[offer.key.experiment, offer.key.arm, offer.key.basis] += count
            self._counts.clear()
            self._sequence += 1
            self._pending = Flush(
                slot=self._writer.slot,
                incarnation=self._writer.incarnation,
                sequence=self._sequence,
                counts=counts,
            )
        return self._pending

    def settle(self, flush: Flush) -> None:
        """Says that a flush is in the store; two callers may have sent the same one."""
        if self._pending is flush:
            self._pending = None
