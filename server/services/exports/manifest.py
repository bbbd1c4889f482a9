"""The report of an export, and the manifest that describes its files to later readers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bandit.metric import Metric
from server.services.exports.tables import Column, TableName
from server.store.records import ExperimentRecord


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """A table that was written.

    Attributes:
        name: Its name.
        path: Its file.
        columns: Its columns.
        n_rows: The number of rows.
    """

    name: TableName
    path: Path
    columns: tuple[Column, ...]
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """The result of an export.

    Attributes:
        record: The experiment.
        exported_at: The moment for which `is_closed` holds.
        tables: The tables, in order.
        notes: Data missing from the tables, and cautions for adding them up.
    """

    record: ExperimentRecord
    exported_at: datetime
    tables: tuple[WrittenTable, ...]
    notes: tuple[str, ...]


def manifest_of(report: ExportReport, metrics: Iterable[Metric], lag: timedelta) -> dict[str, object]:
    """Return the manifest as a JSON document.

    Args:
        report: The result of the export.
        metrics: Every metric that was ever declared.
        lag: How long a replica may go on with an epoch after its end.
    """
    record = report.record
    return {
        "experiment": record.name,
        "state": record.state,
        "revision": record.revision,
        "exported_at": report.exported_at.isoformat(),
        "lag_seconds": lag.total_seconds(),
        "champion": record.experiment.champion,
        "reward_metric": record.experiment.reward_metric,
        "arms": list(record.arm_numbers),
        "metrics": [_metric(metric) for metric in metrics],
        "tables": {table.name: _table(table) for table in report.tables},
        "notes": list(report.notes),
    }


def _metric(metric: Metric) -> dict[str, object]:
    return {
        "name": metric.name,
        "kind": metric.kind,
        "direction": metric.direction,
        "minimum": metric.minimum,
        "maximum": metric.maximum,
        "clip": metric.clip,
        "resolution": metric.resolution,
        "window_seconds": None if metric.window is None else metric.window.total_seconds(),
        "default_value": metric.default_value,
        "is_guardrail": metric.is_guardrail,
    }


def _table(table: WrittenTable) -> dict[str, object]:
    return {
        "file": table.path.name,
        "rows": table.n_rows,
        "columns": [
            {"name": column.name, "kind": column.kind, "meaning": column.meaning} for column in table.columns
        ],
    }
