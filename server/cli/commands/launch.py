"""`bandit-server launch`: where challengers are, and the verbs that move one."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from bandit.client import BanditClient
from bandit.v1.launch_pb2 import ArmLaunch, ArmLaunchState, Launch
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import local_time, print_json
from server.cli.framework.help import Group
from server.printing import printable
from server.wording import percent

_Command = TypeVar("_Command", bound=Callable[..., Any])
_INDENT: Final = "  "


@click.group(cls=Group)
def launch() -> None:
    """Show and move the challengers of a launch.

    A challenger walks from stage to stage by itself; see `launch show` for where each is, what keeps it from
    moving, and what comes next. Every verb needs a reason, which stands in `bandit-server events`.
    """


def _verb_options(command: _Command) -> _Command:
    """Add what every verb takes."""
    for option in (
        json_option,
        server_option,
        click.option(
            "--validate-only", is_flag=True, help="Change nothing, and print the launch as it would be."
        ),
        click.option(
            "--request-id",
            default="",
            metavar="ID",
            help="Name the request: sent again with the same id, it moves nothing twice.",
        ),
        click.option(
            "--entry",
            type=click.IntRange(0),
            default=0,
            metavar="NUMBER",
            help="Only if the arm is still in this visit, as `launch show` numbers it.",
        ),
        click.option("--reason", required=True, metavar="TEXT", help="Why, for whoever reads the events."),
        click.option(
            "--arm", default="", help="The arm. Default: the only challenger that this can be about."
        ),
        click.argument("name"),
    ):
        command = option(command)
    return command


@launch.command()
@click.argument("name")
@server_option
@json_option
def show(name: str, server: str, *, as_json: bool) -> None:
    """Show where each challenger is, what keeps it from moving, and what comes next."""
    with connected(server) as client:
        found = client.experiments.launch(name)
    _print(found, as_json=as_json)


@launch.command()
@_verb_options
def approve(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Approve that a challenger leaves its step.

    Needs the role `approver`, which neither operators nor admins have.
    """
    _act(lambda client: client.experiments.approve(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def advance(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Take a challenger to its next step.

    Passes over the time and numbers that this step asks for, and notes which. It never passes over an
    approval, missing room, or a guardrail that shows harm.
    """
    _act(lambda client: client.experiments.advance(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def hold(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Keep a challenger where it is. A guardrail takes it out all the same."""
    _act(lambda client: client.experiments.hold(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def resume(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """End a person's hold."""
    _act(lambda client: client.experiments.resume(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def rollback(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Take a challenger's traffic away, at once.

    In its holdback a new champion gives back to the former one. Passes over every gate, and --entry.
    """
    _act(lambda client: client.experiments.rollback(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def promote(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Make a challenger of the bandit stage the champion, whatever the evidence.

    The former champion keeps the holdback, if the plan has one. It never passes over an approval, missing
    room, a guardrail that shows harm, or the holdback of an earlier promotion.
    """
    _act(lambda client: client.experiments.promote(name, **arguments), server, as_json=as_json)


@launch.command()
@_verb_options
def restart(name: str, server: str, *, as_json: bool, **arguments: Any) -> None:
    """Let an arm whose launch has ended wait for the first stage again, under the plan as it is now."""
    _act(lambda client: client.experiments.restart(name, **arguments), server, as_json=as_json)


def _act(call: Callable[[BanditClient], Launch], server: str, *, as_json: bool) -> None:
    with connected(server) as client:
        found = call(client)
    _print(found, as_json=as_json)


def _print(found: Launch, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if found.validated_only:
        click.echo("Nothing was changed. This is the launch as it would be:")
    click.echo(printable(found.sentence))
    for arm in found.arms:
        click.echo()
        for line in _arm_lines(arm):
            click.echo(printable(line))


def _arm_lines(arm: ArmLaunch) -> list[str]:
    """Return the lines about one arm, the first with its state."""
    where = arm.step or _state(arm)
    step = f", step {arm.step_number} of {arm.n_steps}" if arm.step_number else ""
    lines = [f"{arm.arm}: {where}{step}, share {percent(arm.share)} (visit {arm.entry})"]
    lines.append(f"{_INDENT}{arm.sentence}")
    lines += [f"{_INDENT}held: {hold.sentence}" for hold in arm.holds]
    for gate in arm.gates:
        until = f", earliest {local_time(gate.open_time)}" if gate.HasField("open_time") else ""
        lines.append(f"{_INDENT}{'open' if gate.is_open else 'closed'}: {gate.sentence}{until}")
    lines += [f"{_INDENT}evidence: {claim.sentence}" for claim in arm.claims]
    if arm.next:
        when = f", earliest {local_time(arm.next_time)}" if arm.HasField("next_time") else ""
        lines.append(f"{_INDENT}next: {arm.next}{when}")
    return lines


def _state(arm: ArmLaunch) -> str:
    """Return the state of an arm as people say it."""
    name = ArmLaunchState.Name(arm.state).removeprefix("ARM_LAUNCH_STATE_")
    return name.lower().replace("_", " ")
