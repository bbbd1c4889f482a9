"""Records, epochs, flushes and reward entries that tests of the store start from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

from sqlalchemy import Engine, event

from bandit.decision_id import Basis, new_id
from bandit.experiment import SEGMENT_ALL
from bandit.facts import DecisionKey, Epoch, OutcomeKey, Tally
from server.store.columns.exact_sums import in_quanta
from server.store.contract import Store
from server.store.postgresql.dialect import PostgresqlDialect
from server.store.records import (
    EpochKey,
    ExperimentRecord,
    Flush,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    RewardEntry,
    RewardVerdict,
    State,
)
from server.store.sql_store import SqlStore
from server.store.sqlite.dialect import SqliteDialect
from tests.bandit.builders import START, declare, make_epoch

INCARNATION = b"incarnation-----"
RECORDED, LATE, DUPLICATE, REVISED, SUPERSEDED = (Recorded((result,)) for result in OutcomeResult)
_ids = count(1)


def silently(_done: int, _total: int) -> None:
    """Report progress to no one."""


def create(store: Store, name: str = "ranker") -> ExperimentRecord:
    """Create a draft of two arms and two metrics."""
    return store.create_experiment(declare(name), START)


def run(store: Store, name: str = "ranker") -> ExperimentRecord:
    """Create an experiment that runs in its first epoch."""
    draft = create(store, name)
    running = replace(draft, state=State.RUNNING, started_at=START, updated_at=START)
    return store.change_experiment(draft, running, epoch_of(draft, 1))


def epoch_of(record: ExperimentRecord, number: int, nonce: int = 7) -> Epoch:
    """Return an epoch made from this revision of an experiment."""
    return make_epoch(
        number,
        START + timedelta(minutes=number),
        experiment=record.number,
        revision=record.revision,
        nonce=nonce,
    )


def nonces_of(store: Store, experiment: int) -> dict[int, int]:
    """Return number to nonce of an experiment's first epochs, even of a deleted one."""
    found = store.find_epochs([EpochKey(experiment, SEGMENT_ALL, number) for number in range(1, 10)])
    return {key.number: terms.nonce for key, terms in sorted(found.items())}


def some_id() -> bytes:
    """Return the unique id of a new decision."""
    return new_id(1_772_366_400_000 + next(_ids), 0)


def reward(
    decision: bytes | None = None,
    quanta: int = 1,
    revision: int = 0,
    *,
    values: Mapping[int, int] | None = None,
    experiment: int = 1,
    epoch: int = 1,
    arm: int = 0,
    basis: Basis = Basis.POLICY,
    is_late: bool = False,
    is_expired: bool = False,
    is_apart: bool = False,
) -> RewardEntry:
    """Return an entry with one outcome of the first metric, or with `values` by metric number."""
    outcomes = {0: quanta} if values is None else values
    return RewardEntry(
        decision=some_id() if decision is None else decision,
        experiment=experiment,
        epoch=epoch,
        segment=0,
        arm=arm,
        basis=basis,
        outcomes=tuple(OutcomeEntry(metric, value, is_late) for metric, value in sorted(outcomes.items())),
        revision=revision,
        received_ms=1_772_366_400_000,
        is_expired=is_expired,
        is_apart=is_apart,
    )


def key_of(entry: RewardEntry, metric: int = 0) -> OutcomeKey:
    """Return the key under which an entry's outcome is summed."""
    return OutcomeKey(entry.experiment, entry.epoch, entry.segment, entry.arm, entry.basis, metric)


def sums_of(store: Store) -> dict[OutcomeKey, Tally]:
    """Return the outcome facts that are not zero, in steps; fail unless they equal the fold of the log."""
    folded, stored = (
        {key: tally for key, tally in side.items() if any(tally)} for side in store.compare_ledger(silently)
    )
    assert stored == folded
    return stored


def facts_of(store: Store) -> dict[OutcomeKey, Tally]:
    """Return the same in quanta, for metrics of whole numbers."""
    return {key: in_quanta(tally, is_real=False) for key, tally in sums_of(store).items()}


def flush(sequence: int, counts: Mapping[DecisionKey, int], incarnation: bytes = INCARNATION) -> Flush:
    """Return a flush of the first slot."""
    return Flush(slot=0, incarnation=incarnation, sequence=sequence, counts=counts)


def engines_of(store: SqlStore) -> list[Engine]:
    """Return the engines of a store's writer and of its readers."""
    dialect = store._dialect
    assert isinstance(dialect, PostgresqlDialect | SqliteDialect)
    return [dialect.writer, dialect.reader]


@contextmanager
def statements_of(store: SqlStore) -> Iterator[list[str]]:
    """Return every statement that the store sends to its database."""
    sent: list[str] = []

    def note(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    for engine in engines_of(store):
        event.listen(engine, "before_cursor_execute", note)
    yield sent
    for engine in engines_of(store):
        event.remove(engine, "before_cursor_execute", note)


def post(store: Store, *entries: RewardEntry, slot: int = 0) -> list[RewardVerdict]:
    """Record the entries in one batch."""
    return store.record_rewards(entries, slot)


def one(store: Store, entry: RewardEntry) -> RewardVerdict:
    """Record an entry in a batch of its own."""
    (verdict,) = post(store, entry)
    return verdict
