"""Experiments in a SQL database; see `ExperimentStore` for the contract."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection
from typing_extensions import override

from bandit.experiment import Experiment
from bandit.facts import Epoch
from bandit.validation import namespace_of
from server.store.contract.experiments import ExperimentStore
from server.store.errors import StaleRevisionError
from server.store.records import (
    ANYONE,
    AuditEntry,
    Changes,
    ExperimentRecord,
    Lease,
    NewEvent,
    State,
    VerbRequest,
)
from server.store.sql_store.part import SqlPart
from server.store.tables import audit, epochs, experiments
from server.store.tables.launch import leases, requests


class SqlExperimentStore(SqlPart, ExperimentStore):
    """Keeps experiments, and the audit of who changed them."""

    @override
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE, *, quota: int | None = None
    ) -> ExperimentRecord:
        def create(connection: Connection) -> ExperimentRecord:
            if quota is not None:
                namespace = namespace_of(experiment.name)
                self._dialect.lock_name(connection, namespace)
                experiments.require_room(connection, namespace, quota)
            experiments.require_readable(connection, self._dialect, experiment, now)
            return experiments.create(connection, experiment, now, self._dialect.version, caller)

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
        request: VerbRequest | None = None,
        events: Sequence[NewEvent] = (),
        fence: Lease | None = None,
    ) -> ExperimentRecord:
        def change(connection: Connection) -> ExperimentRecord:
            if fence is not None:
                leases.require(connection, fence)
            experiments.require_readable(connection, self._dialect, after.experiment, after.updated_at)
            version = self._dialect.version
            number = None if epoch is None else epoch.number
            record = experiments.change(
                connection, before, after, version, caller, happened=events, epoch=number
            )
            if epoch is not None:
                wanted = replace(epoch, revision=record.revision)
                if epochs.find_or_add(connection, wanted) != wanted:
                    raise StaleRevisionError(before.name)
            if request is not None and not requests.keep(connection, request, record.updated_at):
                raise StaleRevisionError(before.name)
            return record

        return self._dialect.write(
            change, repeat=lambda c: experiments.find_changed(c, before, after) or change(c)
        )

    @override
    def delete_experiment(self, before: ExperimentRecord, now: datetime, caller: str = ANYONE) -> None:
        def delete(connection: Connection) -> None:
            experiments.delete(connection, before, now, self._dialect.version, caller)

        def delete_again(connection: Connection) -> None:
            if not experiments.is_deleted(connection, before, now):
                delete(connection)

        self._dialect.write(delete, repeat=delete_again)

    @override
    def load_changes(self, since: int | None) -> Changes:
        def load(connection: Connection) -> Changes:
            return experiments.load_changes(connection, since, self._dialect.read_watermark(connection))

        return self._dialect.read(load)

    @override
    def list_audit_entries(
        self,
        before: int | None,
        limit: int,
        experiment: str | None = None,
        namespaces: Collection[str] | None = None,
    ) -> list[AuditEntry]:
        return self._dialect.read(lambda c: audit.list_page(c, before, limit, experiment, namespaces))
