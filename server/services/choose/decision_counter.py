"""Counts of decisions by arm: kept in memory, and flushed to the facts every second, exactly once.

Many experiments have tens of thousands of counts. So the event loop, which answers Choose, only hands them
over, and the thread that sends them adds them up.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from bandit.decision_id import FLUSH_BITS, NO_UNIT, Basis, run_of
from bandit.facts import DecisionKey
from bandit.facts.parts import N_NIBBLES, N_PARTS, nibble_of, part_of_nibble
from server.services.choose.seen_units import SeenByOffer, SeenUnits
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CountedKey, Offer
from server.store.contract import Store
from server.store.records import Flush

_NO_BOUND: Final = b"\xff" * 17
"""Above the id of every decision."""

_PART_BITS: Final = 40
"""Bits that each part has of a count by part: more decisions than a server makes between two flushes."""

_PART_MASK: Final = (1 << _PART_BITS) - 1
_ONE_OF_NIBBLE: Final = tuple(1 << _PART_BITS * part_of_nibble(nibble) for nibble in range(N_NIBBLES))
"""What a decision adds to a count by part. One whole number is counted faster than a list of five, and is no
work for Python's garbage collector."""

Totals = Counter[tuple[int, int, Basis]]
"""Decisions by experiment, arm and basis."""


class UnsentFlush:
    """Counts that were handed over, and the flush that they become in the thread that sends them.

    Args:
        head: The flush without its counts and units.
        counts: The counts; nobody adds to them any more.
        units: The units seen.
        latest: The id from which on decisions are from the future.
        seen: Dates the units.
        totals: The counts are added to these, too.

    Attributes:
        head: As above.
        flush: The flush, once it is added up.
        experiment_to_n_drawn: How many policy decisions of each experiment it has, once it is added up; 0 for
            one that has others only.
    """

    def __init__(
        self,
        head: Flush,
        counts: Mapping[CountedKey, int],
        units: SeenByOffer,
        latest: bytes,
        *,
        seen: SeenUnits,
        totals: Totals,
    ) -> None:
        self.head = head
        self.flush: Flush | None = None
        self.experiment_to_n_drawn: dict[int, int] = {}
        self._counts = counts
        self._units = units
        self._latest = latest
        self._seen = seen
        self._totals = totals

    def add_up(self) -> Flush:
        """Return the flush, the same each time. Only the thread that sends it may call this."""
        if self.flush is None:
            counts, key_to_parts = _add_up(self._counts)
            self.experiment_to_n_drawn = dict.fromkeys((key.experiment for key in counts), 0)
            for key, count in counts.items():
                self._totals[key.experiment, key.arm, key.basis] += count
                if key.basis is Basis.POLICY:
                    self.experiment_to_n_drawn[key.experiment] += count
            units = self._seen.date(self._units, self._latest)
            self.flush = replace(self.head, counts=counts, parts=key_to_parts, units=units)
        return self.flush

    def send(self, store: Store) -> Flush:
        """Add the flush to the facts, and return it; it can be repeated.

        Raises:
            StoreError: It may have been added, or not.
        """
        flush = self.add_up()
        store.add_decisions(flush)
        return flush

    def count(self, experiment: int | None = None) -> int:
        """Return how many decisions it has, in all or for the experiment with this number."""
        return _count(self._counts, experiment)


def _add_up(
    counts: Mapping[CountedKey, int],
) -> tuple[Mapping[DecisionKey, int], Mapping[DecisionKey, Sequence[int]]]:
    """Return the counts by key, and those that are counted by part also by part.

    An experiment that was compiled twice has its keys twice.
    """
    packed: Counter[DecisionKey] = Counter()
    for counted, count in counts.items():
        packed[counted.key] += count
    key_to_parts = {counted.key: _parts(packed[counted.key]) for counted in counts if counted.keeps_parts}
    whole = {key: sum(key_to_parts[key]) if key in key_to_parts else count for key, count in packed.items()}
    return whole, key_to_parts


def _parts(count: int) -> tuple[int, ...]:
    """Return the parts of a count by part."""
    return tuple([count >> _PART_BITS * part & _PART_MASK for part in range(N_PARTS)])


def _count(counts: Mapping[CountedKey, int], experiment: int | None) -> int:
    """Return how many decisions were counted, in all or for the experiment with this number."""
    return sum(
        sum(_parts(count)) if counted.keeps_parts else count
        for counted, count in counts.items()
        if experiment is None or counted.key.experiment == experiment
    )


class DecisionCounter:
    """Counts decisions until they are flushed. Belongs to the event loop's thread.

    A flush whose COMMIT is in doubt is kept and sent again under the same number; the store adds it once.

    Args:
        writer: The run whose counts they are.

    Attributes:
        stamp: The bits in the ids of decisions counted now: the run, and which of its flushes.
        totals: Flushed decisions of this run; the thread that sends flushes adds to it.
        units: The units seen, where units are counted.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sequence = 0
        self._last_id = bytes(16)
        self.stamp = 0
        self._restamp()
        self._counts: defaultdict[CountedKey, int] = defaultdict(int)
        self._groups = _no_groups()
        self._pending: UnsentFlush | None = None
        self.totals: Totals = Counter()
        self.units = SeenUnits()

    def count(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        """Count one decision, and its unit, unless the mark is `NO_UNIT`."""
        counted = offer.counted
        self._counts[counted] += _ONE_OF_NIBBLE[nibble_of(decision)] if counted.keeps_parts else 1
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
        return bool(self._pending) + max(len(self.units), bool(self._counts))

    def count_waiting(self, experiment: int) -> int:
        """Return how many decisions for the experiment with this number are not known to be in the store."""
        n_pending = 0 if self._pending is None else self._pending.count(experiment)
        return n_pending + _count(self._counts, experiment)

    def next_flush(self, latest: bytes = _NO_BOUND) -> UnsentFlush | None:
        """Return what to send: the flush in doubt, otherwise the counts since; None if there are none.

        `settle` must be called before anything newer is sent.

        Args:
            latest: A decision with this id or above is from the future, so it is not a unit's first.
        """
        if self._pending is None and (self._counts or self.units):
            self._sequence += 1
            head = Flush(
                slot=self._writer.slot,
                incarnation=self._writer.incarnation,
                sequence=self._sequence,
                counts={},
                groups=self._groups,
                decided_ms=int.from_bytes(self._last_id[:6]),
            )
            taken = self.units.take()
            self._pending = UnsentFlush(
                head, self._counts, taken, latest, seen=self.units, totals=self.totals
            )
            self._counts, self._groups = defaultdict(int), _no_groups()
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
            n_pending = 0 if self._pending is None else self._pending.count()
            n_dropped = n_pending + _count(self._counts, None)
            self.forget()
        self._sequence = 0
        self._restamp()
        return n_dropped

    def forget(self) -> None:
        """Drop every count that is not in the store, since they belong to another deployment."""
        self._counts.clear()
        self._groups.clear()
        self.units = SeenUnits()
        self._pending = None

    def settle(self, flush: Flush) -> None:
        """Note that a flush is in the store; two callers may have sent the same one."""
        if self._pending is not None and self._pending.flush is flush:
            self._pending = None


def _no_groups() -> defaultdict[int, defaultdict[int, int]]:
    """Counts by experiment and group, taken as they are: of 256 groups of 2,000 experiments few have any."""
    return defaultdict(partial(defaultdict, int))
