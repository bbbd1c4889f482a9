"""`bandit-server export`: an experiment's facts, epochs and reward log for a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.cli.framework.console import output_console
from server.cli.framework.errors import CalledWronglyError, reporting
from server.cli.framework.help import Command
from server.cli.framework.named_file import NamedFile
from server.cli.framework.progress import progress_bar
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_values
from server.services.exports.errors import ExportError
from server.services.exports.tables import TableName
from server.services.exports.targets import FileFormat, plan_target
from server.settings import SettingsError
from server.standard_streams import note_done

if TYPE_CHECKING:
    from server.services.exports.manifest import ExportReport
from server.cli.framework.tables import plain_table, print_table


@click.command(cls=Command)
@click.argument("experiment")
@click.argument("target", type=NamedFile())
@setting_option("database", "URL")
@setting_option("lag_seconds", "SECONDS")
@config_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice([each.value for each in FileFormat]),
    help="File format.  [default: from the ending of TARGET, else parquet]",
)
@click.option(
    "--table",
    "tables",
    type=click.Choice([each.value for each in TableName]),
    multiple=True,
    help="Table to write; repeat for more.  [default: all for a directory, facts for a file]",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def export(
    experiment: str,
    target: Path,
    file_format: str | None,
    tables: Sequence[str],
    config: Path | None,
    *,
    force: bool,
    **flags: object,
) -> None:
    """Write an experiment's facts, epochs and reward log as Parquet or CSV.

    TARGET is a directory, or a file ending in .parquet or .csv for one table. Reads one snapshot of the
    database, even while servers run; decisions of the last second may be missing.

    \b
    facts    a row per epoch, arm, basis and metric: propensity, decisions, sums, closed or not
    epochs   a row per epoch and arm: share, champion, start and end, posterior means
    rewards  a row per outcome of the log: decision, times, arm, propensity, value

    manifest.json, next to them, explains every column.
    """  # noqa: D301 - click reads the backslash
    with reporting(SettingsError, CalledWronglyError):
        settings = load_values(flags, config)
    with reporting(ExportError, CalledWronglyError):
        chosen = None if file_format is None else FileFormat(file_format)
        planned = plan_target(target, chosen, [TableName(table) for table in tables])
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    with reporting(app.StartupError), reporting(ExportError), progress_bar("exporting the log") as progress:
        report = app.export(settings, experiment, planned, may_replace=force, progress=progress)
    note_done(f"{target} is written")
    _show(report)


def _show(report: "ExportReport") -> None:
    table = plain_table()
    for heading in ("table", "file"):
        table.add_column(heading, overflow="fold")
    table.add_column("rows", justify="right")
    for written in report.tables:
        table.add_row(written.name, str(written.path), f"{written.n_rows:,}")
    print_table(output_console(), table)
    for note in report.notes:
        click.echo(f"note: {note}")
