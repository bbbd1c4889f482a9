"""The store on a SQL database: transactions around the statements of its neighbours."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import compress

from sqlalchemy import Connection
from typing_extensions import override

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.units import UnitFacts
from server.store import audit, books, epochs, experiments, facts, history, keys, purge, seals, slots, units
from server.store.dialect import Dialect
from server.store.errors import (
    KeysNotReadyError,
    StaleRevisionError,
    StoreBrokenError,
    StoreUnavailableError,
)
from server.store.history import History
from server.store.interface import ANYONE, Progress, Store
from server.store.migrate import CURRENT, Schema, has_schema, migrate, require_schema
from server.store.records import (
    Action,
    AuditEntry,
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    KeyRing,
    PurgeStep,
    ReportFacts,
    RewardEntry,
    Sealed,
    SealedEpochs,
    SealSummary,
    State,
    Verdict,
)
from server.store.rewards import RewardLog
from server.store.schema import outcome_facts, rewards, signing_keys, writers
from server.store.sql_clock import SqlClockStore
from server.store.times import to_micros


class SqlStore(SqlClockStore, Store):
    """See `Store` for the contract.

    Args:
        dialect: The database, opened.
        is_ready: Whether it is known to be of this version's schema.
        schema: What `prepare` migrates to.
    """

    def __init__(self, dialect: Dialect, *, is_ready: bool = True, schema: Schema = CURRENT) -> None:
        self._opened = dialect
        self._schema = schema
        self._is_ready = is_ready
        self._version = dialect.version
        self._log = RewardLog(dialect.upsert_rewards, dialect.find_rewards)

    @property
    @override
    def _dialect(self) -> Dialect:
        if not self._is_ready:
            raise StoreUnavailableError("the database was not reached yet")
        return self._opened

    @property
    @override
    def is_shared(self) -> bool:
        return self._opened.is_shared

    @override
    def prepare(self, *, may_migrate: bool) -> None:
        # A look first, under the bounds of any transaction: a migration has none, and few starts need one.
        if not self._opened.write(lambda c: has_schema(c, self._schema)):
            with self._opened.writing(is_long=True) as connection:
                if may_migrate:
                    self._opened.lock_schema(connection)
                    migrate(connection, self._schema)
                require_schema(connection, self._schema)
        self._is_ready = True

    @property
    @override
    def wal_bytes(self) -> int | None:
        return self._dialect.wal_bytes

    @override
    def close(self) -> None:
        self._opened.close()

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that is committed at the end, and not at all if the block raises."""
        return self._dialect.writing()

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one snapshot."""
        return self._dialect.reading()

    @override
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        def adopt(connection: Connection) -> KeyRing:
            self._dialect.lock_tables(connection, signing_keys)
            return keys.read(connection) or keys.insert_all(connection, candidate)

        return self._dialect.write(adopt)

    @override
    def read_keys(self) -> KeyRing | None:
        return self._dialect.read(keys.read)

    @override
    def rotate_keys(
        self,
        secret: bytes,
        now: datetime,
        *,
        delay: timedelta,
        ended_before: datetime | None,
        caller: str = ANYONE,
    ) -> KeyRing:
        def rotate(connection: Connection, ring: KeyRing, at: datetime) -> KeyRing:
            if secret in ring.secrets.values():
                return ring
            return keys.rotate(connection, ring, secret, at, delay=delay, ended_before=ended_before)

        return self._change_keys(rotate, Action.ROTATE_KEY, now, caller)

    @override
    def revoke_key(self, key: int, now: datetime, *, caller: str = ANYONE) -> KeyRing:
        def revoke(connection: Connection, ring: KeyRing, at: datetime) -> KeyRing:
            return keys.revoke(connection, ring, key, at) if key in ring.secrets else ring

        return self._change_keys(revoke, Action.REVOKE_KEY, now, caller)

    def _change_keys(
        self,
        change: Callable[[Connection, KeyRing, datetime], KeyRing],
        action: Action,
        now: datetime,
        caller: str,
    ) -> KeyRing:
        """Changes the ring, with an entry for the audit unless it is the same afterwards."""

        def run(connection: Connection) -> KeyRing:
            self._dialect.lock_tables(connection, signing_keys)
            ring = keys.read(connection)
            if ring is None:
                raise KeysNotReadyError("there are no keys yet")
            changed = change(connection, ring, now)
            if changed is not ring:
                before, after = audit.describe_keys(ring), audit.describe_keys(changed)
                audit.write(connection, now, caller, action, before=before, after=after)
            return changed

        return self._dialect.write(run)

    @override
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        def renew(connection: Connection) -> int | None:
            return slots.renew(connection, incarnation, self._dialect.read_clock(connection, now))

        def claim(connection: Connection) -> int:
            self._dialect.lock_tables(connection, writers)
            micros = self._dialect.read_clock(connection, now)
            return slots.claim(connection, incarnation, micros, is_shared=self.is_shared)

        # In two transactions: one that has written the table can't lock it beside another like it.
        slot = self._dialect.write(renew)
        return self._dialect.write(claim) if slot is None else slot

    @override
    def forget_writers(self, silent_since: datetime) -> None:
        self._dialect.write(lambda c: slots.forget(c, to_micros(silent_since)))

    @override
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE
    ) -> ExperimentRecord:
        return self._dialect.write(
            lambda c: experiments.create(c, experiment, now, self._version, caller),
            repeat=lambda c: (
                experiments.find_created(c, experiment, now)
                or experiments.create(c, experiment, now, self._version, caller)
            ),
        )

    @override
    def find_experiment(self, name: str) -> ExperimentRecord | None:
        return self._dialect.read(lambda c: experiments.find(c, name))

    @override
    def has_name(self, name: str) -> bool:
        return self._dialect.read(lambda c: experiments.has_name(c, name))

    @override
    def list_experiments(
        self,
        after: str,
        limit: int,
        state: State | None = None,
        namespaces: Collection[str] | None = None,
    ) -> list[ExperimentRecord]:
        return self._dialect.read(lambda c: experiments.list_page(c, after, limit, state, namespaces))

    @override
    def change_experiment(
        self,
        before: ExperimentRecord,
        after: ExperimentRecord,
        epoch: Epoch | None = None,
        *,
        caller: str = ANYONE,
    ) -> ExperimentRecord:
        def change(connection: Connection) -> ExperimentRecord:
            record = experiments.change(connection, before, after, self._version, caller)
            if epoch is not None:
                wanted = replace(epoch, revision=record.revision)
                if epochs.find_or_add(connection, wanted) != wanted:
                    raise StaleRevisionError(before.name)
            return record

        return self._dialect.write(
            change, repeat=lambda c: experiments.find_changed(c, before, after) or change(c)
        )

    @override
    def delete_experiment(self, before: ExperimentRecord, now: datetime, caller: str = ANYONE) -> None:
        def delete(connection: Connection) -> None:
            experiments.delete(connection, before, now, self._version, caller)

        def delete_again(connection: Connection) -> None:
            if not experiments.is_deleted(connection, before, now):
                delete(connection)

        self._dialect.write(delete, repeat=delete_again)

    @override
    def list_audit_entries(
        self,
        before: int | None,
        limit: int,
        experiment: str | None = None,
        namespaces: Collection[str] | None = None,
    ) -> list[AuditEntry]:
        return self._dialect.read(lambda c: audit.list_page(c, before, limit, experiment, namespaces))

    @override
    def load_changes(self, since: int | None) -> Changes:
        def load(connection: Connection) -> Changes:
            return experiments.load_changes(connection, since, self._dialect.read_watermark(connection))

        return self._dialect.read(load)

    @override
    def add_epoch(self, epoch: Epoch) -> Epoch | None:
        def add(connection: Connection) -> Epoch | None:
            standing = epochs.find(connection, epoch.experiment, epoch.segment, epoch.number)
            if standing is not None:
                return standing
            # Whoever else would begin an epoch waits for the touched row; who waited for it looks again.
            if not experiments.touch(connection, epoch.experiment, epoch.revision, self._version):
                return None
            return epochs.find_or_add(connection, epoch)

        return self._dialect.write(add)

    @override
    def read_nonces(self, experiment: int) -> Mapping[tuple[int, int], int]:
        return self._dialect.read(lambda c: epochs.read_nonces(c, experiment))

    @override
    def read_facts(self, experiment: int) -> ExperimentFacts | None:
        def read(connection: Connection) -> ExperimentFacts | None:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else _facts_of(connection, record)

        return self._dialect.read(read)

    @override
    def read_report(self, name: str) -> ReportFacts | None:
        if self.find_experiment(name) is None:  # in a short transaction: who is away is noticed soon
            return None
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find(connection, name)
            if record is None:
                return None
            return ReportFacts(
                found=_facts_of(connection, record),
                declarations=experiments.read_declarations(connection, record.number),
                units=units.read(connection, record),
            )

    @override
    def read_declarations(self, experiment: int) -> Sequence[Experiment]:
        return self._dialect.read(lambda c: experiments.read_declarations(c, experiment))

    @override
    def add_decisions(self, flush: Flush) -> None:
        def add(connection: Connection) -> None:
            if slots.advance(connection, flush.incarnation, flush.sequence):
                facts.add_decisions(connection, flush)
                units.add_groups(connection, flush)
                self._dialect.upsert_units(connection, units.rows_of(flush))

        self._dialect.write(add)

    @override
    def read_units(self, experiment: int) -> UnitFacts | None:
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else units.read(connection, record)

    @override
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[Verdict]:
        def record(connection: Connection) -> list[Verdict]:
            found = self._dialect.read_seals(connection, sorted({entry.experiment for entry in entries}))
            is_open = seals.tell_open(entries, found)
            verdicts, increments = self._log.record(connection, list(compress(entries, is_open)))
            facts.add_outcomes(connection, increments, slot)
            recorded = iter(verdicts)
            return [next(recorded) if each else Sealed() for each in is_open]

        return self._dialect.write(record)

    @override
    def find_sealable(
        self, after: int, limit: int, now: datetime, retention: timedelta
    ) -> tuple[Sequence[SealedEpochs], int | None]:
        return self._dialect.read(lambda c: seals.find_sealable(c, after, limit, now, retention))

    @override
    def seal(self, wanted: Sequence[SealedEpochs], now: datetime) -> None:
        self._dialect.write(lambda c: seals.raise_seals(c, wanted, now))

    @override
    def settle_seals(self) -> bool:
        self._dialect.write(lambda c: seals.fence(c, self._dialect))
        return self._dialect.write(lambda c: seals.settle(c, self._dialect))

    @override
    def purge(self, start: bytes, end: bytes, n_looked_at: int) -> PurgeStep:
        return self._dialect.write(lambda c: purge.purge_step(c, start, end, n_looked_at))

    @override
    def purge_configurations(self, before: datetime) -> int:
        return self._dialect.write(lambda c: purge.purge_configurations(c, to_micros(before)))

    @override
    def summarise_seals(self) -> SealSummary:
        return self._dialect.read(purge.summarise)

    @override
    @contextmanager
    def read_history(self, name: str) -> Iterator[History | None]:
        with self._dialect.reading(is_long=True) as connection:
            yield history.find(connection, name)

    @override
    def audit(self, progress: Progress) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        with self._dialect.reading(is_long=True) as connection:
            return books.fold(connection, progress), facts.sum_all(connection)

    @override
    def count_apart(self) -> int:
        with self._dialect.reading(is_long=True) as connection:
            return books.count_apart(connection)

    @override
    def rebuild_outcomes(self, progress: Progress) -> int:
        with self._dialect.writing(is_long=True) as connection:
            self._dialect.lock_tables(connection, rewards, outcome_facts)
            return books.rebuild(connection, progress)

    @override
    def check_integrity(self) -> Sequence[str]:
        try:
            with self._dialect.reading(is_long=True) as connection:
                return self._dialect.check_integrity(connection)
        except StoreBrokenError as error:  # so damaged that the check itself can't go on
            return [str(error)]


def _facts_of(connection: Connection, record: ExperimentRecord) -> ExperimentFacts:
    history = epochs.read_all(connection, record.number)
    return ExperimentFacts(record, history, facts.read(connection, record.number))
