"""The store on a SQL database: transactions around the statements of its neighbours."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, insert, select
from typing_extensions import override

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.units import UnitFacts
from server.store import epochs, experiments, facts, slots, units
from server.store.databases import open_dialect
from server.store.dialect import Dialect
from server.store.errors import StaleRevisionError, StoreBrokenError
from server.store.interface import Progress, Store
from server.store.migrate import migrate, require_schema
from server.store.records import (
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    KeyRing,
    RewardEntry,
    State,
    Verdict,
)
from server.store.rewards import RewardLog
from server.store.schema import outcome_facts, rewards, signing_keys, writers


def open_store(url: str, *, may_migrate: bool = True) -> "SqlStore":
    """Opens a database and brings it to the schema of this version.

    Where a database serves one process only, this one owns it until `close`.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        may_migrate: Whether an empty or older database is migrated, or refused.

    Raises:
        StoreInUseError: Another process owns the database.
        SchemaError: It is of another version and may not or can't be migrated, or is not ours.
        StoreUnavailableError: It can't be reached.
    """
    dialect = open_dialect(url, is_owner=True)
    try:
        with dialect.writing(is_long=True) as connection:
            if may_migrate:
                dialect.lock_schema(connection)
                migrate(connection)
            require_schema(connection)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)


def open_reader(url: str) -> "SqlStore":
    """Opens a database beside those that write to it, for reading only.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    dialect = open_dialect(url, is_owner=False)
    try:
        dialect.read(require_schema)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)


class SqlStore(Store):
    """See `Store` for the contract.

    Args:
        dialect: The database, opened and of this version's schema.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._version = dialect.version
        self._log = RewardLog(dialect.upsert_rewards, dialect.find_rewards)

    @property
    @override
    def is_shared(self) -> bool:
        return self._dialect.is_shared

    @override
    def close(self) -> None:
        self._dialect.close()

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
            rows = connection.execute(select(signing_keys)).all()
            if rows:
                signing = next(row.id for row in rows if row.is_signing)
                return KeyRing({row.id: row.secret for row in rows}, signing)
            connection.execute(
                insert(signing_keys),
                [
                    {"id": key, "secret": secret, "is_signing": key == candidate.signing_key}
                    for key, secret in candidate.secrets.items()
                ],
            )
            return candidate

        return self._dialect.write(adopt)

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
    def create_experiment(self, experiment: Experiment, now: datetime) -> ExperimentRecord:
        return self._dialect.write(
            lambda c: experiments.create(c, experiment, now, self._version),
            repeat=lambda c: (
                experiments.find_created(c, experiment, now)
                or experiments.create(c, experiment, now, self._version)
            ),
        )

    @override
    def find_experiment(self, name: str) -> ExperimentRecord | None:
        return self._dialect.read(lambda c: experiments.find(c, name))

    @override
    def has_name(self, name: str) -> bool:
        return self._dialect.read(lambda c: experiments.has_name(c, name))

    @override
    def list_experiments(self, after: str, limit: int, state: State | None = None) -> list[ExperimentRecord]:
        return self._dialect.read(lambda c: experiments.list_page(c, after, limit, state))

    @override
    def change_experiment(
        self, before: ExperimentRecord, after: ExperimentRecord, epoch: Epoch | None = None
    ) -> ExperimentRecord:
        def change(connection: Connection) -> ExperimentRecord:
            record = experiments.change(connection, before, after, self._version)
            if epoch is not None:
                wanted = replace(epoch, revision=record.revision)
                if epochs.find_or_add(connection, wanted) != wanted:
                    raise StaleRevisionError(before.name)
            return record

        return self._dialect.write(
            change, repeat=lambda c: experiments.find_changed(c, before, after) or change(c)
        )

    @override
    def delete_experiment(self, before: ExperimentRecord, now: datetime) -> None:
        def delete_again(connection: Connection) -> None:
            if not experiments.is_deleted(connection, before, now):
                experiments.delete(connection, before, now, self._version)

        self._dialect.write(lambda c: experiments.delete(c, before, now, self._version), repeat=delete_again)

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
            if record is None:
                return None
            history = epochs.read_all(connection, experiment)
            return ExperimentFacts(record, history, facts.read(connection, experiment))

        return self._dialect.read(read)

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
            verdicts, increments = self._log.record(connection, entries)
            facts.add_outcomes(connection, increments, slot)
            return verdicts

        return self._dialect.write(record)

    @override
    def audit(self, progress: Progress) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        with self._dialect.reading(is_long=True) as connection:
            return _fold_whole_log(connection, progress), facts.sum_all(connection)

    @override
    def count_apart(self) -> int:
        with self._dialect.reading(is_long=True) as connection:
            return facts.count_apart(connection)

    @override
    def rebuild_outcomes(self, progress: Progress) -> int:
        with self._dialect.writing(is_long=True) as connection:
            self._dialect.lock_tables(connection, rewards, outcome_facts)
            folded = _fold_whole_log(connection, progress)
            facts.clear_outcomes(connection)
            facts.add_outcomes(connection, folded, slot=0)
            return len(folded)

    @override
    def check_integrity(self) -> Sequence[str]:
        try:
            with self._dialect.reading(is_long=True) as connection:
                return self._dialect.check_integrity(connection)
        except StoreBrokenError as error:  # so damaged that the check itself can't go on
            return [str(error)]


def _fold_whole_log(connection: Connection, progress: Progress) -> dict[OutcomeKey, Tally]:
    folded: dict[OutcomeKey, Tally] = {}
    numbers = facts.logged_experiments(connection)
    for done, number in enumerate(numbers):
        progress(done, len(numbers))
        folded.update(facts.fold_log(connection, number))
    progress(len(numbers), len(numbers))
    return folded
