"""The ledger in memory: results of outcomes, one entry after the other, in a plain dictionary."""

from dataclasses import dataclass, field

from bandit.facts import OutcomeKey, Tally
from server.store.records import (
    Conflicting,
    Expired,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    RewardEntry,
    RewardVerdict,
)


@dataclass(slots=True)
class Row:
    """The one outcome of a decision and metric."""

    key: OutcomeKey
    quanta: int
    revision: int
    is_late: bool
    is_apart: bool


@dataclass(slots=True)
class LedgerModel:
    """The reward log of a database that never fails."""

    rows: dict[tuple[bytes, int], Row] = field(default_factory=dict)

    def record(self, entry: RewardEntry) -> RewardVerdict:
        """Record an entry; return its verdict."""
        known = {o.metric: self.rows.get((entry.decision, o.metric)) for o in entry.outcomes}
        missing = tuple(metric for metric, row in known.items() if row is None)
        if entry.is_expired and missing:
            return Expired(missing)
        conflicts = tuple(
            o.metric
            for o in entry.outcomes
            if (row := known[o.metric]) is not None
            and row.revision == entry.revision
            and row.quanta != o.quanta
        )
        if conflicts:
            return Conflicting(conflicts)
        return Recorded(tuple(self._take(entry, outcome) for outcome in entry.outcomes))

    def _take(self, entry: RewardEntry, outcome: OutcomeEntry) -> OutcomeResult:
        metric, quanta, is_late, *_ = outcome
        row = self.rows.get((entry.decision, metric))
        if row is None:
            key = OutcomeKey(entry.experiment, entry.epoch, entry.segment, entry.arm, entry.basis, metric)
            self.rows[entry.decision, metric] = Row(key, quanta, entry.revision, is_late, entry.is_apart)
            return OutcomeResult.LATE if is_late else OutcomeResult.RECORDED
        if row.revision > entry.revision:
            return OutcomeResult.SUPERSEDED
        if row.revision == entry.revision:
            return OutcomeResult.DUPLICATE
        row.quanta, row.revision = quanta, entry.revision
        return OutcomeResult.REVISED

    def facts(self) -> dict[OutcomeKey, Tally]:
        """Return the sums over all rows that are not kept apart."""
        facts: dict[OutcomeKey, Tally] = {}
        for row in self.rows.values():
            if not row.is_apart:
                tally = Tally.of(row.quanta, is_late=row.is_late)
                facts[row.key] = facts.get(row.key, Tally()).plus(tally)
        return {key: tally for key, tally in facts.items() if any(tally)}
