"""`bandit-server backup`: a consistent copy of an SQLite file in use."""

from pathlib import Path

import click

from server.cli.framework.console import counted, say_done
from server.cli.framework.errors import CalledWronglyError, reporting
from server.cli.framework.help import Command
from server.cli.framework.named_file import NamedFile
from server.cli.framework.progress import progress_bar
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_values
from server.settings import SettingsError


@click.command(cls=Command)
@click.argument("file", type=NamedFile(dir_okay=False))
@setting_option("database", "URL")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@config_option
def backup(file: Path, config: Path | None, *, force: bool, **flags: object) -> None:
    """Copy an SQLite database, even while a server uses it.

    FILE is a snapshot of the database at the start of the command. When the command ends, the copy has passed
    an integrity check and is synced to disk. Only its owner can read it, because it holds the keys that sign
    decisions.

    To restore it, stop the server, delete the database's -wal and -shm files, replace the database with FILE,
    and start the server. The keys are then those of the copy: revoke again those revoked since.
    """
    with reporting(SettingsError, CalledWronglyError):
        settings = load_values(flags, config)
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    with reporting(app.StartupError), progress_bar("copying") as progress:
        made = app.back_up(settings, file, progress, may_replace=force)
    say_done(
        f"copied: {file}, {made.n_bytes / 1e6:,.1f} MB, {counted(made.n_outcomes, 'outcome')} in the log"
    )
