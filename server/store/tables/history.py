"""One experiment whole, for an analyst: its epochs and facts, and its reward log in order of decisions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from bandit.metric import Metric
from server.store.columns.exact_sums import STEP_BITS, quanta_of
from server.store.declaration_json import from_document
from server.store.records import ExperimentFacts, ExperimentRecord, History, LoggedOutcome
from server.store.tables import epochs, experiments, facts, units
from server.store.tables.schema import configurations, rewards

_COLUMNS: Final = [rewards.c[name] for name in (*LoggedOutcome._fields, "quanta", "steps")]


def _read_log(
    connection: Connection, experiment: int, metrics: Mapping[int, Metric], n_rows: int
) -> Iterator[Sequence[LoggedOutcome]]:
    query = select(*_COLUMNS).where(rewards.c.experiment == experiment)
    ordered = query.order_by(rewards.c.decision, rewards.c.metric)
    result = connection.execute(ordered, execution_options={"yield_per": n_rows})
    for rows in result.partitions():
        yield [_to_outcome(row, metrics) for row in rows]


def _to_outcome(row: Row[Any], metrics: Mapping[int, Metric]) -> LoggedOutcome:
    """What a row says: the posted value if it is known, else that which its quanta stand for."""
    value, steps, quanta = row.value, row.steps, row.quanta
    if value is None or steps is None or quanta_of(steps) != quanta:
        metric = metrics[row.metric]
        value = metric.to_value(quanta << STEP_BITS if metric.is_real else quanta)
    return LoggedOutcome(
        row.decision,
        row.metric,
        row.epoch,
        row.segment,
        row.arm,
        row.basis,
        value,
        row.revision,
        bool(row.is_late),
        bool(row.is_apart),
        row.received_ms,
    )


def find(connection: Connection, name: str) -> History | None:
    """The history of the experiment of this name, if there is one."""
    record = experiments.find(connection, name)
    if record is None:
        return None
    metrics = _every_metric(connection, record)
    real = {number for number, metric in metrics.items() if metric.is_real}
    found = ExperimentFacts(
        record, epochs.read_all(connection, record.number), facts.read(connection, record.number, real)
    )
    read_log = partial(_read_log, connection, record.number, metrics)
    return History(found=found, metrics=metrics, units=units.read(connection, record), read_log=read_log)


def _every_metric(connection: Connection, record: ExperimentRecord) -> Mapping[int, Metric]:
    metrics = {record.metric_numbers[metric.name]: metric for metric in record.experiment.metrics}
    if len(metrics) == len(record.metric_numbers):
        return metrics
    revisions = (
        select(configurations.c.document)
        .where(configurations.c.experiment == record.number)
        .order_by(configurations.c.revision.desc())
    )
    for document in connection.execute(revisions).scalars():
        for metric in from_document(document).experiment.metrics:
            metrics.setdefault(record.metric_numbers[metric.name], metric)
    return metrics
