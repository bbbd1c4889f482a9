"""One experiment whole, for an analyst: its epochs and facts, and its reward log in order of decisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select

from bandit.metric import Metric
from server.store.declaration_json import from_document
from server.store.records import ExperimentFacts, ExperimentRecord
from server.store.tables import epochs, experiments, facts
from server.store.tables.exact_sums import STEP_BITS, quanta_of
from server.store.tables.schema import configurations, rewards


class LoggedOutcome(NamedTuple):
    """A row of the reward log.

    Attributes:
        decision: The decision's unique id, 16 bytes, ordered by time.
        metric: Number of the metric.
        epoch: Number of the decision's epoch.
        segment: Number of the decision's segment.
        arm: Number of the decision's arm.
        basis: What kind of decision it was.
        value: As it was posted last; where that is not known, what it counts as.
        revision: Of that value.
        is_late: Whether the first value came after the metric's window.
        is_apart: Whether it is kept apart and in no fact: its epoch is not the stored one of that number.
        received_ms: When the first value arrived, in milliseconds since 1970.
    """

    decision: bytes
    metric: int
    epoch: int
    segment: int
    arm: int
    basis: int
    value: float
    revision: int
    is_late: bool
    is_apart: bool
    received_ms: int


_COLUMNS: Final = [rewards.c[name] for name in (*LoggedOutcome._fields, "quanta", "steps")]


class History:
    """An experiment as one database snapshot has it; to be read inside the block that opened it.

    Args:
        connection: Inside the snapshot.
        found: The experiment with its epochs and facts.
        metrics: Metric number to metric.

    Attributes:
        found: The experiment with its epochs and facts.
        metrics: Metric number to metric, for every metric that there ever was: those no longer declared as
            they were declared last.
    """

    def __init__(self, connection: Connection, found: ExperimentFacts, metrics: Mapping[int, Metric]) -> None:
        self._connection = connection
        self.found = found
        self.metrics = metrics

    def read_log(self, n_rows: int) -> Iterator[Sequence[LoggedOutcome]]:
        """The reward log in the order of decisions and metrics, at most `n_rows` rows at a time."""
        query = select(*_COLUMNS).where(rewards.c.experiment == self.found.record.number)
        ordered = query.order_by(rewards.c.decision, rewards.c.metric)
        result = self._connection.execute(ordered, execution_options={"yield_per": n_rows})
        for rows in result.partitions():
            yield [self._outcome(row) for row in rows]

    def _outcome(self, row: Row[Any]) -> LoggedOutcome:
        """What a row says: the posted value if it is known, else that which its quanta stand for."""
        value, steps, quanta = row.value, row.steps, row.quanta
        if value is None or steps is None or quanta_of(steps) != quanta:
            metric = self.metrics[row.metric]
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
    return History(connection, found, metrics)


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
