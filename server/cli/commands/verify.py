"""`bandit-server verify` and `rebuild`: the reward log against what was counted from it."""

from collections.abc import Sequence
from pathlib import Path

import click

from server.cli.framework.console import counted, say_done
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting
from server.cli.framework.help import Command
from server.cli.framework.progress import progress_bar
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_values
from server.settings import SettingsError

_N_SHOWN = 50


@click.command(cls=Command)
@setting_option("database", "URL")
@config_option
def verify(config: Path | None, **flags: object) -> None:
    """Compare the reward log with the stored sums, exactly.

    Folds every logged outcome, adds the sealed sums of purged ones, and compares the result with the stored
    facts. These are whole numbers, so every difference is an error. The database's own integrity check comes
    first.

    Exit codes: 0 if everything agrees; 1 if anything differs, or the database is damaged or can't be opened;
    2 for invalid settings.
    """
    with reporting(SettingsError, CalledWronglyError):
        settings = load_values(flags, config)
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    with reporting(app.StartupError), progress_bar("folding the log") as progress:
        report = app.verify(settings, progress)
    for note in report.notes:
        click.echo(f"note: {note}")
    if not report.is_clean:
        raise CommandError(*_shown(report.differences))
    click.echo(
        f"clean: {counted(report.n_outcomes, 'outcome')} of {counted(report.n_experiments, 'experiment')} "
        f"{'adds' if report.n_outcomes == 1 else 'add'} up to exactly what is stored"
    )


@click.command(cls=Command)
@setting_option("database", "URL")
@config_option
def rebuild(config: Path | None, **flags: object) -> None:
    """Recount the outcomes from the reward log.

    Replaces the outcome sums by those of the log and the sealed sums of purged outcomes. Stop the server
    first. Decision counts are not in the log, and stay as they are.
    """
    with reporting(SettingsError, CalledWronglyError):
        settings = load_values(flags, config)
    from server import app  # noqa: PLC0415 - as above

    with reporting(app.StartupError), progress_bar("recounting") as progress:
        report = app.rebuild(settings, progress)
    for note in report.notes:
        click.echo(f"note: {note}")
    say_done(f"rebuilt: {counted(report.n_outcomes, 'outcome')} counted into {counted(report.n_rows, 'row')}")


def _shown(differences: Sequence[str]) -> list[str]:
    n_more = len(differences) - _N_SHOWN
    more = [f"and {n_more:,} more differences"] if n_more > 0 else []
    return [*differences[:_N_SHOWN], *more, "to recount, stop the server and run `bandit-server rebuild`"]
