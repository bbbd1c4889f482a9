"""Experiments in SQL: one row each, and one row for each revision that ever was."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from bandit.experiment import Arm, Experiment
from bandit.metric import Metric
from bandit.validation import NAME_RULE
from server.store.columns.times import from_micros, to_micros
from server.store.declaration_json import DocumentError, document_of, from_document, new_keys
from server.store.dialect import Dialect
from server.store.errors import NameTakenError, OutdatedError, QuotaReachedError, StaleRevisionError
from server.store.records import (
    Action,
    Changes,
    EventKind,
    ExperimentRecord,
    LiveExperiment,
    NewEvent,
    State,
)
from server.store.tables import audit, events, gate
from server.store.tables.epochs import epochs_in_force
from server.store.tables.schema import configurations, experiments

FEATURE: Final = gate.Feature(f"names beyond {NAME_RULE}", "0.3.0", "0010")
"""Ids of arms and names of metrics that code before 0.3.0 serves, but refuses in every update."""

LAUNCH: Final = gate.Feature("launches", "0.3.0", "0014")
"""Code before 0.3.0 drops the plan and the state of a launch with its next change of the experiment."""
NEW_KEYS: Final = gate.Feature("signals, margins and shadows of metrics", "0.3.0", "0014")
"""Keys inside a metric, `is_signal`, `worse_by` and `is_shadow`, that code before 0.3.0 fails on."""
PRIORS: Final = gate.Feature("priors from other arms", "0.3.0", "0014")
"""The key `prior_from` inside an arm, that code before 0.3.0 fails on."""

_BATCH: Final = 500
_OLD_NAME: Final = re.compile(NAME_RULE, re.ASCII)
_ACTIONS: Final = {
    State.RUNNING: Action.START,
    State.PAUSED: Action.PAUSE,
    State.CONCLUDED: Action.CONCLUDE,
    State.DRAFT: Action.UPDATE,
}
_KINDS: Final = {
    State.RUNNING: EventKind.STARTED,
    State.PAUSED: EventKind.PAUSED,
    State.CONCLUDED: EventKind.CONCLUDED,
    State.DRAFT: EventKind.UPDATED,
}
_IS_PRESENT: Final = experiments.c.deleted_at.is_(None)


def create(
    connection: Connection, experiment: Experiment, now: datetime, version: ColumnElement[int], caller: str
) -> ExperimentRecord:
    """Store a draft, and that `caller` made it; NameTakenError if the name is or was in use."""
    record = ExperimentRecord.draft(experiment, now)
    values = _to_values(record) | {"name": experiment.name, "created_at": to_micros(now)}
    try:
        number = connection.execute(
            insert(experiments).values(**values, version=version).returning(experiments.c.number)
        ).scalar_one()
    except IntegrityError:
        raise NameTakenError(experiment.name) from None
    record = replace(record, number=number)
    _keep_revision(connection, record)
    _audit(connection, now, caller, None, record)
    made = NewEvent(kind=EventKind.CREATED, actor=caller)
    events.append(connection, number, [made], version, at=now, revision=record.revision)
    return record


def require_room(connection: Connection, namespace: str, most: int) -> None:
    """Raise QuotaReachedError if as many experiments as there may be, or more, are in a namespace."""
    name = experiments.c.name
    is_inside = audit.is_within(name, namespace) if namespace else ~name.contains("/")
    some = select(experiments.c.number).where(is_inside, _IS_PRESENT).limit(most).subquery()
    if connection.execute(select(func.count()).select_from(some)).scalar_one() >= most:
        raise QuotaReachedError(namespace, most)


def require_readable(connection: Connection, dialect: Dialect, experiment: Experiment, now: datetime) -> None:
    """Raise OlderServersError if a live server refuses or can't read an experiment that is to be stored."""
    names = (*(arm.id for arm in experiment.arms), *(metric.name for metric in experiment.metrics))
    if not all(map(_OLD_NAME.fullmatch, names)):
        gate.require_feature(connection, dialect, FEATURE, now)
    if any(new_keys(metric, Metric) for metric in experiment.metrics):
        gate.require_feature(connection, dialect, NEW_KEYS, now)
    if any(new_keys(arm, Arm) for arm in experiment.arms):
        gate.require_feature(connection, dialect, PRIORS, now)
    if experiment.launch is not None:
        gate.require_feature(connection, dialect, LAUNCH, now)


def find_created(connection: Connection, experiment: Experiment, now: datetime) -> ExperimentRecord | None:
    """The experiment, if it is as `create` with these arguments leaves it."""
    found = find(connection, experiment.name)
    if found is None or found != replace(ExperimentRecord.draft(experiment, now), number=found.number):
        return None
    return found


def find(connection: Connection, name: str) -> ExperimentRecord | None:
    """The experiment of this name, if there is one."""
    row = connection.execute(select(experiments).where(experiments.c.name == name, _IS_PRESENT)).one_or_none()
    return None if row is None else _to_record(row)


def has_name(connection: Connection, name: str) -> bool:
    """Whether an experiment has or had this name."""
    return (
        connection.execute(select(experiments.c.number).where(experiments.c.name == name)).first() is not None
    )


def find_by_number(connection: Connection, number: int) -> ExperimentRecord | None:
    """The experiment of this number, if there is one."""
    query = select(experiments).where(experiments.c.number == number, _IS_PRESENT)
    row = connection.execute(query).one_or_none()
    return None if row is None else _to_record(row)


def list_page(
    connection: Connection,
    after: str,
    limit: int,
    state: State | None,
    namespaces: Collection[str] | None,
) -> list[ExperimentRecord]:
    """At most `limit` experiments in the order of names; see `Store.list_experiments`."""
    query = select(experiments).where(experiments.c.name > after, _IS_PRESENT)
    query = audit.within(query, experiments.c.name, namespaces)
    if state is not None:
        query = query.where(experiments.c.state == state)
    return list(_to_records(connection.execute(query.order_by(experiments.c.name).limit(limit)), {}))


def change(
    connection: Connection,
    before: ExperimentRecord,
    after: ExperimentRecord,
    version: ColumnElement[int],
    caller: str,
    *,
    happened: Sequence[NewEvent] = (),
    epoch: int | None = None,
) -> ExperimentRecord:
    """Store `after` with the next revision, that `caller` changed it, and what happened with that.

    StaleRevisionError unless `before` is what is stored; OutdatedError if this code knows it only in
    part, and would lose the rest.
    """
    if before.unknown:
        raise OutdatedError(
            f"experiment {before.name!r} was declared by a newer release, and this server does not know "
            f"{', '.join(before.unknown)}: send the change to a server of the newer release"
        )
    record = replace(after, revision=before.revision + 1)
    _update_one(connection, before, _to_values(record), version)
    _keep_revision(connection, record)
    _audit(connection, record.updated_at, caller, before, record)
    events.append(
        connection,
        record.number,
        _events(before, record, caller, happened),
        version,
        at=record.updated_at,
        revision=record.revision,
        epoch=epoch,
    )
    return record


def find_changed(
    connection: Connection, before: ExperimentRecord, after: ExperimentRecord
) -> ExperimentRecord | None:
    """The experiment, if it is as `change` with these arguments leaves it.

    Waits for a transaction that is changing it: that may be the one whose end is in doubt.
    """
    _lock(connection, before.number)
    found = find_by_number(connection, before.number)
    return found if found == replace(after, revision=before.revision + 1) else None


def delete(
    connection: Connection, before: ExperimentRecord, now: datetime, version: ColumnElement[int], caller: str
) -> None:
    """Hide the experiment, and keep who did; StaleRevisionError unless `before` is what is stored."""
    _update_one(connection, before, {"deleted_at": to_micros(now), "revision": before.revision + 1}, version)
    _audit(connection, now, caller, before, None)
    gone = NewEvent(kind=EventKind.DELETED, actor=caller)
    events.append(connection, before.number, [gone], version, at=now, revision=before.revision + 1)


def is_deleted(connection: Connection, before: ExperimentRecord, now: datetime) -> bool:
    """Whether the experiment is as `delete` with these arguments leaves it. Waits as `find_changed`."""
    _lock(connection, before.number)
    query = select(experiments.c.revision, experiments.c.deleted_at)
    row = connection.execute(query.where(experiments.c.number == before.number)).one_or_none()
    return row is not None and tuple(row) == (before.revision + 1, to_micros(now))


def is_at(connection: Connection, record: ExperimentRecord) -> bool:
    """Whether an experiment is at this revision still, and was not deleted."""
    query = select(experiments.c.revision).where(experiments.c.number == record.number, _IS_PRESENT)
    return connection.execute(query).scalar() == record.revision


def touch(connection: Connection, number: int, revision: int, version: ColumnElement[int]) -> bool:
    """Give an experiment the newest version; False if it is no longer running at this revision.

    Until the transaction ends, no other one changes the experiment or begins an epoch of it.
    """
    result = connection.execute(
        update(experiments)
        .where(
            experiments.c.number == number,
            experiments.c.revision == revision,
            experiments.c.state == State.RUNNING,
            _IS_PRESENT,
        )
        .values(version=version)
    )
    return result.rowcount == 1


def read_declarations(connection: Connection, number: int) -> list[Experiment]:
    """Every declaration under which the experiment has run, oldest first."""
    query = select(configurations.c.document).where(
        configurations.c.experiment == number, configurations.c.state == State.RUNNING
    )
    documents = connection.scalars(query.order_by(configurations.c.revision))
    return [from_document(document).experiment for document in documents]


def load_changes(connection: Connection, since: int | None, watermark: int) -> Changes:
    """Experiments of the version `since` or a later one, with their epochs in force."""
    rows = connection.execute(select(experiments).where(experiments.c.version >= (since or 0))).all()
    unreadable: dict[int, str] = {}
    records = list(_to_records((row for row in rows if row.deleted_at is None), unreadable))
    in_force = {}
    for start in range(0, len(records), _BATCH):
        numbers = [record.number for record in records[start : start + _BATCH]]
        in_force.update(epochs_in_force(connection, numbers))
    return Changes(
        live=tuple(LiveExperiment(record, in_force.get(record.number)) for record in records),
        deleted=frozenset(row.number for row in rows if row.deleted_at is not None),
        watermark=watermark,
        unreadable=unreadable,
    )


def _lock(connection: Connection, number: int) -> None:
    """Keep others from changing an experiment until the transaction ends; wait for one that does."""
    connection.execute(select(experiments.c.number).where(experiments.c.number == number).with_for_update())


def _update_one(
    connection: Connection, before: ExperimentRecord, values: dict[str, Any], version: ColumnElement[int]
) -> None:
    result = connection.execute(
        update(experiments)
        .where(experiments.c.number == before.number, experiments.c.revision == before.revision, _IS_PRESENT)
        .values(**values, version=version)
    )
    if result.rowcount != 1:
        raise StaleRevisionError(before.name)


def _keep_revision(connection: Connection, record: ExperimentRecord) -> None:
    gate.require_current(connection)
    connection.execute(
        insert(configurations).values(
            experiment=record.number,
            revision=record.revision,
            state=record.state,
            document=document_of(record),
            created_at=to_micros(record.updated_at),
            format=gate.FORMAT,
        )
    )


def _audit(
    connection: Connection,
    now: datetime,
    caller: str,
    before: ExperimentRecord | None,
    after: ExperimentRecord | None,
) -> None:
    """Keep who changed an experiment; None is what it was before it was made, or is once deleted."""
    (name,) = {record.name for record in (before, after) if record is not None}
    audit.write(
        connection,
        now,
        caller,
        _action(before, after),
        experiment=name,
        before=None if before is None else _describe(before),
        after=None if after is None else _describe(after),
    )


def _action(before: ExperimentRecord | None, after: ExperimentRecord | None) -> Action:
    if before is None:
        return Action.CREATE
    if after is None:
        return Action.DELETE
    return Action.UPDATE if after.state is before.state else _ACTIONS[after.state]


def _events(
    before: ExperimentRecord, after: ExperimentRecord, caller: str, happened: Sequence[NewEvent]
) -> Sequence[NewEvent]:
    """Return the events of a change: that of its state first, if it has another."""
    if after.state is before.state:
        return happened or [NewEvent(kind=EventKind.UPDATED, actor=caller)]
    return [NewEvent(kind=_KINDS[after.state], arm=after.winner, actor=caller), *happened]


def _describe(record: ExperimentRecord) -> str:
    """An experiment as the audit holds it: state, revision, and the document of its declaration."""
    return f'{{"state":"{record.state}","revision":{record.revision},"declaration":{document_of(record)}}}'


def _to_values(record: ExperimentRecord) -> dict[str, Any]:
    return {
        "state": record.state,
        "revision": record.revision,
        "document": document_of(record),
        "updated_at": to_micros(record.updated_at),
        "started_at": to_micros(record.started_at),
        "concluded_at": to_micros(record.concluded_at),
    }


def _to_records(rows: Iterable[Row[Any]], unreadable: dict[int, str]) -> Iterator[ExperimentRecord]:
    """The experiments that can be read; the numbers and names of the others are noted."""
    for row in rows:
        try:
            yield _to_record(row)
        except DocumentError:
            unreadable[row.number] = row.name


def _to_record(row: Row[Any]) -> ExperimentRecord:
    declaration = from_document(row.document)
    return ExperimentRecord(
        number=row.number,
        experiment=declaration.experiment,
        state=State(row.state),
        revision=row.revision,
        arm_numbers=declaration.arm_numbers,
        metric_numbers=declaration.metric_numbers,
        winner=declaration.winner,
        launch=declaration.launch,
        taken_priors=declaration.taken_priors,
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
        started_at=from_micros(row.started_at),
        concluded_at=from_micros(row.concluded_at),
        unknown=declaration.unknown,
    )
