"""Epochs, facts and the reward log in a SQL database; see `FactStore` for the contract."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import override

from bandit.experiment import AnalysisUnit
from bandit.facts import Epoch
from bandit.facts.shadow_pairs import ShadowFacts
from bandit.facts.units import SteeringFacts
from server.store.columns.times import to_micros
from server.store.contract.facts import FactStore
from server.store.records import (
    EpochKey,
    EpochTerms,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    History,
    ReportFacts,
    RewardEntry,
    RewardVerdict,
)
from server.store.sql_store.part import SqlPart
from server.store.tables import (
    ended_runs,
    epochs,
    experiments,
    facts,
    history,
    reward_batch,
    seals,
    shadows,
    units,
    writers,
)
from server.store.tables.launch import looks


class SqlFactStore(SqlPart, FactStore):
    """Keeps what was decided, and what came of it."""

    @override
    def add_epoch(self, epoch: Epoch) -> Epoch | None:
        def add(connection: Connection) -> Epoch | None:
            existing = epochs.find(connection, epoch.experiment, epoch.segment, epoch.number)
            if existing is not None:
                return existing
            # Others that would begin an epoch wait for the touched row, and look again after that.
            if not experiments.touch(connection, epoch.experiment, epoch.revision, self._dialect.version):
                return None
            return epochs.find_or_add(connection, epoch)

        return self._dialect.write(add)

    @override
    def find_epochs(self, wanted: Collection[EpochKey]) -> Mapping[EpochKey, EpochTerms]:
        return self._dialect.read(lambda c: epochs.find_terms(c, wanted))

    @override
    def read_facts(self, experiment: int, *, with_parts: bool = True) -> ExperimentFacts | None:
        def read(connection: Connection) -> ExperimentFacts | None:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else _facts_of(connection, record, with_parts=with_parts)

        return self._dialect.read(read)

    @override
    def read_steering(
        self, experiment: int, lag: timedelta, now: datetime
    ) -> Mapping[int, SteeringFacts] | None:
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else _steering_of(connection, record, lag, now)

    @override
    def read_report(
        self, name: str, lag: timedelta = timedelta(), now: datetime | None = None
    ) -> ReportFacts | None:
        # First in a short transaction, which soon notices a database that is away.
        if self._dialect.read(lambda c: experiments.find(c, name)) is None:
            return None
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find(connection, name)
            if record is None:
                return None
            found = _facts_of(connection, record)
            has_shadows = any(epoch.shadows for epoch in found.epochs)
            return ReportFacts(
                found=found,
                declarations=experiments.read_declarations(connection, record.number),
                units=units.read(connection, record),
                steering=None if now is None else _steering_of(connection, record, lag, now),
                looks=looks.read(connection, [record.number]).get(record.number, {}),
                n_old_runs=writers.count_old(connection, to_micros(record.started_at) or 0),
                shadows=shadows.read(connection, record, lag, now) if has_shadows and now else None,
            )

    @override
    def read_shadows(self, experiment: int, lag: timedelta, now: datetime) -> ShadowFacts | None:
        with self._dialect.reading(is_long=True) as connection:
            record = experiments.find_by_number(connection, experiment)
            return None if record is None else shadows.read(connection, record, lag, now)

    @override
    def add_decisions(self, flush: Flush) -> None:
        def add(connection: Connection) -> None:
            if writers.advance(connection, flush):
                facts.add_decisions(connection, self._dialect, flush)
                units.add_groups(connection, self._dialect, flush)
                units.add(connection, self._dialect, flush)

        self._dialect.write(add)

    @override
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[RewardVerdict]:
        def record(connection: Connection) -> list[RewardVerdict]:
            found = self._dialect.read_bounds(
                connection, sorted({entry.experiment for entry in entries}), ended_runs.runs_in(entries)
            )
            refusals = seals.find_refusals(entries, found)
            taken = [entry for entry, refusal in zip(entries, refusals, strict=True) if refusal is None]
            accepted = ended_runs.relabelled(connection, taken, found.ended)
            verdicts, increments = reward_batch.record(connection, self._dialect, accepted)
            facts.add_outcomes(connection, self._dialect, increments, slot)
            recorded = iter(verdicts)
            return [next(recorded) if refusal is None else refusal for refusal in refusals]

        return self._dialect.write(record)

    @override
    @contextmanager
    def read_history(self, name: str) -> Iterator[History | None]:
        with self._dialect.reading(is_long=True) as connection:
            yield history.find(connection, name)


def _facts_of(
    connection: Connection, record: ExperimentRecord, *, with_parts: bool = True
) -> ExperimentFacts:
    history = epochs.read_all(connection, record.number)
    found = facts.read(connection, record.number, record.real_metrics, with_parts=with_parts)
    return ExperimentFacts(record, history, found)


def _steering_of(
    connection: Connection, record: ExperimentRecord, lag: timedelta, now: datetime
) -> Mapping[int, SteeringFacts] | None:
    if record.experiment.analysis_unit is not AnalysisUnit.UNIT:
        return None
    return units.read_steering(connection, record, lag, now)
