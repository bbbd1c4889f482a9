"""The report of an export, and the manifest that describes its files to later readers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
        "evidence": _evidence(record),
        "tables": {table.name: _table(table) for table in report.tables},
        "notes": list(report.notes),
    }


def _evidence(record: ExperimentRecord) -> dict[str, object]:
    """Return how a report's figures follow from the table of evidence."""
    n_claims = 2 * max(len(record.arm_numbers) - 1, 1)
    return {
        "counts": record.experiment.analysis_unit,
        "part": "pi = share of the challenger / (its share + the champion's), in rows in which both have one",
        "mean": "sum((1 - pi) resolved_total) / sum((1 - pi) resolved) over the challenger's rows",
        "champion_then": "sum(pi resolved_total) / sum(pi resolved) over the champion's rows",
        "difference": "mean - champion_then",
        "p_value": f"min(1, {n_claims} / E), E the e-value now over the rows in order that are tested",
        "test": "centred odds for yes/no metrics, bounded scores for others: bandit.inference.compare",
        "level": f"E >= {n_claims} / 0.05, for findings and intervals alike",
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
        "role": metric.role,
        "worse_by": None if metric.worse_by is None else asdict(metric.worse_by),
    }


def _table(table: WrittenTable) -> dict[str, object]:
    return {
        "file": table.path.name,
        "rows": table.n_rows,
        "columns": [
            {"name": column.name, "kind": column.kind, "meaning": column.meaning} for column in table.columns
        ],
    }
