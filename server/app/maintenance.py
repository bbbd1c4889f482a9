"""Commands that work on the database directly, without a server."""

from datetime import timedelta
from pathlib import Path

from server.app.errors import startup_errors
from server.services import verification
from server.services.exports import exporter
from server.services.exports.manifest import ExportReport
from server.services.exports.targets import Target
from server.services.runtime.clock import Clock
from server.services.verification import RebuildReport, VerifyReport
from server.settings import SettingValues
from server.store.opening import open_reader, open_store
from server.store.records import Progress
from server.store.sqlite import backup
from server.store.sqlite.backup import Backup


def verify(settings: SettingValues, progress: Progress) -> VerifyReport:
    """Compare the reward log with the outcome facts; a server may be running.

    Raises:
        StartupError: The database can't be opened.
    """
    with startup_errors(settings):
        store = open_reader(settings.database, may_be_inexact=True)
        try:
            return verification.verify(store, progress)
        finally:
            store.close()


def rebuild(settings: SettingValues, progress: Progress) -> RebuildReport:
    """Rebuild the outcome facts from the reward log.

    Raises:
        StartupError: A server uses the database, or it can't be opened.
    """
    with startup_errors(settings):
        store = open_store(settings.database, may_migrate=False, may_be_inexact=True)
        try:
            return verification.rebuild(store, progress)
        finally:
            store.close()


def export(
    settings: SettingValues, name: str, target: Target, *, may_replace: bool, progress: Progress
) -> ExportReport:
    """Write an experiment's tables as files; a server may be running.

    Raises:
        StartupError: The database can't be opened or read.
        ExportError: The files can't be written, or there is nothing to export.
    """
    with startup_errors(settings):
        store = open_reader(settings.database)
        try:
            reading = store.read_clock(Clock().now(), timedelta())
            return exporter.export(
                store,
                name,
                target,
                lag=timedelta(seconds=settings.lag_seconds),
                now=max(reading.at, reading.record.mark or reading.at),
                may_replace=may_replace,
                progress=progress,
            )
        finally:
            store.close()


def back_up(settings: SettingValues, file: Path, progress: Progress, *, may_replace: bool) -> Backup:
    """Copy an SQLite database to a file; a server may be running.

    Raises:
        StartupError: The database can't be read, or the file can't be written.
    """
    with startup_errors(settings):
        return backup.back_up(settings.database, file, progress, may_replace=may_replace)
