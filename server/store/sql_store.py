"""The store on a SQL database: transactions around the statements of its neighbours."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import override

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.facts.units import UnitFacts
from bandit.validation import namespace_of
from server.store.contract import Rebuilt, Store
from server.store.contract.signing_keys import ANYONE
from server.store.dialect import Dialect
from server.store.errors import (
    StaleRevisionError,
    StoreBrokenError,
    StoreUnavailableError,
)
from server.store.maintenance import ledger_check, purge, sum_repair
from server.store.migrate import CURRENT, Schema, has_schema, migrate, require_schema
from server.store.records import (
    AuditEntry,
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    Progress,
    ReportFacts,
    RewardEntry,
    RewardVerdict,
    State,
)
from server.store.records.bounds import MoveStep
from server.store.records.epoch_terms import EpochKey, EpochTerms
from server.store.records.seals import PurgeStep, SealedEpochs, SealSummary
from server.store.sql_clock import SqlClockStore
from server.store.sql_signing_keys import SqlKeyStore
from server.store.tables import (
    audit,
    epochs,
    experiments,
    facts,
    history,
    reward_batch,
    seals,
    uncounted,
    units,
    writers,
)
from server.store.tables.history import History
from server.store.tables.rewards import RewardLog
from server.store.tables.schema import outcome_facts, rewards
from server.store.tables.times import to_micros
from server.store.tables.writers import WriterState


class SqlStore(SqlClockStore, SqlKeyStore, Store):
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
    def prepare(self, *, may_migrate: bool, may_be_inexact: bool = False) -> None:
        # A look first, under the bounds of any transaction: a migration has none, and few starts need one.
        if not self._opened.write(lambda c: has_schema(c, self._schema)):
            with self._opened.writing(is_long=True) as connection:
                if may_migrate:
                    self._opened.lock_schema(connection)
                    migrate(connection, self._schema)
                require_schema(connection, self._schema)
        if not may_be_inexact:
            with self._opened.reading(is_long=True) as connection:
                sum_repair.require_exact(connection)
        self._is_ready = True

    @property
    @override
    def wal_bytes(self) -> int | None:
        return self._opened.wal_bytes

    @property
    @override
    def flaw(self) -> str | None:
        return self._opened.flaw

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
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        return writers.claim_slot(self._dialect, incarnation, now)

    @override
    def forget_writers(self, silent_since: datetime) -> None:
        self._dialect.write(lambda c: writers.forget(c, to_micros(silent_since)))

    @override
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE, *, quota: int | None = None
    ) -> ExperimentRecord:
        def create(connection: Connection) -> ExperimentRecord:
            if quota is not None:
                namespace = namespace_of(experiment.name)
                self._dialect.lock_name(connection, namespace)
                experiments.require_room(connection, namespace, quota)
            return experiments.create(connection, experiment, now, self._version, caller)

        return self._dialect.write(
            create, repeat=lambda c: experiments.find_created(c, experiment, now) or create(c)
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
            existing = epochs.find(connection, epoch.experiment, epoch.segment, epoch.number)
            if existing is not None:
                return existing
            # Whoever else would begin an epoch waits for the touched row; who waited for it looks again.
            if not experiments.touch(connection, epoch.experiment, epoch.revision, self._version):
                return None
            return epochs.find_or_add(connection, epoch)

        return self._dialect.write(add)

    @override
    def read_nonces(self, experiment: int) -> Mapping[tuple[int, int], int]:
        return self._dialect.read(lambda c: epochs.read_nonces(c, experiment))

    @override
    def find_epochs(self, wanted: Collection[EpochKey]) -> Mapping[EpochKey, EpochTerms]:
        return self._dialect.read(lambda c: epochs.find_terms(c, wanted))

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
                n_old_runs=writers.count_old(connection, to_micros(record.started_at) or 0),
            )

    @override
    def read_declarations(self, experiment: int) -> Sequence[Experiment]:
        return self._dialect.read(lambda c: experiments.read_declarations(c, experiment))

    @override
    def add_decisions(self, flush: Flush) -> None:
        def add(connection: Connection) -> None:
            if writers.advance(connection, flush):
                facts.add_decisions(connection, flush)
                units.add_groups(connection, flush)
                self._dialect.upsert_units(connection, units.rows_of(flush))

        self._dialect.write(add)

    @override
    def read_writers(self) -> Sequence[WriterState]:
        return self._dialect.read(writers.read_all)

    @override
    def end_runs(self, silent: Sequence[WriterState], now: datetime) -> Sequence[bytes]:
        return self._dialect.write(lambda c: uncounted.end_runs(c, self._dialect, silent, now))

    @override
    def end_cleanly(self, incarnation: bytes, now: datetime) -> None:
        self._dialect.write(lambda c: uncounted.end_cleanly(c, incarnation, self._dialect.read_clock(c, now)))

    @override
    def move_uncounted(self, slot: int, n_looked_at: int) -> MoveStep | None:
        if not self._dialect.read(uncounted.is_waiting):  # a look writes nothing where nothing is to be done
            return None
        return self._dialect.write(lambda c: uncounted.move_step(c, slot, n_looked_at))

    @override
    def read_units(self, experiment: int) -> UnitFacts | None:
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else units.read(connection, record)

    @override
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[RewardVerdict]:
        return self._dialect.write(lambda c: reward_batch.record(c, self._dialect, self._log, entries, slot))

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
    def compare_ledger(
        self, progress: Progress
    ) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        with self._dialect.reading(is_long=True) as connection:
            return ledger_check.compare(connection, progress)

    @override
    def count_apart(self) -> int:
        with self._dialect.reading(is_long=True) as connection:
            return ledger_check.count_apart(connection)

    @override
    def rebuild_outcomes(self, progress: Progress) -> Rebuilt:
        with self._dialect.writing(is_long=True) as connection:
            self._dialect.lock_tables(connection, rewards, outcome_facts)
            return ledger_check.rebuild(connection, progress)

    @override
    def check_integrity(self) -> Sequence[str]:
        try:
            with self._dialect.reading(is_long=True) as connection:
                found = self._dialect.check_integrity(connection)
                inexact = sum_repair.find_inexact(connection)
                return [*found, *(f"{table} holds {sum_repair.INEXACT}" for table in inexact)]
        except StoreBrokenError as error:  # so damaged that the check itself can't go on
            return [str(error)]


def _facts_of(connection: Connection, record: ExperimentRecord) -> ExperimentFacts:
    history = epochs.read_all(connection, record.number)
    return ExperimentFacts(record, history, facts.read(connection, record.number, record.real_metrics))
