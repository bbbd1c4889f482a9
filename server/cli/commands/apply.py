"""`bandit-server experiment apply`: prints how an experiment differs from its file, and applies it."""

from collections.abc import Iterable

import click
from rich.console import Console
from rich.text import Text

from bandit.client import BanditClient, ConflictError, NotFoundError
from bandit.hints import hints_on
from bandit.v1.experiment_pb2 import STATE_DRAFT, Experiment, Metric
from server.cli.experiment_file.difference import Change, changes
from server.cli.experiment_file.file import ExperimentFileError, file_label, read_experiment
from server.cli.experiment_file.resolution import resolutions
from server.cli.framework.connection import connected, server_option
from server.cli.framework.console import output_console, say_done
from server.cli.framework.errors import CommandError, reporting
from server.cli.framework.help import Command
from server.rpc.messages.experiment import to_experiment

_NO_SALT = bytes(16)
"""In place of a salt that is still to be drawn: no hint depends on it."""

_STYLES = {"+": "green", "-": "red", "~": "yellow"}


@click.command(cls=Command)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Check the file and print the difference; change nothing.")
@server_option
def apply(file: str, server: str, *, dry_run: bool) -> None:
    """Create or change the experiment that FILE describes.

    Prints the difference and applies it without asking; use --dry-run to look first. Keys that are missing
    from the file are set to their defaults. A running experiment takes a change with its next epoch. FILE can
    be - for standard input.
    """
    with reporting(ExperimentFileError):
        declared = read_experiment(file)
    console = output_console()
    with connected(server, file_label(file)) as client:
        current = _find(client, declared.name)
        if current is None:
            _create(client, declared, console, dry_run=dry_run)
        else:
            _update(client, declared, current, console, dry_run=dry_run)


def _find(client: BanditClient, name: str) -> Experiment | None:
    try:
        return client.experiments.get(name) if name else None
    except NotFoundError:
        return None


def _create(client: BanditClient, declared: Experiment, console: Console, *, dry_run: bool) -> None:
    valid = client.experiments.create(declared, validate_only=True)
    _print_changes(console, changes(Experiment(), declared))
    _note_resolutions(declared.metrics)
    _print_hints(hints_on(to_experiment(valid, _NO_SALT)))
    if dry_run:
        click.echo(f"{declared.name} would be created; nothing was changed")
        return
    client.experiments.create(declared)
    say_done(f"{declared.name} is created: start it with `bandit-server experiment start {declared.name}`")


def _update(
    client: BanditClient, declared: Experiment, current: Experiment, console: Console, *, dry_run: bool
) -> None:
    declared.etag = current.etag
    valid = client.experiments.update(declared, validate_only=True)
    difference = changes(current, valid)
    if not difference:
        click.echo(f"{declared.name} is unchanged")
        return
    _print_changes(console, difference)
    known = {metric.name for metric in current.metrics}
    _note_resolutions(metric for metric in declared.metrics if metric.name not in known)
    _warn_of_removed_arms(current, declared)
    _print_hints(_hints_on_known(client, valid, is_draft=current.state == STATE_DRAFT))
    if dry_run:
        click.echo(f"{declared.name} would be updated; nothing was changed")
        return
    try:
        client.experiments.update(declared)
    except ConflictError:
        raise CommandError(f"{declared.name} was changed by someone else meanwhile: apply again") from None
    say_done(f"{declared.name} is updated")


def _print_changes(console: Console, difference: list[Change]) -> None:
    width = max(len(change.path) for change in difference)
    for change in difference:
        line = f"{change.sign} {change.path:<{width}}  {change.text}"
        console.print(Text(line, style=_STYLES[change.sign]), soft_wrap=True)


def _note_resolutions(metrics: Iterable[Metric]) -> None:
    for sentence in resolutions(metrics):
        click.echo(f"note: {sentence}")


def _hints_on_known(client: BanditClient, declared: Experiment, *, is_draft: bool) -> list[str]:
    """Return hints on a declaration, and once it has started those that follow from what came in."""
    hints = hints_on(to_experiment(declared, _NO_SALT), has_started=not is_draft)
    if is_draft:
        return hints
    return list(dict.fromkeys([*hints, *client.experiments.report(declared.name, max_epochs=1).hints]))


def _print_hints(hints: Iterable[str]) -> None:
    for hint in hints:
        click.echo(f"hint: {hint}")


def _warn_of_removed_arms(current: Experiment, declared: Experiment) -> None:
    staying = {arm.id for arm in declared.arms}
    for arm in current.arms:
        if arm.id not in staying:
            click.echo(f"note: arm {arm.id} is removed: no more traffic, and its id can't be used again")
