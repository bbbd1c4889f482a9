"""`bandit-server webhooks`: what webhooks have not taken, and another try."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from server.cli.framework.console import counted, in_local_zone, output_console, say_done, zone_text
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting
from server.cli.framework.help import Command, Group
from server.cli.framework.setting_options import config_option, setting_option
from server.cli.framework.settings_sources import load_values
from server.cli.framework.tables import plain_table, print_table
from server.printing import printable
from server.settings import SettingsError, SettingValues
from server.store.records import Delivery


@click.group(cls=Group)
def webhooks() -> None:
    """Show what webhooks have not taken, and send it again.

    Works on the database, even while servers run.
    """


@webhooks.command("list", cls=Command)
@click.option("--dead", is_flag=True, help="Only what was given up.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@setting_option("database", "URL")
@config_option
def list_(config: Path | None, *, dead: bool, as_json: bool, **flags: object) -> None:
    """List the events that an endpoint has not taken.

    Those that are waiting are tried again; those that are dead are not, unless you resend them. At most a
    thousand are listed.
    """
    settings = _load(flags, config)
    from server import app  # noqa: PLC0415 - takes a second; help and settings errors need not wait

    with reporting(app.StartupError):
        found = app.list_deliveries(settings, only_dead=dead)
    if as_json:
        click.echo(json.dumps({"deliveries": [_facts(each) for each in found]}, indent=2))
    elif found:
        _print_list(found)
    else:
        click.echo("nothing is dead" if dead else "every event was taken")


@webhooks.command(cls=Command)
@click.argument("endpoint")
@click.option("--experiment", metavar="NAME", help="Only events of this experiment.")
@click.option("--number", type=click.IntRange(1), metavar="N", help="Only the event of this number.")
@setting_option("database", "URL")
@config_option
def resend(
    endpoint: str, experiment: str | None, number: int | None, config: Path | None, **flags: object
) -> None:
    """Let servers send an endpoint's dead events again.

    Later events of the same experiment wait behind them until they are taken, or a day is over.
    """
    settings = _load(flags, config)
    from server import app  # noqa: PLC0415 - as above

    with reporting(app.StartupError):
        n_revived = app.resend_deliveries(settings, endpoint, experiment=experiment, sequence=number)
    if not n_revived:
        raise CommandError(
            f"endpoint {printable(endpoint)!r} has no such dead event: see `webhooks list --dead`"
        )
    say_done(f"{counted(n_revived, 'event')} will be sent again")


def _load(flags: dict[str, object], config: Path | None) -> SettingValues:
    with reporting(SettingsError, CalledWronglyError):
        return load_values(flags, config)


def _print_list(found: Sequence[Delivery]) -> None:
    table = plain_table()
    for heading in ("endpoint", "experiment"):
        table.add_column(heading, overflow="fold")
    table.add_column("event", justify="right")
    for heading in ("kind", "state"):
        table.add_column(heading)
    table.add_column("tries", justify="right")
    for heading in ("next", "last error"):
        table.add_column(heading, overflow="fold")
    for each in found:
        next_at = in_local_zone(each.next_at)
        table.add_row(
            each.endpoint,
            each.event.name,
            str(each.event.sequence),
            each.event.kind,
            str(each.state),
            str(each.attempts),
            f"{next_at:%m-%d %H:%M} {zone_text(next_at)}" if each.state == "waiting" else "-",
            printable(each.last_error or "-"),
        )
    print_table(output_console(), table)


def _facts(delivery: Delivery) -> dict[str, object]:
    return {
        "endpoint": delivery.endpoint,
        "experiment": delivery.event.name,
        "sequence": delivery.event.sequence,
        "kind": delivery.event.kind,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "queued_at": delivery.queued_at.isoformat(),
        "next_at": delivery.next_at.isoformat(),
        "last_error": delivery.last_error,
    }
