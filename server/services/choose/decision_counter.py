"""Counts of decisions by arm: kept in memory, and flushed to the facts every second, exactly once."""

from collections import Counter, defaultdict, deque
from typing import Final

from bandit.decision_id import FLUSH_BITS, NO_UNIT, Basis, run_of
from bandit.facts import DecisionKey
from bandit.facts.parts import N_NIBBLES, N_PARTS, nibble_of, part_of_nibble
from bandit.facts.units import N_STEERING
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import Offer
from server.store.records import Flush

MAX_FLUSH_UNITS: Final = 4_096
"""The most units in a flush, so that no flush delays rewards for long."""

MAX_WAITING_UNITS: Final = 200_000
"""The most units that wait for a flush, some 60 MB; units first seen beyond that get no row."""

_NO_BOUND: Final = b"\xff" * 17
"""Above the id of every decision."""

_Seen = dict[bytes, tuple[tuple[bytes, ...], int]]
_Book = dict[Offer, _Seen]


class SeenUnits:
    """The units seen since the last flush, by offer: the first decisions of each, and its decision count.

    Memory is bounded. While the store is away, decisions soon become `unconfirmed`, and their units are not
    recorded. While it can be read but not written, units are recorded up to the bound, and the others counted
    and dropped. Evidence then counts those at their next decision, if they come back: which units are left
    out depends on when they came, and not on their arm.

    Attributes:
        n_dropped: Decisions of this run whose unit was not recorded.
    """

    def __init__(self) -> None:
        self._open: _Book = {}
        self._n_open = 0
        self._full: deque[_Book] = deque()
        self.n_dropped = 0

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
            self.n_dropped += 1

    def take(self, latest: bytes) -> list[tuple[DecisionKey, _Seen]]:
        """Remove and return the units of the next flush, at most `MAX_FLUSH_UNITS`.

        Decisions that are not below the id `latest` are no unit's first, since a clock that ran ahead dated
        them; units without any other are dropped.
        """
        if self._full:
            book = self._full.popleft()
        else:
            book, self._open, self._n_open = self._open, {}, 0
        dated = {offer: _before(latest, seen) for offer, seen in book.items()}
        self.n_dropped += sum(map(len, book.values())) - sum(map(len, dated.values()))
        return [(offer.key, seen) for offer, seen in dated.items() if seen]


def _before(latest: bytes, seen: _Seen) -> _Seen:
    """Return the units with decisions below the id `latest`, each with those."""
    return {
        mark: (ids, count)
        for mark, (known, count) in seen.items()
        if (ids := tuple(each for each in known if each < latest))
    }


class DecisionCounter:
    """Counts decisions until they are flushed. Belongs to the event loop's thread.

    A flush whose COMMIT is in doubt is kept and sent again under the same number; the store adds it once.

    Args:
        writer: The run whose counts they are.

    Attributes:
        stamp: The bits in the ids of decisions counted now: the run, and which of its flushes.
        totals: Flushed decisions of this run by experiment, arm and basis.
        units: The units seen, where units are counted.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sequence = 0
        self._last_id = bytes(16)
        self.stamp = 0
        self._restamp()
        self._counts: defaultdict[Offer, int] = defaultdict(int)
        self._nibbles: defaultdict[Offer, list[int]] = defaultdict(lambda: [0] * N_NIBBLES)
        self._waiting: Counter[DecisionKey] = Counter()
        self._waiting_parts: defaultdict[DecisionKey, list[int]] = defaultdict(lambda: [0] * N_PARTS)
        self._groups: defaultdict[int, list[int]] = defaultdict(lambda: [0] * 256)
        self._pending: Flush | None = None
        self.totals: Counter[tuple[int, int, Basis]] = Counter()
        self.units = SeenUnits()

    def count(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        """Count one decision, and its unit, unless the mark is `NO_UNIT`."""
        if offer.keeps_parts:
            self._nibbles[offer][nibble_of(decision)] += 1
        else:
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
        """Return how many flushes it takes to send all counts."""
        has_counts = bool(self._counts or self._nibbles or self._waiting)
        return bool(self._pending) + max(len(self.units), has_counts)

    def count_waiting(self, experiment: int) -> int:
        """Return how many decisions for the experiment with this number are not known to be in the store."""
        self._gather()
        counts = self._waiting if self._pending is None else self._waiting + Counter(self._pending.counts)
        return sum(count for key, count in counts.items() if key.experiment == experiment)

    def flush(self, latest: bytes = _NO_BOUND) -> Flush | None:
        """Return what to send: the flush in doubt, otherwise the counts since; None if there are none.

        `settle` must be called before anything newer is sent.

        Args:
            latest: A decision with this id or above is from the future, so it is not a unit's first.
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
                parts={key: tuple(counts) for key, counts in self._waiting_parts.items()},
                decided_ms=int.from_bytes(self._last_id[:6]),
            )
            for key, count in self._waiting.items():
                self.totals[key.experiment, key.arm, key.basis] += count
            self._waiting = Counter()
            self._waiting_parts.clear()
            self._restamp()
        return self._pending

    def _restamp(self) -> None:
        """Set the stamp of decisions from now on, which belong to the flush after this one."""
        following = (self._sequence + 1) % (1 << FLUSH_BITS)
        self.stamp = run_of(self._writer.incarnation) << FLUSH_BITS | following

    def begin_run(self) -> int:
        """Count for the writer's new incarnation; return how many decisions are dropped.

        Counts from before the first flush are kept. Later ones that are not in the store yet belong to
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
        """Add up the counts by key: in a long outage there are always new offers, but no new keys."""
        for offer, count in self._counts.items():
            self._waiting[offer.key] += count
        self._counts.clear()
        for offer, nibbles in self._nibbles.items():
            self._waiting[offer.key] += sum(nibbles)
            parts = self._waiting_parts[offer.key]
            for nibble, count in enumerate(nibbles):
                parts[part_of_nibble(nibble)] += count
        self._nibbles.clear()

    def forget(self) -> None:
        """Drop every count that is not in the store, since they belong to another deployment."""
        self._counts.clear()
        self._nibbles.clear()
        self._waiting.clear()
        self._waiting_parts.clear()
        self._groups.clear()
        self.units = SeenUnits()
        self._pending = None

    def settle(self, flush: Flush) -> None:
        """Note that a flush is in the store; two callers may have sent the same one."""
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
