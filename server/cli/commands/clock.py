"""`bandit-server clock`: the time that servers go by, and repairs after a wrong clock."""

import getpass
from pathlib import Path

import click

from server.cli.framework.console import counted, say_done
from server.cli.framework.errors import CalledWronglyError, reporting
from server.cli.framework.help import Command, Group
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_values
from server.settings import SettingsError, SettingValues

_LONGEST_CALLER = 127


@click.group(cls=Group)
def clock() -> None:
    """Show, accept and repair the time that servers go by.

    Works on the database, even while servers run; they follow at their next poll.
    """


@clock.command(cls=Command)
@setting_option("database", "URL")
@setting_option("trust_clock_after_seconds", "SECONDS")
@setting_option("clock_settle_seconds", "SECONDS")
@config_option
def show(config: Path | None, **flags: object) -> None:
    """Show the clock, what depends on it, and what to do."""
    settings = _load(flags, config)
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    with reporting(app.StartupError):
        for line in app.show_clock(settings):
            click.echo(line)


@clock.command(cls=Command)
@click.option("--reason", required=True, help="Why the clock is right; kept in the audit.")
@setting_option("database", "URL")
@config_option
def accept(config: Path | None, reason: str, **flags: object) -> None:
    """Accept the clock as it is now, even if time seems to go back.

    First compare it with a clock that you trust. On PostgreSQL the clock is the database's, on SQLite this
    machine's. Servers follow at their next poll.
    """
    settings = _load(flags, config)
    from server import app  # noqa: PLC0415 - as above

    with reporting(app.StartupError):
        at = app.accept_clock(settings, reason=reason, caller=_operator())
    say_done(f"accepted: it is {at:%Y-%m-%d %H:%M:%S} UTC; servers follow at their next poll")


@clock.command(cls=Command)
@click.option("--reason", default="", help="Why the repair is needed; kept in the audit.")
@setting_option("database", "URL")
@config_option
def repair(config: Path | None, reason: str, **flags: object) -> None:
    """Repair what a clock that was ahead left in the database.

    Lowers seals to how far the log is purged, so that open decisions and repeats are accepted again. Ends
    epochs that start in the future, so that experiments learn again. Moves the dates of keys, servers and
    experiments from the future to now. Run it once the clock is right.
    """
    settings = _load(flags, config)
    from server import app  # noqa: PLC0415 - as above

    with reporting(app.StartupError):
        done = app.repair_clock(settings, reason=reason, caller=_operator())
    say_done(
        f"repaired: {counted(done.n_seals, 'seal')} lowered, {counted(done.n_caps, 'experiment')} capped, "
        f"{counted(done.n_instants, 'instant')} brought back from the future"
    )


def _load(flags: dict[str, object], config: Path | None) -> SettingValues:
    with reporting(SettingsError, CalledWronglyError):
        return load_values(flags, config)


def _operator() -> str:
    """Return the name of the user who runs the command, for the audit."""
    try:
        return getpass.getuser()[:_LONGEST_CALLER] or "operator"
    except (OSError, KeyError):
        return "operator"
