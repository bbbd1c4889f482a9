"""The exporter: writes one table after the other from one database snapshot, and publishes all together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, assert_never

from server.services.exports.errors import ExportError
from server.services.exports.evidence_rows import evidence_rows
from server.services.exports.manifest import ExportReport, WrittenTable, manifest_of
from server.services.exports.resolved_history import ResolvedHistory
from server.services.exports.rows import RewardRows, epoch_rows, fact_rows
from server.services.exports.staging import Staging, staging
from server.services.exports.tables import EVIDENCE, FACTS, REWARDS, Column, Row, TableName, epochs_columns
from server.services.exports.targets import Target
from server.services.exports.writers import open_writer, require_format, write_json
from server.store.contract import Store
from server.store.records import History, Progress
from server.suggestions import did_you_mean

_Item = TypeVar("_Item")
_BATCH: Final = 32_768
"""Rows in memory at a time, and in a row group of Parquet."""


def export(
    store: Store,
    name: str,
    target: Target,
    *,
    lag: timedelta,
    now: datetime,
    may_replace: bool,
    progress: Progress,
) -> ExportReport:
    """Write an experiment's tables; either all of them appear or none.

    Args:
        store: Has the experiment.
        name: Its name.
        target: The files.
        lag: How long a replica may go on with an epoch after its end.
        now: The present, taken before the snapshot.
        may_replace: Whether existing files may be replaced.
        progress: Called with how much of the reward log is written.

    Raises:
        ExportError: The files can't be written, there is no such experiment, or it never ran.
    """
    require_format(target.file_format)
    with store.read_history(name) as history:
        if history is None:
            raise ExportError(_unknown(store, name))
        if not history.found.epochs:
            raise ExportError(f"{name} has never run: it has no epoch, and so no decision to export")
        with staging(target.every_path, may_replace=may_replace) as files:
            return _Exporter(history, target, files, lag, now, progress).write()


class _Exporter:
    """The work of one export, inside its snapshot."""

    def __init__(
        self,
        history: History,
        target: Target,
        files: Staging,
        lag: timedelta,
        now: datetime,
        progress: Progress,
    ) -> None:
        self._history = history
        self._target = target
        self._files = files
        self._lag = lag
        self._now = now
        self._progress = progress
        self._resolved = ResolvedHistory(history.found, history.metrics, lag, now)
        self._rewards = RewardRows(self._resolved)

    def write(self) -> ExportReport:
        """Write each table to its temporary file, then the manifest."""
        tables = tuple(self._write_table(name, path) for name, path in self._target.paths.items())
        report = ExportReport(
            record=self._history.found.record,
            exported_at=self._now,
            tables=tables,
            notes=tuple(self._notes()),
        )
        if self._target.manifest is not None:
            with self._files.open(self._target.manifest) as file:
                write_json(file, manifest_of(report, self._history.metrics.values(), self._lag))
        return report

    def _write_table(self, name: TableName, path: Path) -> WrittenTable:
        columns = self._columns(name)
        n_rows = 0
        with (
            self._files.open(path) as file,
            closing(open_writer(self._target.file_format, file, columns)) as writer,
        ):
            for rows in self._batches(name):
                writer.write(rows)
                n_rows += len(rows)
        return WrittenTable(name, path, columns, n_rows)

    def _columns(self, name: TableName) -> tuple[Column, ...]:
        match name:
            case TableName.FACTS:
                return FACTS
            case TableName.EVIDENCE:
                return EVIDENCE
            case TableName.EPOCHS:
                return epochs_columns(metric.name for metric in self._history.metrics.values())
            case TableName.REWARDS:
                return REWARDS
            case _:
                assert_never(name)

    def _batches(self, name: TableName) -> Iterator[Sequence[Row]]:
        match name:
            case TableName.FACTS:
                return _batched(fact_rows(self._resolved))
            case TableName.EVIDENCE:
                return _batched(evidence_rows(self._history, self._lag, self._now))
            case TableName.EPOCHS:
                return _batched(epoch_rows(self._resolved))
            case TableName.REWARDS:
                return self._log_batches()
            case _:
                assert_never(name)

    def _log_batches(self) -> Iterator[Sequence[Row]]:
        n_total, n_done = self._resolved.outcome_counts.total(), 0
        self._progress(0, n_total)
        for outcomes in self._history.read_log(_BATCH):
            yield self._rewards.of(outcomes)
            n_done += len(outcomes)
            self._progress(n_done, max(n_total, n_done))

    def _notes(self) -> Iterator[str]:
        number = self._resolved.reward_metric
        metric, n_closed = self._resolved.metrics[number], len(self._resolved.closed[number])
        if metric.window is None:
            yield f"{metric.name} has no window: weighted means lean towards arms whose outcomes come sooner"
        else:
            n_epochs = len(self._resolved.epochs)
            yield f"{n_closed:,} of {n_epochs:,} epochs are closed for {metric.name}; weight only these"
        if TableName.REWARDS in self._target.paths:
            yield from self._log_notes()

    def _log_notes(self) -> Iterator[str]:
        if self._rewards.n_apart:
            n_apart = f"{self._rewards.n_apart:,}"
            yield f"{n_apart} rewards are kept apart and in no fact: their epochs are not those stored"
        counts = self._resolved.outcome_counts
        missing = counts - self._rewards.logged
        if missing:
            numbers = [key.number for key in missing]
            yield (
                f"{missing.total():,} of {counts.total():,} outcomes that the facts count are no longer in "
                f"the log: they belong to epochs {min(numbers)} to {max(numbers)}"
            )


def _batched(rows: Iterable[_Item]) -> Iterator[Sequence[_Item]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _unknown(store: Store, name: str) -> str:
    known = [record.name for record in store.list_experiments("", limit=1000)]
    return f"there is no experiment {name!r}{did_you_mean(name, known)}"
