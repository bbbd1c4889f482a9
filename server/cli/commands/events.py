"""`bandit-server events`: what happened to an experiment, and what happens to it now."""

import json
from collections.abc import Iterator

import click
from google.protobuf import json_format

from bandit.client import BanditClient, UnavailableError
from bandit.v1.event_pb2 import Event
from server.cli.framework.connection import connected, explain, json_option, server_option
from server.cli.framework.console import local_second
from server.cli.framework.help import Command
from server.printing import printable

_STAGE = "stage"
_FOREVER = 10 * 365 * 86_400.0
_INTERRUPTED = 130


@click.command(cls=Command)
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until interrupted.")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    metavar="NUMBER",
    help="Only events with higher numbers.",
)
@server_option
@json_option
def events(name: str, after: int, server: str, *, follow: bool, as_json: bool) -> None:
    """Show what happened to an experiment, and follow it.

    One line an event, oldest first: when, number, what, which arm, who, and why. With --json, each line is an
    object. --follow goes on after a server has restarted, and repeats nothing. A deleted experiment keeps its
    events.
    """
    with connected(server) as client:
        try:
            for event in _watch(client, name, after, server) if follow else _list(client, name, after):
                click.echo(_to_json(event) if as_json else _line(event))
        except KeyboardInterrupt:
            click.get_current_context().exit(_INTERRUPTED)


def _list(client: BanditClient, name: str, after: int) -> Iterator[Event]:
    return client.experiments.list_events(name, after_sequence=after, page_size=1_000)


def _watch(client: BanditClient, name: str, after: int, server: str) -> Iterator[Event]:
    """Yield events without end; say so on standard error each time the server is lost."""
    cursor, patience = "", 0.0
    while True:
        try:
            for response in client.experiments.watch_events(
                name, cursor=cursor, after_sequence=after, patience=patience
            ):
                yield from response.events
                cursor, patience = response.cursor, 0.0
        except UnavailableError as error:
            if not cursor:
                raise
            click.echo(f"{explain(error, server)[0]}; trying again until it is back", err=True)
            patience = _FOREVER


def _line(event: Event) -> str:
    """Return one line, which fits 80 columns if arm, actor and reason are short."""
    to = event.figures.fields["to"].string_value if "to" in event.figures.fields else ""
    arm = f"{event.arm} to {to}" if event.kind == _STAGE and to else event.arm or "-"
    what = f"{event.kind:<11}  {arm}  {event.actor}"
    reason = f": {event.reason}" if event.reason else ""
    return f"{local_second(event.time)}  {event.sequence:>4}  {printable(what + reason)}"


def _to_json(event: Event) -> str:
    return json.dumps(
        {
            "experiment": event.experiment,
            "sequence": event.sequence,
            "time": event.time.ToJsonString(),
            "kind": event.kind,
            "arm": event.arm or None,
            "actor": event.actor,
            "request_id": event.request_id or None,
            "revision": event.revision,
            "epoch": event.epoch or None,
            "reason": event.reason,
            "figures": json_format.MessageToDict(event.figures),
        }
    )
