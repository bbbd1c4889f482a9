"""How many decisions each arm made: counted in memory, added to the facts once a second, each flush once."""

from collections import Counter, defaultdict, deque
from typing import Final

from bandit.decision_id import FLUSH_BITS, NO_UNIT, Basis, run_of
from bandit.facts import DecisionKey
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import Offer
from server.store.records import Flush

MAX_FLUSH_UNITS: Final = 4_096
"""No flush has more units, so that none keeps rewards waiting for long."""

MAX_WAITING_UNITS: Final = 200_000
"""Units that may wait for a flush, some 60 MB; those seen for the first time beyond that get no row."""

_NO_BOUND: Final = b"\xff" * 17
"""Beyond the id of every decision."""

_Book = dict[Offer, dict[bytes, tuple[bytes, int]]]


class UnitBook:
    """Who was seen since the last flush: each unit's first decision and how many it made, by offer.

    Memory is bounded. While the store is away decisions soon are `unconfirmed` and nobody is noted; where it
    can be read but not written, units are noted up to the bound, and the others are counted and dropped.
    Evidence then counts them at their next decision, if they come back: which units are left out depends on
    when they came, and not on their arm.

    Attributes:
        n_dropped: Decisions of this run whose unit was not noted.
    """

    def __init__(self) -> None:
        self._open: _Book = {}
        self._n_open = 0
        self._full: deque[_Book] = deque()
        self.n_dropped = 0

    def __len__(self) -> int:
        """How many flushes it takes to hand over what is here."""
        return len(self._full) + bool(self._open)

    def note(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        """Notes that a decision was made for the unit of this mark."""
        seen = self._open.get(offer)
        if seen is None:
            seen = self._open[offer] = {}
        known = seen.get(mark)
        if known is not None:
            seen[mark] = (known[0], known[1] + 1)
        elif self._n_open < MAX_FLUSH_UNITS:
            seen[mark] = (decision, 1)
            self._n_open += 1
        elif MAX_FLUSH_UNITS * (len(self._full) + 2) <= MAX_WAITING_UNITS:
            self._full.append(self._open)
            self._open, self._n_open = {offer: {mark: (decision, 1)}}, 1
        else:
            self.n_dropped += 1

    def take(self, latest: bytes) -> list[tuple[DecisionKey, dict[bytes, tuple[bytes, int]]]]:
        """What comes next, at most `MAX_FLUSH_UNITS` units; it is no longer here.

        Units whose decision is not below the id `latest` are left out: a clock that was ahead dated it.
        """
        if self._full:
            book = self._full.popleft()
        else:
            book, self._open, self._n_open = self._open, {}, 0
        dated = {
            offer: {mark: first for mark, first in seen.items() if first[0] < latest}
            for offer, seen in book.items()
        }
        self.n_dropped += sum(map(len, book.values())) - sum(map(len, dated.values()))
        return [(offer.key, seen) for offer, seen in dated.items() if seen]


class DecisionCounter:
    """Counts decisions until they are flushed. Belongs to the event loop's thread.

    A flush whose COMMIT was lost in doubt is kept and sent again under its number; the store adds it once.

    Args:
        writer: Whose counts they are.

    Attributes:
        stamp: The bits of the ids of decisions that are counted now: which run, and which of its flushes.
        totals: Decisions of this run by experiment, arm and basis, those not flushed left out.
        units: Who was seen, where units are counted.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sequence = 0
        self._last_id = bytes(16)
        self.stamp = 0
        self._restamp()
        self._counts: defaultdict[Offer, int] = defaultdict(int)
        self._waiting: Counter[DecisionKey] = Counter()
        self._groups: defaultdict[int, list[int]] = defaultdict(lambda: [0] * 256)
        self._pending: Flush | None = None
        self.totals: Counter[tuple[int, int, Basis]] = Counter()
        self.units = UnitBook()

    def count(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        """Counts one decision, and its unit, unless the mark is `NO_UNIT`."""
        self._counts[offer] += 1
        self._last_id = decision
        if mark is NO_UNIT:
            return
        if offer.keeps_groups:
            self._groups[offer.terms[0]][mark[0]] += 1
        elif offer.keeps_units:
            self.units.note(offer, decision, mark)

    @property
    def n_flushes(self) -> int:
        """How many flushes it takes to hand over what is here."""
        return bool(self._pending) + max(len(self.units), bool(self._counts or self._waiting))

    def count_waiting(self, experiment: int) -> int:
        """How many decisions for the experiment of this number are not known to be in the store."""
        self._gather()
        counts = self._waiting if self._pending is None else self._waiting + Counter(self._pending.counts)
        return sum(count for key, count in counts.items() if key.experiment == experiment)

    def flush(self, latest: bytes = _NO_BOUND) -> Flush | None:
        """What to send: what is in doubt, else what was counted since; None if there is nothing.

        `settle` must follow before anything newer is sent.

        Args:
            latest: A decision whose id is not below this one, of the future, is no unit's first.
        """
        self._gather()
        if self._pending is None and (self._waiting or self.units):
            self._sequence += 1
            self._pending = Flush(
                slot=self._writer.slot,
                incarnation=self._writer.incarnation,
                sequence=self._sequence,
                counts=self._waiting,
                units=self.units.take(latest),
                groups=self._take_groups(),
                decided_ms=int.from_bytes(self._last_id[:6]),
            )
            for key, count in self._waiting.items():
                self.totals[key.experiment, key.arm, key.basis] += count
            self._waiting = Counter()
            self._restamp()
        return self._pending

    def _restamp(self) -> None:
        """From the next decision on: whether a flush is on its way or not, they go with the one after it."""
        following = (self._sequence + 1) % (1 << FLUSH_BITS)
        self.stamp = run_of(self._writer.incarnation) << FLUSH_BITS | following

    def begin_run(self) -> int:
        """Counts for the writer's incarnation, which is new; returns how many decisions are dropped.

        What was counted before the first flush is kept. Later, what is not in the store yet belongs to
        flushes of the run that ended.
        """
        n_dropped = 0
        if self._sequence > 0:
            self._gather()
            pending = {} if self._pending is None else self._pending.counts
            n_dropped = sum(self._waiting.values()) + sum(pending.values())
            self.forget()
        self._sequence = 0
        self._restamp()
        return n_dropped

    def _gather(self) -> None:
        """Adds the counts up by key: in a long outage there are ever new offers, and no more keys."""
        for offer, count in self._counts.items():
            self._waiting[offer.key] += count
        self._counts.clear()

    def forget(self) -> None:
        """Drops every count that is not in the store: they are of another deployment."""
        self._counts.clear()
        self._waiting.clear()
        self._groups.clear()
        self.units = UnitBook()
        self._pending = None

    def settle(self, flush: Flush) -> None:
        """Says that a flush is in the store; two callers may have sent the same one."""
        if self._pending is flush:
            self._pending = None

    def _take_groups(self) -> dict[tuple[int, int], int]:
        groups = {
            (experiment, group): count
            for experiment, counts in self._groups.items()
            for group, count in enumerate(counts)
            if count
        }
        self._groups.clear()
        return groups
