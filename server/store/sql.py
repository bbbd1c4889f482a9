"""The store on a SQL database: transactions around the statements of its neighbours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, make_url, select, text
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from server.store import epochs, experiments, facts, sqlite
from server.store.errors import StaleRevisionError, StoreBrokenError, StoreUnavailableError
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
from server.store.schema import signing_keys


def open_store(url: str, *, may_migrate: bool = True) -> "SqlStore":
    """Opens a database and brings it to the schema of this version; this process owns it until `close`.

    Args:
        url: `sqlite:///FILE`.
        may_migrate: Whether an empty or older database is migrated, or refused.

    Raises:
        StoreInUseError: Another process owns the database.
        SchemaError: It is of another version and may not or can't be migrated, or is not ours.
        StoreUnavailableError: It can't be reached.
    """
    store = _connect(url, is_owner=True)
    try:
        with store.writing() as connection:
            if may_migrate:
                migrate(connection)
            require_schema(connection)
    except BaseException:
        store.close()
        raise
    return store


def open_reader(url: str) -> "SqlStore":
    """Opens a database beside its owner, for reading only.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    file = make_url(url).database
    if file is None or not Path(file).exists():
        raise StoreUnavailableError(f"there is no database {file}")
    store = _connect(url, is_owner=False)
    try:
        with store.reading() as connection:
            require_schema(connection)
    except BaseException:
        store.close()
        raise
    return store


def _connect(url: str, *, is_owner: bool) -> "SqlStore":
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise StoreUnavailableError(f"this version keeps its state in SQLite, not in {parsed.drivername}")
    if parsed.database in {None, "", ":memory:"}:
        raise StoreUnavailableError("this version keeps its state in a file: name one, as in sqlite:///FILE")
    lock = sqlite.FileLock(Path(parsed.database)) if is_owner else None
    return SqlStore(*sqlite.create_engines(parsed), lock)


class SqlStore(Store):
    """See `Store` for the contract.

    Args:
        writer: Engine whose transactions hold the write lock from their start.
        reader: Engine whose transactions see one snapshot.
        lock: What makes this process the owner; None for a reader beside the owner.
    """

    def __init__(self, writer: Engine, reader: Engine, lock: sqlite.FileLock | None) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._is_closed = False
        self._log = RewardLog(sqlite.upsert_rewards, sqlite.find_rewards)

    @override
    def close(self) -> None:
        self._is_closed = True
        self._reader.dispose()
        self._writer.dispose()
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, and not at all if the block raises."""
        with self._transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one snapshot."""
        with self._transaction(self._reader) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        if self._is_closed:  # an engine that was disposed of would connect again, without the lock
            raise StoreUnavailableError("the store is closed")
        with sqlite.translated_errors(), engine.begin() as connection:
            yield connection

    @override
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        with self.writing() as connection:
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

    @override
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        with self.writing() as connection:
            return facts.claim_slot(connection, incarnation, now)

    @override
    def create_experiment(self, experiment: Experiment, now: datetime) -> ExperimentRecord:
        with self.writing() as connection:
            return experiments.create(connection, experiment, now)

    @override
    def find_experiment(self, name: str) -> ExperimentRecord | None:
        with self.reading() as connection:
            return experiments.find(connection, name)

    @override
    def list_experiments(self, after: str, limit: int, state: State | None = None) -> list[ExperimentRecord]:
        with self.reading() as connection:
            return experiments.list_page(connection, after, limit, state)

    @override
    def change_experiment(
        self, before: ExperimentRecord, after: ExperimentRecord, epoch: Epoch | None = None
    ) -> ExperimentRecord:
        with self.writing() as connection:
            record = experiments.change(connection, before, after)
            if epoch is not None:
                try:
                    epochs.add(connection, replace(epoch, revision=record.revision))
                except IntegrityError:
                    raise StaleRevisionError(before.name) from None
            return record

    @override
    def delete_experiment(self, before: ExperimentRecord, now: datetime) -> None:
        with self.writing() as connection:
            experiments.delete(connection, before, now)

    @override
    def load_changes(self, since: int | None) -> Changes:
        with self.reading() as connection:
            return experiments.load_changes(connection, since)

    @override
    def add_epoch(self, epoch: Epoch) -> Epoch | None:
        with self.writing() as connection:
            standing = epochs.find(connection, epoch.experiment, epoch.segment, epoch.number)
            if standing is not None:
                return standing
            if not experiments.touch(connection, epoch.experiment, epoch.revision):
                return None
            epochs.add(connection, epoch)
            return epoch

    @override
    def read_nonces(self, experiment: int) -> Mapping[tuple[int, int], int]:
        with self.reading() as connection:
            return epochs.read_nonces(connection, experiment)

    @override
    def read_facts(self, experiment: int) -> ExperimentFacts | None:
        with self.reading() as connection:
            record = experiments.find_by_number(connection, experiment)
            if record is None:
                return None
            history = epochs.read_all(connection, experiment)
            return ExperimentFacts(record, history, facts.read(connection, experiment))

    @override
    def add_decisions(self, flush: Flush) -> None:
        with self.writing() as connection:
            facts.add_decisions(connection, flush)

    @override
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[Verdict]:
        with self.writing() as connection:
            verdicts, increments = self._log.record(connection, entries)
            facts.add_outcomes(connection, increments, slot)
        return verdicts

    @override
    def audit(self, progress: Progress) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        with self.reading() as connection:
            return _fold_whole_log(connection, progress), facts.sum_all(connection)

    @override
    def count_apart(self) -> int:
        with self.reading() as connection:
            return facts.count_apart(connection)

    @override
    def rebuild_outcomes(self, progress: Progress) -> int:
        with self.writing() as connection:
            folded = _fold_whole_log(connection, progress)
            facts.clear_outcomes(connection)
            facts.add_outcomes(connection, folded, slot=0)
            return len(folded)

    @override
    def check_integrity(self) -> Sequence[str]:
        try:
            with self.reading() as connection:
                found = list(connection.execute(text("PRAGMA integrity_check")).scalars())
        except StoreBrokenError as error:  # so damaged that the check itself can't go on
            return [str(error)]
        return [] if found == ["ok"] else found


def _fold_whole_log(connection: Connection, progress: Progress) -> dict[OutcomeKey, Tally]:
    folded: dict[OutcomeKey, Tally] = {}
    numbers = facts.logged_experiments(connection)
    for done, number in enumerate(numbers):
        progress(done, len(numbers))
        folded.update(facts.fold_log(connection, number))
    progress(len(numbers), len(numbers))
    return folded
