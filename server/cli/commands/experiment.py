"""`bandit-server experiment`: the life of experiments, from the file to the winner."""

from typing import Final

import click

from bandit.decision_id import hash_unit
from bandit.v1.experiment_pb2 import STATE_DRAFT, Experiment, ListExperimentsResponse, Report
from server.cli.commands.apply import apply
from server.cli.experiment_file.example import EXAMPLE
from server.cli.experiment_file.file import format_experiment
from server.cli.experiment_file.resolution import resolutions
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import (
    local_time,
    output_console,
    print_json,
    say_done,
    state_name,
)
from server.cli.framework.errors import CalledWronglyError
from server.cli.framework.help import Group
from server.cli.framework.tables import plain_table, print_table
from server.cli.framework.unit_option import Unit
from server.printing import printable
from server.wording import percent

_TIMEOUT: Final = 120.0
"""Seconds. A report on many units takes a while."""


@click.group(cls=Group)
def experiment() -> None:
    """Create, change, run and list experiments.

    An experiment is one TOML file. It begins as a draft, runs and pauses as often as you like, and ends
    concluded.
    """


experiment.add_command(apply)


@experiment.command("list")
@server_option
@json_option
def list_experiments(server: str, *, as_json: bool) -> None:
    """List experiments by name."""
    with connected(server) as client:
        experiments = list(client.experiments.list())
    if as_json:
        print_json(ListExperimentsResponse(experiments=experiments))
    elif experiments:
        _print_list(experiments)
    else:
        click.echo("no experiments: begin with `bandit-server experiment example`")


@experiment.command()
@click.argument("name")
@server_option
@json_option
def show(name: str, server: str, *, as_json: bool) -> None:
    """Show an experiment as a file.

    Values that only the service sets are comments, so the output can be edited and applied.
    """
    with connected(server) as client:
        found = client.experiments.get(name)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join([*_comments(found), "", format_experiment(found)]))


@experiment.command()
@click.argument("name")
@server_option
def start(name: str, server: str) -> None:
    """Start a draft, or resume a paused experiment: shares decide."""
    with connected(server) as client:
        client.experiments.start(name)
    say_done(f"{name} is running")


@experiment.command()
@click.argument("name")
@server_option
def pause(name: str, server: str) -> None:
    """Pause an experiment: the champion answers until the next start."""
    with connected(server) as client:
        champion = client.experiments.pause(name).champion
    say_done(f"{name} is paused: {champion} answers")


@experiment.command()
@click.argument("name")
@click.option("--winner", required=True, metavar="ARM", help="Arm that answers from now on.")
@server_option
def conclude(name: str, winner: str, server: str) -> None:
    """Conclude an experiment for good: the winner answers."""
    with connected(server) as client:
        client.experiments.conclude(name, winner=winner)
    say_done(f"{name} is concluded: {winner} answers")


@experiment.command()
@click.argument("name")
@server_option
def delete(name: str, server: str) -> None:
    """Delete an experiment that is not running, for good.

    Its rewards are refused from then on, and its name can't be used again.
    """
    with connected(server) as client:
        client.experiments.delete(name)
    say_done(f"{name} is deleted")


@experiment.command()
@click.argument("name")
@click.argument("unit_name", metavar="UNIT", type=Unit())
@server_option
def unit(name: str, unit_name: str, server: str) -> None:
    """Tell whether a unit made too many of an experiment's decisions.

    Prints the unit's mark and group, by which reports name such units: UNIT itself is stored nowhere. It is
    what a backend sends in Choose, such as a user id.
    """
    if not unit_name:
        raise CalledWronglyError("UNIT is empty: a decision without a unit is in no group")
    with connected(server) as client:
        found = client.experiments.get(name)
        mark = hash_unit(bytes.fromhex(found.salt), unit_name.encode())
        is_draft = found.state == STATE_DRAFT
        report = Report() if is_draft else client.experiments.report(name, max_epochs=1, timeout=_TIMEOUT)
    click.echo(f"mark {mark.hex()}, group {mark[0]}")
    click.echo(f"{name} has not started" if is_draft else _weight(report, mark))


@experiment.command()
def example() -> None:
    """Print a complete experiment file, with every key explained."""
    click.echo(EXAMPLE, nl=False)


def _weight(report: Report, mark: bytes) -> str:
    """Return whether the report lists the unit with this mark, or its group."""
    for heavy in report.heavy_units:
        made = f"made {heavy.decisions:,} policy decisions, {percent(heavy.share)} of all"
        if heavy.mark == mark.hex():
            return f"heavy: it {made}, beginning with arm {heavy.arm}"
        if not heavy.mark and heavy.group == mark[0]:
            return f"perhaps heavy: its group {made}, of which most are one unit's"
    return "not heavy: the report does not list it"


def _print_list(experiments: list[Experiment]) -> None:
    table = plain_table()
    table.add_column("experiment", overflow="fold")
    table.add_column("state")
    table.add_column("answers", overflow="fold")
    for heading in ("arms", "epoch"):
        table.add_column(heading, justify="right")
    table.add_column("reward", overflow="fold")
    table.add_column("changed")
    for item in experiments:
        table.add_row(
            item.name,
            state_name(item.state),
            _answers(item),
            f"{len(item.arms):,}",
            f"{item.epoch.number:,}" if item.HasField("epoch") else "-",
            item.reward_metric,
            local_time(item.update_time),
        )
    print_table(output_console(), table)
    for item in experiments:
        if item.launch_status.sentence:
            click.echo(printable(f"{item.name}: {item.launch_status.sentence}"))


def _answers(item: Experiment) -> str:
    """Return what answers Choose: the kind of policy, or one arm."""
    match state_name(item.state):
        case "running":
            return (item.policy.WhichOneof("kind") or "a newer policy").replace("_", " ")
        case "paused":
            return item.champion
        case "concluded":
            return item.winner
        case _:
            return "nothing yet"


def _comments(item: Experiment) -> list[str]:
    lines = [f"# {item.name}: {state_name(item.state)}, changed {local_time(item.update_time)}"]
    if item.winner:
        lines.append(f"# winner: {item.winner}")
    if item.HasField("epoch"):
        lines.append(f"# epoch {item.epoch.number} since {local_time(item.epoch.start_time)}")
    return [*lines, *(f"# {sentence}" for sentence in resolutions(item.metrics))]
