"""The rows that evidence reads, so that a notebook can repeat a report's figures."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from bandit.experiment import SEGMENT_ALL, AnalysisUnit
from bandit.facts.grid import FactGrid
from bandit.inference.data.table import EvidenceTable, closed_table
from bandit.metric import Metric
from server.services.exports.tables import Row
from server.store.records import History


def evidence_rows(history: History, lag: timedelta, now: datetime) -> Iterator[Row]:
    """Yield a row for each metric, row of evidence and arm; metrics without evidence have none."""
    record = history.found.record
    epochs = [epoch for epoch in history.found.epochs if epoch.segment == SEGMENT_ALL]
    counts_units = record.experiment.analysis_unit is AnalysisUnit.UNIT
    facts = history.units.facts if counts_units else history.found.facts
    arms = sorted(set(record.arm_numbers.values()).union(*(epoch.shares for epoch in epochs)))
    grid = FactGrid(facts, epochs, arms, splits_first=True)
    names = {number: arm_id for arm_id, number in record.arm_numbers.items()}
    for metric in record.experiment.metrics:
        table = closed_table(grid, (record.metric_numbers[metric.name], metric), lag, now)
        if isinstance(table, EvidenceTable):
            yield from _of_metric(table, metric, grid, names)


def _of_metric(table: EvidenceTable, metric: Metric, grid: FactGrid, names: dict[int, str]) -> Iterator[Row]:
    centres, width = table.centres, metric.maximum - metric.minimum
    n_parts = grid.rows_of(1)
    totals = metric.minimum * table.n + width * table.sums
    squares = metric.minimum**2 * table.n + 2 * metric.minimum * width * table.sums + width**2 * table.squares
    for row in range(len(table.shares)):
        is_part = n_parts > 1 and row < n_parts
        epoch = grid.epochs[0 if is_part else row - n_parts + 1].number
        has_centre = centres.n_before[row] > 0
        for column, arm in enumerate(table.arms):
            yield (
                row + 1,
                epoch,
                row + 1 if is_part else None,
                names.get(arm),
                metric.name,
                float(table.shares[row, column]),
                int(table.n[row, column]),
                float(totals[row, column]),
                float(squares[row, column]),
                table.scale.to_value(float(centres.pooled[row])) if has_centre else None,
                table.scale.to_value(float(centres.of_arms[row, column])) if has_centre else None,
                bool(centres.is_tested[row]),
            )
